"""The training loop. Its order is fixed: batch, step, log, evaluate, checkpoint."""

import contextlib
import functools
import time
from collections.abc import Iterator
from pathlib import Path

import jax

from tx_jax.config import ExperimentConfig
from tx_jax.data.loader import read_ahead
from tx_jax.evaluation.evaluate import device_batch
from tx_jax.hosts import distributed
from tx_jax.hosts.stopping import Stopped, StopRequest
from tx_jax.hosts.watchdog import doing, telling, waited_for
from tx_jax.runs import metrics_log
from tx_jax.runs.best import Evaluations
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.metrics_log import MetricsLog
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.start import Start
from tx_jax.tasks.base import Batch, Task
from tx_jax.training import out_of_memory
from tx_jax.training.recorder import Recorder, due
from tx_jax.training.run import Display, Run, build
from tx_jax.training.step import dropout_key


def train(
    config: ExperimentConfig,
    task: Task,
    workdir: Path,
    display: Display,
    start_from: Start | None = None,
    stop: StopRequest | None = None,
) -> dict[str, float]:
    """Trains to `training.num_steps`, or until `training.patience` is over, from the newest checkpoint where the run
    directory has one.

    Of several processes all call this; process 0 keeps the run directory.

    Args:
      stop: one that was entered earlier, so that a signal before this counts too.

    Returns:
      The metrics of the last evaluation on held-out data.

    Raises:
      InputError: the configuration conflicts with that of the run it would continue, every checkpoint of it is
        damaged, or another process trains there.
      SaveFailed: a checkpoint could not be written; those before it are intact.
      Stopped: SIGTERM or Ctrl-C; the state is saved and the same call continues.
      NonFiniteLossError: more than `training.max_skipped_updates` steps in a row had a loss or gradient that is NaN or
        infinite; what was saved is finite.
      OutOfMemory: with what helps; what was saved is intact.
    """
    directory = RunDir(workdir)
    changes = distributed.agreed(lambda: directory.changes(config, task.data_fingerprint))
    training = config.training
    begun = False  # bad input that is found before leaves an earlier run's files as they are
    try:
        with (
            out_of_memory.explained(config, task.objective),
            _alone_in(directory),
            Checkpoints(
                directory.checkpoints,
                keep_last=training.keep_last,
                keep_best=training.keep_best,
                best_metric=training.best_metric,
            ) as checkpoints,
        ):
            run = build(config, task, checkpoints, start_from)
            start = int(run.state.step)
            distributed.agreed(lambda: directory.begin(config, task.tokenizer, task.data_fingerprint))
            begun = distributed.is_first()
            display.start(run, start, changes)
            with (
                telling(directory.failed),
                _open_log(workdir, start) as log,
                contextlib.nullcontext(stop) if stop else StopRequest() as stop,
                jax.set_mesh(run.mesh),
            ):
                notes = checkpoints.notes(start) if start else {}
                # It may be over since: a kill may have come between it and the next checkpoint.
                evaluated = distributed.agreed(lambda: metrics_log.evaluated(workdir, start))
                earlier = distributed.agreed(lambda: Evaluations.read(workdir, training.best_metric).items())
                evaluations = Evaluations(training.best_metric, earlier)
                recorder = Recorder(run, log, display, notes.get("skipped_in_a_row", 0), evaluations)
                due = "evaluation_due" in notes and not evaluated
                result = _loop(run, start, checkpoints, recorder, stop, evaluate_first=due)
    except Stopped:
        raise
    except BaseException as error:
        if begun:
            with contextlib.suppress(OSError):  # the disk may be full, and that the error
                directory.failed(f"{type(error).__name__}: {error}")
        raise
    if distributed.is_first():
        end = int(run.state.step)
        directory.done(
            f"step {end}" + (f": {training.best_metric} improved no more" if end < training.num_steps else "")
        )
    return result


@contextlib.contextmanager
def _alone_in(directory: RunDir) -> Iterator[None]:
    with distributed.on_first(directory.lock()):
        directory.check_shared()
        yield


def _open_log(workdir: Path, start: int) -> contextlib.AbstractContextManager[MetricsLog | None]:
    return MetricsLog(workdir, start_step=start) if distributed.is_first() else contextlib.nullcontext()


def _loop(
    run: Run,
    start: int,
    checkpoints: Checkpoints,
    recorder: Recorder,
    stop: StopRequest,
    *,
    evaluate_first: bool,
) -> dict[str, float]:
    training = run.config.training
    rng = dropout_key(run.config.seed)
    result: dict[str, float] = {}

    def evaluate_at(step: int) -> dict[str, float] | None:
        recorder.flush()
        if (values := run.evaluate(stop)) is not None:
            recorder.evaluation(step, values)
        return values

    if evaluate_first:  # the run was stopped while it evaluated
        result = evaluate_at(start)
        if result is None:
            raise Stopped(stop.name, start)
    out_of_patience = functools.partial(recorder.evaluations.out_of_patience, training.patience)
    for step, batch in () if out_of_patience() else _device_batches(run, start, recorder):
        first = run.phase_of(step).start == step - 1
        if first:
            recorder.flush()  # what is compiled now is no part of the speed of the steps before
        with doing("compiling the train step" if first or step == start + 1 else f"train step {step}"):
            run.state, metrics = run.train_step(run.state, batch, rng)
            recorder.later(step, metrics)  # reads the step before, while this one runs
        checkpoints.poll()  # a save that failed ends the run now, not at the next save
        last = step == training.num_steps
        evaluated, metrics_now = last or due(step, training.eval_every), None
        if evaluated:
            metrics_now = evaluate_at(step)
            result = metrics_now or result
            last = last or out_of_patience()
        unfinished = evaluated and metrics_now is None
        stopping = stop.due()
        if last or stopping or due(step, training.checkpoint_every):
            recorder.settle()  # a loss that is not finite is found before its state is saved
            notes = {"evaluation_due": 1} if unfinished else {}
            with doing(f"saving the checkpoint of step {step}"):
                checkpoints.save(run.state, metrics_now, skipped_in_a_row=recorder.skipped_in_a_row, **notes)
        if stopping and (unfinished or not last):
            with doing(f"saving the checkpoint of step {step}"):
                checkpoints.wait()
            raise Stopped(stop.name, step)
        if last:
            break
    if not result:  # the run was complete already
        result = run.evaluate(stop)
    return result


def _device_batches(run: Run, start: int, recorder: Recorder) -> Iterator[tuple[int, Batch]]:
    """(step, batch on the devices) from `start` to the end; `step` counts from 1, as finished steps do."""
    training = run.config.training
    batches = read_ahead(run.train_batches, start, training.num_steps, run.config.data.read_ahead)
    batches = waited_for(batches, training.stall_seconds)
    for step in range(start + 1, training.num_steps + 1):
        began = time.perf_counter()
        batch = next(batches)
        recorder.waited += time.perf_counter() - began
        yield step, device_batch(batch, run.mesh)

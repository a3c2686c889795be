"""The training loop. Its order is fixed: batch, step, log, evaluate, checkpoint."""

import contextlib
import dataclasses
import functools
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tx_jax.config import ExperimentConfig, to_dict
from tx_jax.data.loader import read_ahead
from tx_jax.evaluation.evaluate import device_batch
from tx_jax.hosts import distributed
from tx_jax.hosts.stopping import Stopped, StopRequest
from tx_jax.hosts.watchdog import doing, telling, waited_for
from tx_jax.nn.dropout import dropout_key
from tx_jax.runs import history, metrics_log
from tx_jax.runs.best import Evaluations
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.metrics_log import MetricsLog
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.start import Start
from tx_jax.runs.trackers import NO_TRACKERS, Tracking
from tx_jax.storage.failures import StoreError, StoreFailed
from tx_jax.tasks.base import Batch, Task
from tx_jax.training import out_of_memory
from tx_jax.training.goodput import TimeSpent
from tx_jax.training.profile import ProfiledSteps, Profiler
from tx_jax.training.recorder import Recorder, due
from tx_jax.training.run import Display, Run, build

_logger = logging.getLogger(__name__)


def train(
    config: ExperimentConfig,
    task: Task,
    workdir: Path,
    display: Display,
    start_from: Start | None = None,
    stop: StopRequest | None = None,
    *,
    profiled: ProfiledSteps | None = None,
    began: float | None = None,
    tracking: Tracking = NO_TRACKERS,
) -> dict[str, float]:
    """Trains to `training.num_steps`, or until `training.patience` is over, from the newest checkpoint where the run
    directory has one.

    All processes call this; process 0 writes the run directory.

    Args:
      stop: a StopRequest that was entered earlier, so that a signal before this call counts too.
      profiled: the steps to profile; process 0 writes the trace to WORKDIR/profile.
      began: `time.perf_counter()` when the time of this start began to count, if that was before this call.
      tracking: the trackers of process 0, which are begun if there are steps to train, and left open.

    Returns:
      The metrics of the last evaluation on held-out data.

    Raises:
      InputError: the configuration conflicts with that of the run it would continue, every checkpoint of it is
        damaged, or another process trains there.
      SaveFailed: a checkpoint could not be written; those before it are intact.
      StoreFailed: the object store of the run directory failed; what was saved is intact and the same call continues.
      Stopped: SIGTERM or Ctrl-C; the state is saved and the same call continues.
      NonFiniteLossError: more than `training.max_skipped_updates` steps in a row had a loss or gradient that is NaN or
        infinite; what was saved is finite.
      OutOfMemory: with what helps; what was saved is intact.
    """
    directory, spent = RunDir(workdir), TimeSpent(began)
    changes = distributed.agreed(lambda: directory.changes(config, task.data_fingerprint))
    begun = False  # until then an earlier run's files are kept: the input may be bad, or the run complete
    try:
        with (
            out_of_memory.explained(config, task.objective),
            _alone_in(directory),
            Checkpoints(directory.checkpoints, keep_last=config.training.keep_last) as checkpoints,
        ):
            run = build(config, task, checkpoints, start_from)
            run.spent = spent
            position = _position(run, workdir, checkpoints)
            start = position.start
            if not run.complete:
                more = {"attention": run.attention}
                distributed.agreed(lambda: directory.begin(config, task.tokenizer, task.data_fingerprint, start, more))
                if begun := distributed.is_first():
                    tracking.begin(workdir, to_dict(config))
            display.start(run, start, changes)
            with contextlib.nullcontext(stop) if stop else StopRequest() as stop, jax.set_mesh(run.mesh):
                if run.complete and not position.evaluation_due:
                    result = position.evaluation or _evaluated(run, start, stop)
                else:
                    with telling(directory.failed), _open_log(workdir, start, tracking) as log:
                        recorder = Recorder(run, log, display, position.evaluations, position.notes)
                        with Profiler(profiled, workdir, spent) as profiler:
                            due_first = position.evaluation_due
                            result = _loop(run, start, checkpoints, recorder, stop, profiler, evaluate_first=due_first)
    except Stopped as stopped:
        if begun:
            history.reached(workdir, stopped.step)
        raise
    except BaseException as error:
        if begun and isinstance(error, StoreError):
            raise StoreFailed(f"{error.filename}: {error.strerror}. Its checkpoints are intact") from error
        if begun and not isinstance(error, StoreFailed):  # a store that failed is not asked again, which takes minutes
            with contextlib.suppress(OSError):  # the disk may be full, and this may be the error
                directory.failed(f"{type(error).__name__}: {error}")
        raise
    if distributed.is_first():
        _end(run, directory, begun, as_before=not changes)
    return result


@dataclasses.dataclass(frozen=True)
class _Position:
    """Where a run continues, and what it knows of the way there.

    Attributes:
      notes: those of the checkpoint at step `start`.
      evaluation: the metrics of the evaluation after that step, if there was one.
    """

    start: int
    notes: dict[str, Any]
    evaluations: Evaluations
    evaluation: dict[str, float] | None

    @property
    def evaluation_due(self) -> bool:
        """Whether the run was stopped while it evaluated. The evaluation may be finished: a kill may have come between
        it and the next checkpoint."""
        return "evaluation_due" in self.notes and self.evaluation is None


def _position(run: Run, workdir: Path, checkpoints: Checkpoints) -> _Position:
    """Where the run continues. Also sets whether the run is complete."""
    start, training = int(run.state.step), run.config.training
    notes = checkpoints.notes(start) if start else {}
    known = distributed.agreed(lambda: Evaluations.read(workdir, training.best_metric, up_to=start).items())
    evaluations = Evaluations(training.best_metric, known)
    run.complete = start >= training.num_steps or evaluations.out_of_patience(training.patience)
    return _Position(start, notes, evaluations, distributed.agreed(lambda: metrics_log.evaluation(workdir, start)))


def _evaluated(run: Run, step: int, stop: StopRequest) -> dict[str, float]:
    """The metrics of the state at a step. Raises Stopped if a stop was requested."""
    if (values := run.evaluate(stop)) is None:
        raise Stopped(stop.name, step)
    return values


def _end(run: Run, directory: RunDir, begun: bool, *, as_before: bool) -> None:
    """Marks the run as done if this start trained; if it did not, only if the start that did was killed before it could
    mark it, and this one has the same configuration. Otherwise the run's files stay as they are."""
    end, training = int(run.state.step), run.config.training
    if begun:
        history.reached(directory.path, end)
    if begun or (as_before and not directory.is_done):
        no_more = f": {training.best_metric} no longer improved" if end < training.num_steps else ""
        directory.done(f"step {end}{no_more}")


@contextlib.contextmanager
def _alone_in(directory: RunDir) -> Iterator[None]:
    with distributed.on_first(directory.lock()):
        directory.check_shared()
        yield


def _open_log(workdir: Path, start: int, tracking: Tracking) -> contextlib.AbstractContextManager[MetricsLog | None]:
    if not distributed.is_first():
        return contextlib.nullcontext()
    return MetricsLog(workdir, start_step=start, tracking=tracking)


def _loop(
    run: Run,
    start: int,
    checkpoints: Checkpoints,
    recorder: Recorder,
    stop: StopRequest,
    profiler: Profiler,
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

    if evaluate_first:
        result = _evaluated(run, start, stop)
        recorder.evaluation(start, result)
    out_of_patience = functools.partial(recorder.evaluations.out_of_patience, training.patience)
    ended = run.complete or out_of_patience()
    compiled = set()  # the shapes of batches: those of translation have several
    for step, batch in () if ended else _device_batches(run, start, recorder):
        shapes = frozenset((name, x.shape) for name, x in batch.items())
        compiles = shapes not in compiled or run.phase_of(step).start == step - 1
        if compiles:
            recorder.flush()  # the compilation must not count in the speed of the previous steps
            recorder.compiled.add(step)
            compiled.add(shapes)
        if profiler.begins_at(step):
            recorder.flush()  # the step before must not be in the trace
            profiler.begin()
        with doing("compiling the train step" if compiles else f"train step {step}"):
            with run.spent.on("compiling") if compiles else contextlib.nullcontext():
                run.state, metrics = run.train_step(run.state, batch, rng)
            recorder.later(step, metrics)  # reads the previous step's metrics while this step runs
        if profiler.after(step, metrics):
            recorder.interrupted(step)
        checkpoints.poll()  # a save that failed ends the run now, not at the next save
        last = step == training.num_steps
        evaluated, metrics_now = last or due(step, training.eval_every), None
        if evaluated:
            metrics_now = evaluate_at(step)
            result = metrics_now or result
            if not last and out_of_patience():
                last = True
                _tell_why_it_ends(run, recorder.evaluations, step)
        unfinished = evaluated and metrics_now is None
        stopping = stop.due()
        if last or stopping or due(step, training.checkpoint_every):
            recorder.settle()  # finds a loss that is not finite before its state is saved
            notes = recorder.notes() | ({"evaluation_due": 1} if unfinished else {})
            best = recorder.evaluations.best_of(training.keep_best, [*checkpoints.steps(), step])
            with doing(f"saving the checkpoint of step {step}"), run.spent.on("saving"):
                checkpoints.save(run.state, keep=best, **notes)
        if last or stopping:
            with doing(f"saving the checkpoint of step {step}"), run.spent.on("saving"):
                checkpoints.wait()
        if stopping and (unfinished or not last):
            raise Stopped(stop.name, step)
        if last:
            break
    return result


def _tell_why_it_ends(run: Run, evaluations: Evaluations, step: int) -> None:
    training = run.config.training
    if distributed.is_first():
        best = evaluations.best([before for before, _ in evaluations.items()])
        _logger.info(
            f"step {step}: {training.best_metric} is best at step {best}, and was no better in training.patience="
            f"{training.patience} evaluations since: training ends"
        )


def _device_batches(run: Run, start: int, recorder: Recorder) -> Iterator[tuple[int, Batch]]:
    """(step, batch on the devices) from `start` to the end; `step` counts from 1, as finished steps do."""
    training = run.config.training
    batches = read_ahead(run.train_batches, start, training.num_steps, run.config.data.read_ahead)
    batches = waited_for(batches, training.stall_seconds)
    for step in range(start + 1, training.num_steps + 1):
        began = time.perf_counter()
        if step == start + 1:
            batch = next(batches)
            run.spent.started()
        else:
            with run.spent.on("waiting"):
                batch = next(batches)
        recorder.waited += time.perf_counter() - began
        yield step, device_batch(batch, run.mesh)

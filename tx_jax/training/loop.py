"""The training loop. Its order is fixed: batch, step, log, evaluate, checkpoint."""

import contextlib
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import jax

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.data.loader import BatchAt, PhasedBatches, read_ahead
from tx_jax.errors import InputError, did_you_mean
from tx_jax.tasks.base import Batch, Batches, Metrics, Task
from tx_jax.training import distributed, metrics_log, out_of_memory
from tx_jax.training.best import Evaluations
from tx_jax.training.checkpoint import Checkpoints
from tx_jax.training.evaluate import EvalStep, device_batch, evaluate, held_out, jit_eval_step, local_batches
from tx_jax.training.metrics_log import MetricsLog
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.run_dir import RunDir
from tx_jax.training.start import Start
from tx_jax.training.state import TrainState, abstract_state, init_state
from tx_jax.training.step import dropout_key, train_step
from tx_jax.training.stopping import Stopped, StopRequest
from tx_jax.training.throughput import model_flops_utilization
from tx_jax.training.watchdog import doing, telling, waited_for

TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


class Display(Protocol):
    """What shows a run to its user. The loop itself prints nothing."""

    def start(self, run: "Run", start_step: int, changes: list[str]) -> None: ...

    def train(self, step: int, values: dict[str, float]) -> None: ...

    def evaluation(self, step: int, values: dict[str, float]) -> None: ...


@dataclasses.dataclass
class Run:
    """Everything that the loop works with, built from a configuration.

    Attributes:
      fresh: of a run that starts from a model, the rooms of parameters that the model lacks.
    """

    config: ExperimentConfig
    task: Task
    mesh: jax.sharding.Mesh
    state: TrainState
    train_batches: BatchAt
    validation_batches: Batches
    train_step: TrainStep
    eval_step: EvalStep
    fresh: tuple[str, ...] = ()

    def phase_of(self, step: int) -> Phase:
        """The phase that the optimizer step with this number, from 1, belongs to."""
        return next(phase for phase in self.config.training_phases if step <= phase.stop)

    def tokens(self, start: int, stop: int) -> int:
        """Positions, padding included, of the batches of the steps start + 1 to stop."""
        return sum(
            phase.tokens_per_step * max(0, min(stop, phase.stop) - max(start, phase.start))
            for phase in self.config.training_phases
        )

    def evaluate(self, stop: StopRequest) -> dict[str, float] | None:
        """Metrics of the state on the first `training.eval_batches` held-out batches; None if it was asked to stop."""
        training = self.config.training
        batches = waited_for(held_out(self.validation_batches, training.eval_batches), training.stall_seconds)
        scores = functools.partial(self.task.scores, split="validation")
        with doing("evaluation"):
            return evaluate(self.eval_step, self.state.params, batches, self.mesh, scores, stopping=stop.due)


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is NaN or infinite; no such state was saved."""


def build(config: ExperimentConfig, task: Task, checkpoints: Checkpoints, start: Start | None = None) -> Run:
    """Compiles nothing yet; creates the state: from the newest checkpoint, or fresh but for what `start` gives.

    Raises:
      InputError: the mesh does not fit the devices or the batches, a split of the data has nothing to offer, or
        `training.best_metric` is none of the task's metrics.
    """
    mesh = sharding.make_mesh(config.mesh)
    check_batch_sizes(config, mesh)
    training = config.training
    train_batches = _train_batches(config, task, mesh)
    validation_batches = local_batches(task, "validation", mesh, batch_size=training.eval_batch_size, repeat=False)
    optimizer = Optimizer(config)
    fresh: tuple[str, ...] = ()
    if steps := distributed.agreed(checkpoints.steps):  # verified when they were opened
        state = checkpoints.restore(steps[-1], abstract_state(task, optimizer, mesh))
    else:
        state = init_state(task, optimizer, config.seed, mesh)
        if start is not None:
            params, fresh = start.fill(state.params)
            state = state.replace(params=params)
    evaluation = jit_eval_step(task, mesh)
    if training.keep_best or training.patience:
        with doing("waiting for data", limit=training.stall_seconds):
            batch = validation_batches.batch_at(0)
        metrics, _ = jax.eval_shape(evaluation, state.params, batch)
        names = {*metrics, *task.score_names}
        if training.best_metric not in names:
            known = ", ".join(sorted(names))
            raise InputError(
                f"training.best_metric={training.best_metric!r} is not among the metrics: {known}."
                + did_you_mean(training.best_metric, names)
            )
    step = jit_train_step(config, task, optimizer)
    return Run(config, task, mesh, state, train_batches, validation_batches, step, evaluation, fresh)


def check_batch_sizes(config: ExperimentConfig, mesh: jax.sharding.Mesh) -> None:
    """Raises InputError for a phase, held-out batches or a model that cannot be split evenly over the mesh."""
    sharding.check_divisible(mesh, config)
    group = "phases" if config.phases.steps and config.phases.batch_size else "training"
    for phase in config.training_phases:
        microbatch = phase.batch_size // config.training.accumulation_steps
        sharding.check_batch_size(mesh, f"{group}.batch_size / training.accumulation_steps", microbatch)
    sharding.check_batch_size(mesh, "training.eval_batch_size", config.training.eval_batch_size)


def _train_batches(config: ExperimentConfig, task: Task, mesh: jax.sharding.Mesh) -> BatchAt:
    """Of all phases. Raises InputError for a phase that does not fit the data, before any begins."""
    phases = config.training_phases
    parts = [
        local_batches(task, "train", mesh, batch_size=phase.batch_size, repeat=True, phase=phase) for phase in phases
    ]
    return PhasedBatches([phase.start for phase in phases], parts)


def jit_train_step(config: ExperimentConfig, task: Task, optimizer: Optimizer) -> TrainStep:
    """`step.train_step` with everything but its arrays filled in; the state that it takes is donated. It is compiled
    for each shape of batch that it meets: once a phase at most."""
    step = functools.partial(
        train_step,
        task=task,
        optimizer=optimizer,
        accumulation_steps=config.training.accumulation_steps,
    )
    return jax.jit(step, donate_argnums=0)


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
            out_of_memory.explained(config, task),
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
                recorder = _Recorder(run, log, display, notes.get("skipped_in_a_row", 0), evaluations)
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
    recorder: "_Recorder",
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
    hopeless = functools.partial(recorder.evaluations.hopeless, training.patience)
    for step, batch in () if hopeless() else _device_batches(run, start, recorder):
        first = run.phase_of(step).start == step - 1
        if first:
            recorder.flush()  # what is compiled now is no part of the speed of the steps before
        with doing("compiling the train step" if first or step == start + 1 else f"train step {step}"):
            run.state, metrics = run.train_step(run.state, batch, rng)
            recorder.later(step, metrics)  # reads the step before, while this one runs
        checkpoints.poll()  # a save that failed ends the run now, not at the next save
        last = step == training.num_steps
        evaluated, metrics_now = last or _due(step, training.eval_every), None
        if evaluated:
            metrics_now = evaluate_at(step)
            result = metrics_now or result
            last = last or hopeless()
        unfinished = evaluated and metrics_now is None
        stopping = stop.due()
        if last or stopping or _due(step, training.checkpoint_every):
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


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0


def _device_batches(run: Run, start: int, recorder: "_Recorder") -> Iterator[tuple[int, Batch]]:
    """(step, batch on the devices) from `start` to the end; `step` counts from 1, as finished steps do."""
    training = run.config.training
    batches = read_ahead(run.train_batches, start, training.num_steps, run.config.data.read_ahead)
    batches = waited_for(batches, training.stall_seconds)
    for step in range(start + 1, training.num_steps + 1):
        began = time.perf_counter()
        batch = next(batches)
        recorder.waited += time.perf_counter() - began
        yield step, device_batch(batch, run.mesh)


class _Recorder:
    """Reads metrics one step late, so that the device never waits for the host, and writes them where they are due.

    Attributes:
      evaluations: all of the run, so far.
      skipped_in_a_row: updates skipped up to the last step read, for a loss or gradient that is not finite.
      waited: seconds of this interval that the loop spent waiting for batches. The device is at work on the step before
        meanwhile, so it stands idle for less.
    """

    def __init__(
        self, run: Run, log: MetricsLog | None, display: Display, skipped_in_a_row: int, evaluations: Evaluations
    ):
        self._run, self._log, self._display, self.evaluations = run, log, display, evaluations
        self._pending: tuple[int, Metrics] | None = None
        self.skipped_in_a_row = skipped_in_a_row
        self._begin_interval(None)

    def _begin_interval(self, step: int | None) -> None:
        self._since, self._clock, self.waited = step, time.perf_counter(), 0.0

    def later(self, step: int, metrics: Metrics) -> None:
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Waits for the pending metrics, checks that the loss is finite, and records them where they are due."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        # The gradient too: it is what the state after this step, which may be saved, was made with.
        loss, gradient_norm = (value.value() for value in jax.device_get((metrics["loss"], metrics["gradient_norm"])))
        finite = math.isfinite(loss) and math.isfinite(gradient_norm)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row > self._run.config.training.max_skipped_updates:
            before = self.skipped_in_a_row - 1
            as_before = f", as in the {before} steps before, whose updates were skipped" if before else ""
            raise NonFiniteLossError(
                f"the loss is {loss} and the norm of its gradient {gradient_norm} at step {step}{as_before}; "
                "checkpoints are intact. A lower learning rate, a longer warmup or clipping may help"
            )
        if _due(step, self._run.config.training.log_every) or step == self._run.config.training.num_steps:
            values = {name: value.value() for name, value in jax.device_get(metrics).items()}
            values = {name: value for name, value in values.items() if math.isfinite(value)} | self._speed(step)
            self._write(step, "train", values)
            self._display.train(step, values)
        elif self._compiled(step):
            self._begin_interval(step)

    def settle(self) -> None:
        """Flushes, and puts the log on disk: a checkpoint's step is never missing there, not even after a power cut."""
        self.flush()
        if self._log is not None:
            self._log.sync()

    def _compiled(self, step: int) -> bool:
        """Whether this step waited for its compilation, and so says nothing about the speed."""
        return self._since is None or step == self._run.phase_of(step).start + 1

    def _speed(self, step: int) -> dict[str, float]:
        seconds = time.perf_counter() - self._clock
        since, waited, compiled = self._since, self.waited, self._compiled(step)
        self._begin_interval(step)
        if compiled:
            return {}
        phase, devices = self._run.phase_of(step), self._run.mesh.devices
        tokens_per_second = self._run.tokens(since, step) / seconds
        speed = {"tokens_per_second": tokens_per_second, "data_wait_share": waited / seconds}
        if not self._run.config.trains_all:  # the formula counts the backward pass through every parameter
            return speed
        mfu = model_flops_utilization(
            tokens_per_second, self._run.task.flops_per_token(phase), devices.flat[0].device_kind, devices.size
        )
        return speed | ({"mfu": mfu} if mfu is not None else {})

    def _write(self, step: int, split: str, values: dict[str, float]) -> None:
        if self._log is not None:  # process 0 keeps it
            self._log.write(step, split, values)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        self._write(step, "validation", values)
        self._display.evaluation(step, values)
        self.evaluations.add(step, values)
        self._begin_interval(step)  # evaluation is no part of the training speed

"""What a run writes down while it trains."""

import math
import time

import jax

from tx_jax.runs.best import Evaluations
from tx_jax.runs.metrics_log import MetricsLog
from tx_jax.tasks.base import Metrics
from tx_jax.training.run import Display, Run
from tx_jax.training.throughput import model_flops_utilization


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is NaN or infinite; no such state was saved."""


class Recorder:
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
        loss, gradient_norm = (value.mean() for value in jax.device_get((metrics["loss"], metrics["gradient_norm"])))
        finite = math.isfinite(loss) and math.isfinite(gradient_norm)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row > self._run.config.training.max_skipped_updates:
            before = self.skipped_in_a_row - 1
            as_before = f", as in the {before} steps before, whose updates were skipped" if before else ""
            raise NonFiniteLossError(
                f"the loss is {loss} and the norm of its gradient {gradient_norm} at step {step}{as_before}; "
                "checkpoints are intact. A lower learning rate, a longer warmup or clipping may help"
            )
        if due(step, self._run.config.training.log_every) or step == self._run.config.training.num_steps:
            values = {name: value.mean() for name, value in jax.device_get(metrics).items()}
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
            tokens_per_second,
            self._run.task.objective.flops_per_token(phase),
            devices.flat[0].device_kind,
            devices.size,
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


def due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0

"""Records a run's metrics while it trains."""

import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from tx_jax.evaluation.evaluate import added, on_host
from tx_jax.runs.best import Evaluations
from tx_jax.runs.metrics_log import MetricsLog
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.training.goodput import Pace
from tx_jax.training.run import Display, Run
from tx_jax.training.step import LAST_VALUES
from tx_jax.training.throughput import model_flops_utilization

_logger = logging.getLogger(__name__)


class NonFiniteLossError(RuntimeError):
    """The loss or its gradient is NaN or infinite; no such state was saved."""


class Recorder:
    """Reads metrics one step late, so that the device never waits for the host, and writes them when they are due.

    Training metrics are means over all steps since the previous line: the sum over those steps divided by the sum of
    their weights, in float64. `LAST_VALUES` have their values at the last step. A value that is not finite at a step is
    excluded from its mean. The sums of an unfinished interval are saved in the checkpoint, so that a resumed run writes
    the same lines, bit for bit.

    Attributes:
      evaluations: all evaluations of the run so far.
      skipped_in_a_row: consecutive updates, up to the last step read, skipped because the loss or the gradient was not
        finite.
      compiled: the steps that included a compilation.
      waited: seconds of this interval that the loop spent waiting for batches. Meanwhile the device works on the
        previous step, so it is idle for less time than this.
    """

    def __init__(
        self, run: Run, log: MetricsLog | None, display: Display, evaluations: Evaluations, notes: Mapping[str, Any]
    ):
        """
        Args:
          notes: the value of `notes` at the step that the run resumes from. A checkpoint of an earlier version lacks
            the sums: the interval then begins at that step.
        """
        self._run, self._log, self._display, self.evaluations = run, log, display, evaluations
        self._pending: tuple[int, Metrics] | None = None
        self.skipped_in_a_row: int = notes.get("skipped_in_a_row", 0)
        self._sums = {name: WeightedSum(*pair) for name, pair in notes.get("interval", {}).items()}
        self._pace = Pace(display.pace)
        self.compiled: set[int] = set()
        self._begin_interval(None)

    def notes(self) -> dict[str, Any]:
        """What a checkpoint must contain besides the state; call it after `settle`."""
        interval = {name: (value.total, value.weight) for name, value in self._sums.items()}
        return {"skipped_in_a_row": self.skipped_in_a_row, "interval": interval}

    def _begin_interval(self, step: int | None) -> None:
        """Begins a new interval for measuring speed, after anything other than training steps has taken time."""
        self._since, self._clock, self.waited = step, time.perf_counter(), 0.0

    def later(self, step: int, metrics: Metrics) -> None:
        self.flush()
        self._pending = (step, metrics)

    def flush(self) -> None:
        """Waits for the pending metrics, checks that the loss is finite, and records them when they are due."""
        if self._pending is None:
            return
        (step, metrics), self._pending = self._pending, None
        values = on_host(metrics)
        self._check_finite(step, values)
        self._add(values)
        if self._compiled(step):
            self._pace.begin(step)
        else:
            self._pace.reached(step)
        if due(step, self._run.config.training.log_every) or step == self._run.config.training.num_steps:
            means = {name: value.mean() for name, value in self._sums.items()}
            means = {name: value for name, value in means.items() if math.isfinite(value)}
            means |= self._speed(step) | self._run.spent.values()
            self._sums = {}
            self._write(step, "train", means)
            self._display.train(step, means)
        elif self._compiled(step):
            self._begin_interval(step)

    def _check_finite(self, step: int, values: Metrics) -> None:
        # The gradient too: it produced the state after this step, which may be saved.
        loss, gradient_norm = values["loss"].mean(), values["gradient_norm"].mean()
        finite = math.isfinite(loss) and math.isfinite(gradient_norm)
        self.skipped_in_a_row = 0 if finite else self.skipped_in_a_row + 1
        if self.skipped_in_a_row > self._run.config.training.max_skipped_updates:
            before = self.skipped_in_a_row - 1
            as_before = f", as in the previous {before} steps, whose updates were skipped" if before else ""
            raise NonFiniteLossError(
                f"the loss is {loss} and the gradient norm {gradient_norm} at step {step}{as_before}; "
                "checkpoints are intact. A lower learning rate, a longer warmup or clipping may help"
            )

    def _add(self, values: Metrics) -> None:
        finite = {name: v for name, v in values.items() if math.isfinite(v.total) and math.isfinite(v.weight)}
        last = {name: finite.pop(name) for name in LAST_VALUES}
        self._sums = added(self._sums, finite) | last

    def settle(self) -> None:
        """Flushes, and syncs the log to disk: it never lacks a checkpoint's step, not even after a power failure."""
        self.flush()
        if self._log is not None:
            self._log.sync()

    def _compiled(self, step: int) -> bool:
        """Whether this step included its compilation, so that its time says nothing about the speed."""
        return self._since is None or step in self.compiled

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
        if self._log is not None:  # process 0 keeps the log
            self._log.write(step, split, values)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        self._write(step, "validation", values)
        self._display.evaluation(step, values)
        self.evaluations.add(step, values)
        self._tell_of_no_value(step, values)
        if self._since is not None:  # else the train step is not compiled yet; that time does not count either
            self.interrupted(step)

    def interrupted(self, step: int) -> None:
        """Something other than training steps took time after this step, which is finished."""
        self.flush()
        self._begin_interval(step)
        self._pace.begin(step)

    def _tell_of_no_value(self, step: int, values: dict[str, float]) -> None:
        """Logs that the best step cannot be determined, if the configuration needs it."""
        training = self._run.config.training
        if (training.keep_best or training.patience) and not math.isfinite(values.get(training.best_metric, 0.0)):
            _logger.info(
                f"warning: step {step}: {training.best_metric} has no value on what was evaluated "
                f"(training.eval_batches={training.eval_batches}; 0 is all), so it cannot tell which checkpoint is best"
            )


def due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0

"""Which evaluation of a run was the best, and how long ago that was."""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tx_jax.runs import metrics_log

# Names of metrics in the logs of earlier versions.
FORMER_NAMES = {"window_accuracy": "accuracy"}


def quality(metric: str, value: float) -> float:
    """A number that is larger if the metric is better: losses and bits per byte are better if lower, all others if
    higher; a value that is not finite is never better."""
    lower_is_better = metric.endswith(("loss", "bits_per_byte"))
    return (-value if lower_is_better else value) if math.isfinite(value) else -math.inf


class Evaluations:
    """The held-out evaluations of a run, in their order, by one metric.

    Args:
      earlier: (step, quality) of each so far.
    """

    def __init__(self, metric: str, earlier: Iterable[tuple[int, float]] = ()):
        self._metric, self._qualities = metric, dict(earlier)

    @classmethod
    def read(cls, workdir: Path, metric: str, up_to: int | None = None) -> "Evaluations":
        """The evaluations in metrics.jsonl, up to a step if one is given."""
        evaluations = cls(metric)
        for record in metrics_log.read(workdir):
            if record["split"] == "validation" and (up_to is None or record["step"] <= up_to):
                evaluations.add(record["step"], record)
        return evaluations

    def add(self, step: int, values: Mapping[str, float]) -> None:
        name = self._metric if self._metric in values else FORMER_NAMES.get(self._metric)
        if name in values:
            self._qualities[step] = quality(self._metric, values[name])

    def items(self) -> list[tuple[int, float]]:
        return list(self._qualities.items())

    def best(self, among: Collection[int]) -> int | None:
        """The step with the best evaluation of these, the first in a tie; None if none was evaluated."""
        return next(iter(self.best_of(1, among)), None)

    def best_of(self, count: int, among: Collection[int]) -> list[int]:
        """The `count` steps with the best evaluations of these, best first; fewer if fewer were evaluated."""
        evaluated = [step for step in self._qualities if step in among]
        return sorted(evaluated, key=self._qualities.get, reverse=True)[:count]

    def out_of_patience(self, patience: int) -> bool:
        """Whether none of the last `patience` evaluations was better than the best before them; never if it is 0."""
        steps = list(self._qualities)
        return bool(steps) and 0 < patience <= len(steps) - 1 - steps.index(self.best(steps))

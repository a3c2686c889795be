"""Which evaluation of a run was the best, and how long ago that was."""

import math
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from tx_jax.runs import metrics_log

# What metrics were called in the logs of former versions.
FORMER_NAMES = {"window_accuracy": "accuracy"}


def quality(metric: str, value: float) -> float:
    """What is larger where a metric is better: losses and bits per byte when lower, any other when higher, none when it
    is not finite."""
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
        """Those in metrics.jsonl, or of them those up to a step."""
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
        """The step with the best of these, the first where several are; None where none was evaluated."""
        return next(iter(self.best_of(1, among)), None)

    def best_of(self, count: int, among: Collection[int]) -> list[int]:
        """So many steps with the best of these, the best first, or fewer where fewer were evaluated."""
        evaluated = [step for step in self._qualities if step in among]
        return sorted(evaluated, key=self._qualities.get, reverse=True)[:count]

    def out_of_patience(self, patience: int) -> bool:
        """Whether none of the last `patience` was better than the best before; never with a patience of 0."""
        steps = list(self._qualities)
        return bool(steps) and 0 < patience <= len(steps) - 1 - steps.index(self.best(steps))

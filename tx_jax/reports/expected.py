"""What a recipe should reach, as its configuration states it, beside what a run has reached.

A configuration file states it beside `get_config`, in a function of the variant that returns rows:

    def get_expected(variant: str = "") -> list[dict]:
        return [{"metric": "mcc", "split": "test", "value": 0.521, "source": "...", "hardware": "..."}]

expected.json in a run directory holds the rows with what the run has reached.
"""

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tx_jax.config import DATA_PATHS
from tx_jax.errors import InputError
from tx_jax.files import json_text, write_atomically
from tx_jax.runs import metrics_log

FILE = "expected.json"
CONFIDENCE = 0.99  # of the interval that shall hold what a further run, with another seed, reaches
# Keys whose values change no outcome, or where the data lies.
FREE = (
    *("mesh.", "seed", "source"),
    *(f"data.{key}" for key in DATA_PATHS),
    *("data.read_ahead", "training.trackers", "training.keep_last", "training.log_every", "training.stall_seconds"),
    *("model.attention", "model.remat", "model.vocab_size"),
)


@dataclasses.dataclass(frozen=True)
class Expected:
    """One outcome.

    Attributes:
      value: what was reached elsewhere, or the mean over `seeds` runs with the standard deviation `deviation`.
      low, high: the range that a run must reach; None: what `value` and `deviation` give, or no limit.
      step: of the evaluation; None: the final one.
      source: a paper, a model card or "measured here".
    """

    metric: str
    split: str
    source: str
    hardware: str
    value: float | None = None
    deviation: float | None = None
    seeds: int = 1
    low: float | None = None
    high: float | None = None
    step: int | None = None

    def __post_init__(self):
        given = [x for x in (self.value, self.low, self.high) if x is not None]
        if not given or not all(map(math.isfinite, given)):
            raise InputError(f"the expected {self.metric} on {self.split} data needs a value, or a range")
        if self.deviation is not None and (self.value is None or self.seeds < 2):
            raise InputError(f"the expected {self.metric} on {self.split} data: a deviation is of a value over seeds")

    @property
    def range(self) -> tuple[float, float] | None:
        """What a run must reach; None if only a value is known, whose spread is not."""
        low, high = self.low, self.high
        if low is None and high is None:
            if self.deviation is None:
                return None
            spread = self.deviation * _deviations(self.seeds)
            low, high = self.value - spread, self.value + spread
        return (-math.inf if low is None else low, math.inf if high is None else high)

    def verdict(self, reached: float | None) -> str:
        """Whether a run reached it; "" where nothing says how near is near enough."""
        if reached is None or not math.isfinite(reached):
            return "not evaluated"
        if self.range is None:
            return ""
        low, high = self.range
        return "below" if reached < low else "above" if reached > high else "reached"

    @property
    def text(self) -> str:
        """For people."""
        spread = f" ± {self.deviation:.4g} ({self.seeds} seeds)" if self.deviation is not None else ""
        known = f"{self.value:.4g}{spread}" if self.value is not None else ""
        if self.range is None:
            return known
        low, high = self.range
        limits = f"{low:.4g} to {high:.4g}" if math.isfinite(low + high) else (
            f"at least {low:.4g}" if math.isfinite(low) else f"at most {high:.4g}"
        )  # fmt: skip
        return f"{known}; {limits}" if known else limits


def _deviations(seeds: int) -> float:
    """Half of the interval in which one more run lies, in standard deviations (with N - 1) of so many runs: of few, the
    deviation itself is known badly. By Student's t: 11.5 of 3 runs, 5.0 of 5, 3.4 of 10."""
    from scipy.special import stdtrit

    return float(stdtrit(seeds - 1, (1 + CONFIDENCE) / 2)) * math.sqrt(1 + 1 / seeds)


def parse(rows: Iterable[Mapping[str, Any]], where: str) -> list[Expected]:
    """Raises InputError for rows that say too little, or what is not known."""
    found = []
    for row in rows:
        try:
            found.append(Expected(**row))
        except TypeError as error:
            raise InputError(f"{where}: get_expected: {str(error).partition(') ')[2] or error}") from None
    return found


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What was expected, and reached: None where the run has no such figure."""

    expected: Expected
    reached: float | None

    @property
    def verdict(self) -> str:
        return self.expected.verdict(self.reached)


def outcomes(rows: Sequence[Expected], workdir: Path, final: Mapping[str, Mapping[str, float]]) -> list[Outcome]:
    """Beside each row what a run has reached.

    Args:
      final: the metrics of the final evaluation by split.
    """
    found = []
    for row in rows:
        metrics = final.get(row.split, {})
        if row.step is not None and row.split == "validation":
            metrics = metrics_log.evaluation(workdir, row.step) or {}
        found.append(Outcome(row, metrics.get(row.metric)))
    return found


def write(workdir: Path, recipe: str, changed: Sequence[str], found: Sequence[Outcome]) -> None:
    """Writes expected.json.

    Args:
      recipe: the configuration.
      changed: the keys in which the run is another one, see `changes`.
    """
    rows = [dataclasses.asdict(one.expected) | {"reached": one.reached} for one in found]
    text = json_text({"recipe": recipe, "changed": changed, "outcomes": rows}, indent=2)
    write_atomically(workdir / FILE, text + "\n")


def read(workdir: Path) -> tuple[str, list[str], list[Outcome]]:
    """Recipe, changed keys and outcomes of a run; ("", [], []) where nothing was expected.

    Raises:
      InputError: the file is damaged.
    """
    file = workdir / FILE
    if not file.is_file():
        return "", [], []
    try:
        values = json.loads(file.read_text())
        rows = [dict(row) for row in values["outcomes"]]
        reached = [row.pop("reached") for row in rows]
        found = [Outcome(*both) for both in zip(parse(rows, str(file)), reached, strict=True)]
        return values["recipe"], values["changed"], found
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{file} is damaged: {error}") from None


def changes(given: Iterable[str]) -> list[str]:
    """Those of the keys that are set on the command line that make another recipe."""
    return [key for key in given if not key.startswith(FREE)]

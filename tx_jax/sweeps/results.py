"""What came of a sweep: each setting's score over its repeats, the best one, and tables of them."""

import csv
import dataclasses
import io
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError, did_you_mean
from tx_jax.files import json_text, write_atomically
from tx_jax.runs import metrics_log
from tx_jax.runs.best import FORMER_NAMES, Evaluations, quality
from tx_jax.runs.run_dir import RunDir
from tx_jax.sweeps.settings import Setting, Trial, keys_of
from tx_jax.sweeps.sweep_dir import State, SweepDir


@dataclasses.dataclass(frozen=True)
class Outcome:
    """A trial, how it ended, its score on validation data (None without one), and why it has none."""

    trial: Trial
    state: State
    value: float | None
    reason: str = ""


@dataclasses.dataclass(frozen=True)
class Row:
    """A setting over its repeats.

    Attributes:
      outcomes: of all its trials.
      values: the scores of those that are done.
    """

    setting: Setting
    outcomes: tuple[Outcome, ...]

    @property
    def values(self) -> tuple[float, ...]:
        return tuple(one.value for one in self.outcomes if one.value is not None)

    @property
    def mean(self) -> float | None:
        return statistics.fmean(self.values) if self.values else None

    @property
    def deviation(self) -> float | None:
        """The standard deviation over the repeats (with N - 1); None for fewer than two."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    @property
    def is_whole(self) -> bool:
        return len(self.values) == len(self.outcomes)


@dataclasses.dataclass(frozen=True)
class Results:
    """Attributes: metric: what settings are compared by; rows: best first, those with trials that are missing last."""

    metric: str
    rows: tuple[Row, ...]

    @property
    def best(self) -> Row | None:
        return self.rows[0] if self.rows and self.rows[0].values else None

    @property
    def as_good(self) -> int:
        """How many other settings have the mean of the best one."""
        best = self.best
        return sum(best is not None and row is not best and row.mean == best.mean for row in self.rows)

    def outcomes(self) -> list[Outcome]:
        return [one for row in self.rows for one in row.outcomes]


def metric_of(directory: SweepDir, trials: Iterable[Trial]) -> str:
    """`training.best_metric` of the trials that have begun; "" if none has.

    Raises:
      InputError: they differ in it.
    """
    found = {}
    for one in trials:
        if (directory.folder(one) / "config.json").is_file():
            found.setdefault(RunDir(directory.folder(one)).load_config().training.best_metric, one.name)
    if len(found) > 1:
        raise InputError(f"the trials have different training.best_metric, {', '.join(found)}: say one by --metric=")
    return next(iter(found), "")


def collect(directory: SweepDir, trials: Sequence[Trial], metric: str = "") -> Results:
    """The results so far.

    Args:
      metric: of validation data; "": `training.best_metric`.

    Raises:
      InputError: the runs do not have this metric.
    """
    metric = metric or metric_of(directory, trials)
    outcomes = [outcome(directory, one, metric) for one in trials]
    settings: dict[tuple, list[Outcome]] = {}
    for one in outcomes:
        settings.setdefault(tuple(one.trial.setting.items()), []).append(one)
    rows = [Row(dict(key), tuple(found)) for key, found in settings.items()]
    best_first = sorted(rows, key=lambda row: (row.is_whole, bool(row.values), _quality(metric, row)), reverse=True)
    return Results(metric, tuple(best_first))


def _quality(metric: str, row: Row) -> float:
    return -math.inf if row.mean is None else quality(metric, row.mean)


def outcome(directory: SweepDir, one: Trial, metric: str) -> Outcome:
    state = directory.state(one)
    value = score(directory.folder(one), metric) if state == State.DONE else None
    return Outcome(one, state, value, directory.reason(one))


def score(workdir: Path, metric: str) -> float:
    """A finished run's score on validation data, of the parameters that the run is used by: of the final evaluation,
    which is that of the best checkpoint after fine-tuning; without one, of the best or last evaluation on the way.

    Raises:
      InputError: it has no such metric.
    """
    file = workdir / "evaluation.json"
    if file.is_file():
        values = json.loads(file.read_text())["validation"]["metrics"]
    else:
        values = _evaluation_on_the_way(workdir, metric)
    name = metric if metric in values else FORMER_NAMES.get(metric, metric)
    if name not in values:
        near = did_you_mean(metric, values)
        raise InputError(f"--metric={metric}: {workdir} has {', '.join(values) or 'no evaluation'}.{near}")
    return math.nan if values[name] is None else float(values[name])


def _evaluation_on_the_way(workdir: Path, metric: str) -> dict[str, float]:
    records = {one["step"]: one for one in metrics_log.read(workdir) if one["split"] == "validation"}
    config = RunDir(workdir).load_config()
    step = max(records, default=None)
    if "train" in json.loads((workdir / "config.json").read_text())["data"] and config.training.keep_best:
        step = Evaluations.read(workdir, metric).best(records) or step
    return {k: v for k, v in records.get(step, {}).items() if k not in ("step", "split")}


def other_splits(directory: SweepDir, row: Row) -> dict[str, dict[str, tuple[float, float | None]]]:
    """Of a setting, mean and deviation of every metric on each split but the validation data, such as test data."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in row.outcomes:
        file = directory.folder(one.trial) / "evaluation.json"
        if one.value is None or not file.is_file():
            continue
        for split, report in json.loads(file.read_text()).items():
            for name, value in report["metrics"].items() if split != "validation" else ():
                found.setdefault(split, {}).setdefault(name, []).append(math.nan if value is None else value)
    return {
        split: {name: (statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else None) for name, v in metrics.items()}
        for split, metrics in found.items()
    }


def write(directory: SweepDir, results: Results, command: str) -> None:
    """Writes results.json, results.csv (a line for each setting) and trials.csv (a line for each run).

    Args:
      command: what reproduces the best setting.
    """
    best = results.best
    rows = [
        {
            "setting": dict(row.setting),
            "mean": row.mean,
            "deviation": row.deviation,
            "runs": [
                {
                    "name": one.trial.name,
                    **({"repeat": dict(one.trial.repeat)} if one.trial.repeat else {}),
                    "state": one.state.value,
                    "value": one.value,
                    **({"reason": one.reason} if one.reason else {}),
                }
                for one in row.outcomes
            ],
        }
        for row in results.rows
    ]
    chosen: dict[str, Any] | None = None
    if best:
        others = {
            split: {name: {"mean": mean, "deviation": deviation} for name, (mean, deviation) in metrics.items()}
            for split, metrics in other_splits(directory, best).items()
        }
        chosen = {"setting": dict(best.setting), "mean": best.mean, "deviation": best.deviation, "command": command}
        chosen |= {"other_splits": others} if others else {}
    values = {"metric": results.metric, "split": "validation", "best": chosen, "settings": rows}
    write_atomically(directory.path / "results.json", json_text(values, indent=2) + "\n")
    keys = keys_of(row.setting for row in results.rows)
    of_settings = [
        {**row.setting, "mean": row.mean, "deviation": row.deviation, "runs": len(row.values)} for row in results.rows
    ]
    write_atomically(directory.path / "results.csv", _csv([*keys, "mean", "deviation", "runs"], of_settings))
    of_trials = [
        {**one.trial.overrides, "name": one.trial.name, "state": one.state.value, results.metric: one.value}
        for one in results.outcomes()
    ]
    keys = keys_of(one.trial.overrides for one in results.outcomes())
    write_atomically(directory.path / "trials.csv", _csv(["name", *keys, "state", results.metric], of_trials))


def _csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(columns)), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()

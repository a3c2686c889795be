"""What a run directory tells, read once: configuration, curves, final metrics, times, environment."""

import dataclasses
import functools
import json
import math
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError
from tx_jax.files import json_text, path_of
from tx_jax.runs import history, metrics_log
from tx_jax.runs.best import quality
from tx_jax.sweeps.settings import REPEATING

LOST = "seconds_"
DEPTH = 3  # folders below a given one in which runs are looked for


@dataclasses.dataclass(frozen=True)
class Run:
    """Attributes:
    config: its keys, such as training.batch_size, and values.
    records: of metrics.jsonl, without a last line that was cut short.
    evaluation: evaluation.json, by split; {} without a final evaluation.
    notes: what is odd about its files, one line each.
    """

    name: str
    path: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]
    evaluation: Mapping[str, Any]
    starts: Sequence[Mapping[str, Any]]
    state: str
    notes: tuple[str, ...] = ()

    @property
    def metric(self) -> str:
        """What decides which checkpoint is best; "" if nothing does."""
        return self.config.get("training.best_metric") or ""

    @functools.cached_property
    def steps(self) -> int:
        return max((record["step"] for record in self.records), default=0)

    @functools.cached_property
    def last_training(self) -> Mapping[str, Any]:
        """The last record of training; {} without one."""
        return next((record for record in reversed(self.records) if record["split"] == "train"), {})

    def typical(self, name: str) -> float | None:
        """The median of a value over training records, such as of tokens per second; None where it was not logged."""
        values = [record[name] for record in self.records if record["split"] == "train" and name in record]
        finite = [value for value in values if math.isfinite(value)]
        return statistics.median(finite) if finite else None

    def final(self, step: int | None = None) -> dict[str, dict[str, float]]:
        """By split the final metrics: of the final evaluation, or else of the last one on the way.

        Args:
          step: only those of the parameters of this step; {} if they were not evaluated.
        """
        evaluated = {
            split: _numbers(one["metrics"]) for split, one in self.evaluation.items() if step in (None, one["step"])
        }
        if evaluated:
            return evaluated
        records = [one for one in self.records if one["split"] == "validation" and step in (None, one["step"])]
        last = records[-1] if records else None
        return {"validation": _numbers({k: v for k, v in last.items() if k not in ("step", "split")})} if last else {}

    def spent(self) -> dict[str, float]:
        """Where the seconds of the last start went: training steps, and what they were lost to; {} if not logged."""
        last = self.last_training
        if "seconds_total" not in last:
            return {}
        lost = {
            name.removeprefix(LOST): value
            for name, value in last.items()
            if name.startswith(LOST) and name != "seconds_total"
        }
        return {"training": max(last["seconds_total"] - sum(lost.values()), 0.0), **lost}

    def curves(self) -> dict[str, dict[str, list[tuple[int, float]]]]:
        """By metric and split: steps and values."""
        found: dict[str, dict[str, list[tuple[int, float]]]] = {}
        for record in self.records:
            for name, value in record.items():
                if name not in ("step", "split") and math.isfinite(value):
                    found.setdefault(name, {}).setdefault(record["split"], []).append((record["step"], value))
        return found


def find(paths: Iterable[str]) -> list[Run]:
    """The runs at paths and in the folders below them, such as those of a sweep, in natural order.

    Raises:
      InputError: a path holds no run, or a file of a run is damaged.
    """
    found: dict[Path, None] = {}
    for given in paths:
        path = path_of(given, "report")
        folders = [path] if _is_run(path) else sorted(_below(path), key=lambda folder: _naturally(str(folder)))
        if not folders:
            what = "there is no run in it" if path.is_dir() else "there is no such folder"
            raise InputError(f"{path}: {what}; give run directories, or a folder that holds some")
        found |= dict.fromkeys(folder.resolve() for folder in folders)
    names = _names(list(found))
    return [read(folder, name) for folder, name in zip(found, names, strict=True)]


def _below(path: Path) -> list[Path]:
    found, level = [], [path]
    for _ in range(DEPTH):
        level = [folder for parent in level if parent.is_dir() for folder in parent.iterdir() if folder.is_dir()]
        found += [folder for folder in level if _is_run(folder)]
        level = [folder for folder in level if not _is_run(folder)]
    return found


def _is_run(path: Path) -> bool:
    try:
        values = json.loads((path / "config.json").read_text())
    except (OSError, ValueError):
        return False
    return isinstance(values, dict) and {"model", "training"} <= values.keys()


def _names(folders: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as make them differ."""
    for parts in range(1, 8):
        names = ["/".join(str(folder).split("/")[-parts:]) for folder in folders]
        if len(set(names)) == len(names):
            return names
    return [str(folder) for folder in folders]


def read(folder: Path, name: str) -> Run:
    """Raises InputError if a file is damaged."""
    records = metrics_log.read(folder)
    notes = []
    log = folder / "metrics.jsonl"
    if log.is_file() and not (text := log.read_bytes()).endswith(b"\n") and text:
        notes.append("the last line of metrics.jsonl was cut short, and is left out")
    if not records:
        notes.append("it has logged nothing yet")
    return Run(
        name=name,
        path=folder,
        config=flat(_json(folder / "config.json")),
        environment=_json(folder / "env.json"),
        records=records,
        evaluation=_json(folder / "evaluation.json"),
        starts=history.read(folder),
        state=_state(folder),
        notes=tuple(notes),
    )


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        return {}
    try:
        return json.loads(file.read_text())
    except ValueError as error:
        raise InputError(f"{file} is damaged: {error}") from None


def _state(folder: Path) -> str:
    for mark in ("DONE", "FAILED", "PRUNED"):
        if (folder / mark).is_file():
            reason = " ".join((folder / mark).read_text(errors="replace").split())
            return "done" if mark == "DONE" else f"{'failed' if mark == 'FAILED' else 'given up'}: {reason:.120}"
    return "not finished"


def flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested values by dotted keys."""
    found = {}
    for key, value in values.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {f"{prefix}{key}": value}
    return found


def differing(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """The keys in which the configurations differ, with the value of each run (None where it has no such key)."""
    keys = dict.fromkeys(key for run in runs for key in run.config)
    rows = {key: [run.config.get(key) for run in runs] for key in keys}
    return {key: values for key, values in rows.items() if len({json_text(value) for value in values}) > 1}


def groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs whose configurations are the same but for `REPEATING`, and what the seed or fold decides."""
    found: dict[str, list[Run]] = {}
    for run in runs:
        same = {key: value for key, value in run.config.items() if key not in REPEATING}
        found.setdefault(json_text(sorted(same.items())), []).append(run)
    return list(found.values())


@dataclasses.dataclass(frozen=True)
class Spread:
    """A metric over the runs of a group; `deviation` (with N - 1) is None for a single one."""

    mean: float
    deviation: float | None
    count: int


def spreads(group: Sequence[Run]) -> dict[tuple[str, str], Spread]:
    """By split and metric: the final metrics of the runs that have them."""
    values: dict[tuple[str, str], list[float]] = {}
    for run in group:
        for split, metrics in run.final().items():
            for name, value in metrics.items():
                values.setdefault((split, name), []).append(value)
    return {
        key: Spread(statistics.fmean(v), statistics.stdev(v) if len(v) > 1 else None, len(v))
        for key, v in values.items()
    }


def best_on_the_way(run: Run, metric: str) -> tuple[int, float] | None:
    """Step and value of the best evaluation; None if there was none."""
    points = [(r["step"], r[metric]) for r in run.records if r["split"] == "validation" and metric in r]
    return max(points, key=lambda point: quality(metric, point[1]), default=None)


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {name: math.nan if value is None else float(value) for name, value in metrics.items()}


def _naturally(text: str) -> list[tuple[bool, int, str]]:
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", text)]

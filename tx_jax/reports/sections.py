"""The content of a report, as tables and charts that `page` and `markdown` put into their form."""

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tx_jax.models.registry import FLOPS_FORMULA
from tx_jax.reports import expected
from tx_jax.reports.facts import Run, Spread, best_on_the_way, differing, groups, spreads
from tx_jax.runs.plots import KINDS
from tx_jax.sweeps.settings import REPEATING

POINTS = 800  # of a curve, at most: of longer ones, every nth
LONGEST_CELL = 100
MAX_LABELS = 40  # of a confusion matrix that is shown whole


@dataclasses.dataclass(frozen=True)
class Table:
    """Attributes:
    rows: cells as texts; those of the columns in `numeric` may be sorted as numbers.
    shade: whether the cells are counts to be shaded by their share of the row.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: bool = True
    shade: bool = False


@dataclasses.dataclass(frozen=True)
class Chart:
    """Attributes: series: run, split and points of each curve; logarithmic: the scale that it begins with."""

    title: str
    series: Sequence[Mapping[str, Any]]
    logarithmic: bool = False


@dataclasses.dataclass(frozen=True)
class Section:
    """Attributes: text: paragraphs; parts: tables and charts; bars: of each run, named shares of a whole."""

    title: str
    text: Sequence[str] = ()
    parts: Sequence[Table | Chart] = ()
    bars: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)


def report(runs: Sequence[Run]) -> list[Section]:
    """All sections that have content for these runs."""
    made = (
        *(overview(runs), metrics(runs), outcomes(runs), curves(runs), configurations(runs), times(runs)),
        *(labels(runs), origins(runs)),
    )
    return [section for section in made if section.parts or section.bars]


def overview(runs: Sequence[Run]) -> Section:
    metric = common_metric(runs)
    scored = f"{metric}, best" if metric else ""
    columns = ["run", "state", "steps", *([scored, "at step"] if metric else []), "tokens/s", "MFU", "goodput", "time"]
    rows = []
    for run in runs:
        best = best_on_the_way(run, metric) if metric else None
        of_best = [number(best[1]), f"{best[0]:,}"] if best else ["", ""]
        last = run.last_training
        rows.append(
            [
                run.name,
                run.state,
                f"{run.steps:,}",
                *(of_best if metric else []),
                number(run.typical("tokens_per_second"), "{:,.0f}"),
                number(run.typical("mfu"), "{:.1%}"),
                number(last.get("goodput"), "{:.1%}"),
                duration(last["seconds_total"]) if "seconds_total" in last else "",
            ]
        )
    notes = [f"{run.name}: {note}." for run in runs for note in run.notes]
    text = [
        "Throughput and MFU are medians over the records of training; goodput and time are those of the last start. "
        f"MFU counts FLOPs as {FLOPS_FORMULA}.",
        *notes,
    ]
    return Section("Runs", text, [Table("", columns, rows)])


def common_metric(runs: Sequence[Run]) -> str:
    """The metric that decides in the most runs; "" if none does."""
    names = [run.metric for run in runs if run.metric]
    return max(dict.fromkeys(names), key=names.count, default="")


def metrics(runs: Sequence[Run]) -> Section:
    """Final metrics by group of runs that differ in their seed or fold only."""
    tables: dict[str, list[list[str]]] = {}
    columns: dict[str, list[str]] = {}
    grouped = [(name_of(group, runs), len(group), spreads(group)) for group in groups(runs)]
    for _, _, found in grouped:
        for split, name in found:
            if name not in columns.setdefault(split, []):
                columns[split].append(name)
    for name, count, found in grouped:
        for split, names in columns.items():
            cells = [spread(found.get((split, metric))) for metric in names]
            if any(cells):
                tables.setdefault(split, []).append([name, str(count), *cells])
    parts = [Table(f"On {split} data", ["runs", "number", *columns[split]], rows) for split, rows in tables.items()]
    text = ["Runs that differ only in their seed or fold are one line: mean ± standard deviation."]
    return Section("Final metrics", text, parts)


def outcomes(runs: Sequence[Run]) -> Section:
    """What the recipes of the runs should reach, beside what they reached."""
    rows, text = [], []
    for run in runs:
        recipe, changed, found = expected.read(run.path)
        if changed:
            text.append(f"{run.name} changed its recipe, {recipe}: {', '.join(changed)}.")
        for one in found:
            row = one.expected
            when = f"{row.split}, step {row.step:,}" if row.step is not None else row.split
            cells = [run.name, row.metric, when, number(one.reached), row.text, one.verdict, row.source, row.hardware]
            rows.append(cells)
    columns = ["run", "metric", "data", "reached", "expected", "", "source", "hardware"]
    return Section("Expected outcomes", text, [Table("", columns, rows)] if rows else [])


def name_of(group: Sequence[Run], runs: Sequence[Run]) -> str:
    """The name of the run, or what distinguishes several from the others."""
    if len(group) == 1:
        return group[0].name
    keys = [key for key in differing(runs) if key not in REPEATING]
    values = [f"{key.rpartition('.')[2]}={cell(group[0].config.get(key))}" for key in keys]
    return ", ".join(values) or f"{group[0].name} to {group[-1].name}"


def curves(runs: Sequence[Run]) -> Section:
    """One chart for each metric; the one that decides first, then by kind."""
    deciding = common_metric(runs)
    found: dict[str, list[dict[str, Any]]] = {}
    for place, run in enumerate(runs):
        for name, splits in run.curves().items():
            for split, points in splits.items():
                every = math.ceil(len(points) / POINTS)
                kept = [point for i, point in enumerate(points) if i % every == 0 or i == len(points) - 1]
                found.setdefault(name, []).append({"run": place, "split": split, "points": kept})
    shown = {
        name: series
        for name, series in found.items()
        if not name.startswith("seconds_")
        and (name != "skipped_updates" or any(y for one in series for _, y in one["points"]))
    }
    order = sorted(shown, key=lambda name: (name != deciding, _kind(name), name))
    charts = [Chart(name.replace("_", " "), shown[name], KINDS[_kind(name)][2]) for name in order]
    return Section("Learning curves", ["Solid: training, means since the point before. Dashed: validation."], charts)


def _kind(name: str) -> int:
    return next(place for place, (_, pattern, _) in enumerate(KINDS) if re.search(pattern, name))


def configurations(runs: Sequence[Run]) -> Section:
    if len(runs) == 1:
        rows = [[key, cell(value)] for key, value in runs[0].config.items()]
        return Section("Configuration", [], [Table("", ["key", "value"], rows, numeric=False)])
    rows = [[key, *map(cell, values)] for key, values in differing(runs).items()]
    if not rows:
        return Section("Configurations")
    table = Table("", ["key", *(run.name for run in runs)], rows, numeric=False)
    return Section("Configurations", ["Only what differs."], [table])


def times(runs: Sequence[Run]) -> Section:
    bars = {run.name: run.spent() for run in runs if run.spent()}
    if not bars:
        return Section("Where the time went")
    columns = list(dict.fromkeys(name for spent in bars.values() for name in spent))
    rows = [
        [name, *(f"{spent[one]:,.1f}" if one in spent else "" for one in columns), f"{sum(spent.values()):,.1f}"]
        for name, spent in bars.items()
    ]
    text = ["Seconds of the last start of each run, as far as it logged them; training steps are its goodput."]
    return Section("Where the time went", text, [Table("", ["run", *columns, "total"], rows)], bars)


def labels(runs: Sequence[Run]) -> Section:
    """Which label was taken for which, and each label's precision, recall and F1."""
    parts = []
    for run in runs:
        for split, found in run.evaluation.items():
            title = f"{run.name}, {split} data"
            if confusion := found.get("confusion"):
                parts += _of_confusion(title, confusion["labels"], confusion["counts"])
            if several := found.get("label_counts"):
                parts.append(_scores(title, several["labels"], several["counts"]))
    text = "Rows of a confusion matrix are the true labels, columns the predicted ones."
    has_matrix = any(part.shade for part in parts)
    return Section("Labels", [text] if has_matrix else [], parts)


def _scores(title: str, names: Sequence[str], counts: Iterable[Sequence[int]]) -> Table:
    """Scores of each label from how often it was rightly said, was true, and was said."""
    rows = []
    for name, (right, true, said) in zip(names, counts, strict=True):
        precision, recall = right / said if said else 0.0, right / true if true else 0.0
        f1 = 2 * precision * recall / (precision + recall) if precision + recall else 0.0
        rows.append([name, *(f"{x:.4f}" for x in (precision, recall, f1)), f"{true:,}"])
    return Table(title, ["label", "precision", "recall", "F1", "examples"], rows)


def _of_confusion(title: str, names: Sequence[str], counts: Sequence[Sequence[int]]) -> list[Table]:
    said = [sum(column) for column in zip(*counts, strict=True)]
    of_each = _scores(title, names, [(row[i], sum(row), said[i]) for i, row in enumerate(counts)])
    if len(names) > MAX_LABELS:
        return [of_each]
    matrix = [[name, *(f"{count:,}" for count in row)] for name, row in zip(names, counts, strict=True)]
    return [Table(f"{title}: confusion", ["true \\ predicted", *names], matrix, shade=True), of_each]


def origins(runs: Sequence[Run]) -> Section:
    """Environment and git state."""
    rows: dict[str, list[str]] = {}
    for place, run in enumerate(runs):
        environment = run.environment
        versions = environment.get("packages", {})
        facts = {
            "started": environment.get("started"),
            "starts that trained": len(run.starts) or None,
            "revision": environment.get("revision"),
            "devices": _counted(environment.get("devices", ())),
            "processes": environment.get("processes"),
            "attention": "; ".join(dict.fromkeys(environment.get("attention", {}).values())),
            "platform": environment.get("platform"),
            "Python": environment.get("python"),
            **{name: version for name, version in versions.items() if version},
            "command": " ".join(environment.get("command", ())),
        }
        for name, value in facts.items():
            rows.setdefault(name, [""] * len(runs))[place] = "" if value is None else str(value)
    kept = {name: values for name, values in rows.items() if any(values)}
    same = [[name, values[0]] for name, values in kept.items() if len(set(values)) == 1]
    other = [[name, *values] for name, values in kept.items() if len(set(values)) > 1]
    parts = [Table("The same in all runs" if len(runs) > 1 else "", ["", "value"], same, numeric=False)] if same else []
    if other:
        parts.append(Table("Different", ["", *(run.name for run in runs)], other, numeric=False))
    return Section("Environment", [], parts)


def _counted(devices: Iterable[str]) -> str:
    devices = list(devices)
    return ", ".join(f"{devices.count(name)} x {name}" for name in dict.fromkeys(devices))


def number(value: float | None, form: str = "{:.4g}") -> str:
    return "" if value is None or not math.isfinite(value) else form.format(value)


def spread(found: Spread | None) -> str:
    if found is None or not math.isfinite(found.mean):
        return ""
    return f"{found.mean:.4f}" + ("" if found.deviation is None else f" ± {found.deviation:.4f}")


def cell(value: Any) -> str:
    text = "" if value is None else str(value)
    return text if len(text) <= LONGEST_CELL else text[: LONGEST_CELL - 1] + "…"


def duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"

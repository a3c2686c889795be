"""Plots a run's curves: every metric in metrics.jsonl, those of the same kind on the same axes."""

import dataclasses
import io
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from tx_jax.files import write_atomically
from tx_jax.runs import metrics_log
from tx_jax.runs.best import Evaluations
from tx_jax.runs.run_dir import RunDir

# (what an axis shows, the names that belong there, whether it is logarithmic), in the order of the panels. The first
# row that matches counts; all that no other row has are scores.
KINDS: tuple[tuple[str, str, bool], ...] = (
    ("loss", r"(^|_)loss$", False),
    ("bits per byte", r"^bits_per_byte$", False),
    ("perplexity", r"perplexity$", True),
    ("translation, of 100", r"^(bleu|chrf)$", False),
    (
        "score",
        r"^(?!learning_rate|gradient_norm|tokens_per_second|mfu|goodput|seconds_|data_wait_share|skipped_|masked_dropped)",
        False,
    ),
    ("learning rate", r"^learning_rate$", False),
    ("gradient norm", r"^gradient_norm$", False),
    ("tokens per second", r"^tokens_per_second$", False),
    ("share", r"^(mfu|goodput|data_wait_share|masked_dropped)$", False),
    ("seconds since the start", r"^seconds_", False),
    ("skipped updates", r"^skipped_updates$", False),
)
PER_PANEL = 6  # names on one axis, at most: more could not be told apart
COLUMNS = 3
STYLES = {
    "train": {"linestyle": "-", "linewidth": 1.0, "alpha": 0.6},
    "validation": {"linestyle": "--", "linewidth": 1.0, "marker": "o", "markersize": 3.5},
}
SPLITS = {"train": "training, mean since the previous point", "validation": "held-out"}

Points = dict[str, list[tuple[int, float]]]  # by split: step and value


@dataclasses.dataclass(frozen=True)
class _Panel:
    title: str
    names: Sequence[str]
    logarithmic: bool = False
    decides: bool = False


def draw_curves(workdir: Path) -> Path | None:
    """Draws WORKDIR/loss.png from metrics.jsonl: training as lines, held-out data as dots. The metric that decides
    which checkpoint is best comes first, its best value marked.

    Returns:
      The picture; None where there is nothing to draw, so that there is no picture without a curve. One that is newer
      than the log stays as it is.
    """
    path, log = workdir / "loss.png", workdir / "metrics.jsonl"
    curves = _curves(metrics_log.read(workdir))
    if not curves:
        return None
    if path.exists() and path.stat().st_mtime_ns >= log.stat().st_mtime_ns:
        return path
    deciding = _deciding(workdir)
    panels = _panels(curves, deciding)
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(4.6 * columns, 3.6 * rows + 0.7), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, panel in zip(grid, panels, strict=False):
        _draw(axes, panel, curves)
        if panel.decides:
            _mark_best(axes, Evaluations.read(workdir, deciding), dict(curves[deciding].get("validation", ())))
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    kinds = [split for split in STYLES if any(split in points for points in curves.values())]
    lines = [Line2D([], [], color="black", label=SPLITS[split], **STYLES[split]) for split in kinds]
    figure.legend(handles=lines, loc="outside lower center", ncols=len(lines), frameon=False, fontsize="small")
    figure.suptitle(workdir.resolve().name)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    write_atomically(path, picture.getvalue())
    return path


def _curves(records: Iterable[dict]) -> dict[str, Points]:
    """The curves by name, except those that are always 0, as skipped updates mostly are, or never finite."""
    curves: dict[str, Points] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "split") and record["split"] in STYLES and math.isfinite(value):
                curves.setdefault(name, {}).setdefault(record["split"], []).append((record["step"], value))
    may_be_zero = re.compile("skipped_updates|data_wait_share|seconds_")
    never = [name for name, points in curves.items() if may_be_zero.match(name) and not any(_values(points))]
    return {name: points for name, points in curves.items() if name not in never}


def _values(points: Points) -> list[float]:
    return [value for split in points.values() for _, value in split]


def _deciding(workdir: Path) -> str:
    """`training.best_metric`, by which the run keeps its best checkpoints or ends; "" where that is not known."""
    return RunDir(workdir).load_config().training.best_metric if (workdir / "config.json").is_file() else ""


def _panels(curves: dict[str, Points], deciding: str) -> list[_Panel]:
    by_kind: dict[tuple[str, bool], list[str]] = {(title, logarithmic): [] for title, _, logarithmic in KINDS}
    for name in sorted(curves, key=_naturally):
        kind = next((title, log) for title, pattern, log in KINDS if re.search(pattern, name))
        by_kind[kind].append(name)
    panels = [_Panel(_words(deciding), [deciding], decides=True)] if deciding in curves else []
    for (title, logarithmic), names in by_kind.items():
        names = [name for name in names if name != deciding]  # which has its own
        parts = [names[start : start + PER_PANEL] for start in range(0, len(names), PER_PANEL)]
        for number, part in enumerate(parts, start=1):
            several = title if len(parts) == 1 else f"{title} ({number} of {len(parts)})"
            panels.append(_Panel(several if len(part) > 1 else _words(part[0]), part, logarithmic))
    return panels


def _draw(axes: Axes, panel: _Panel, curves: dict[str, Points]) -> None:
    for number, name in enumerate(panel.names):
        for split, points in curves[name].items():
            lone = {"marker": "."} if len(points) == 1 and split == "train" else {}
            axes.plot(*zip(*points, strict=True), color=f"C{number}", **STYLES[split], **lone)
    axes.set_title(panel.title, fontsize="medium", fontweight="bold" if panel.decides else "normal")
    if panel.logarithmic:
        axes.set_yscale("log")
    axes.set_xlim(0, 1.04 * max(step for name in panel.names for points in curves[name].values() for step, _ in points))
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
    axes.tick_params(labelsize="small")
    axes.set_xlabel("step", fontsize="small")
    axes.grid(alpha=0.3)
    if len(panel.names) > 1:
        handles = [Line2D([], [], color=f"C{number}", label=_words(name)) for number, name in enumerate(panel.names)]
        columns = 1 if len(handles) < 3 else 2
        axes.legend(handles=handles, fontsize="x-small", ncols=columns, loc="upper center", bbox_to_anchor=(0.5, -0.17))


def _mark_best(axes: Axes, evaluations: Evaluations, values: dict[int, float]) -> None:
    step = evaluations.best(values)
    if step is not None:
        axes.plot([step], [values[step]], marker="*", markersize=13, color="C3", linestyle="none", zorder=5)
        axes.set_title(
            f"{axes.get_title()}: best {values[step]:.4g} at step {step:,}", fontsize="medium", fontweight="bold"
        )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _naturally(name: str) -> list[tuple[bool, int, str]]:
    """A key that sorts label_2 before label_10."""
    return [(part.isdecimal(), int(part) if part.isdecimal() else 0, part) for part in re.split(r"(\d+)", name)]

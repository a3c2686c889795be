"""Pictures of numbers by layer, head, token and text; and their tables."""

import csv
import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tx_jax.files import write_atomically

FORMATS = (".png", ".svg", ".pdf")
MANY = 60  # labels on an axis, at most: more could not be read
LONGEST = 28  # characters of a label
WRITTEN = 200  # cells of a heat map that also get their number, at most


def save(figure: Figure, path: Path) -> None:
    """Writes a figure in the format that the file's name says."""
    picture = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".")
    # Without a date, the same numbers make the same file.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    figure.savefig(picture, dpi=110, format=kind, metadata=metadata)
    write_atomically(path, picture.getvalue())


def heat_map(
    values: np.ndarray,
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    label: str,
    row_label: str = "",
    column_label: str = "",
    centered: bool = False,
    limits: tuple[float, float] | None = None,
    cells: Sequence[Sequence[str]] | None = None,
) -> Figure:
    """A grid of colors, [rows, columns].

    Args:
      label: what a color means.
      centered: whether the colors diverge from 0.
      limits: the values of the first and the last color.
      cells: what is written into each cell; None: its number, where there are few.
    """
    height, width = values.shape
    figure = Figure(
        figsize=(min(16, 2.6 + 0.36 * max(width, 6)), min(14, 1.6 + 0.3 * max(height, 5))), layout="constrained"
    )
    axes = figure.subplots()
    low, high = limits or (np.nanmin(values), np.nanmax(values))
    if centered:
        high = max(abs(low), abs(high)) or 1.0
        low = -high
    image = axes.imshow(values, aspect="auto", cmap="RdBu_r" if centered else "viridis", vmin=low, vmax=high)
    figure.colorbar(image, label=textwrap.fill(label, int(12 * figure.get_figheight())))
    for axis, names in ((axes.yaxis, rows), (axes.xaxis, columns)):
        step = -(-len(names) // MANY)
        axis.set_ticks(range(0, len(names), step), [_short(name) for name in names[::step]], fontsize="small")
    if max(map(len, columns)) > 3:
        axes.tick_params(axis="x", rotation=60)
        for text in axes.get_xticklabels():
            text.set(ha="right", rotation_mode="anchor")
    axes.set(xlabel=column_label, ylabel=row_label)
    figure.suptitle(textwrap.fill(title, int(10 * figure.get_figwidth())), fontsize="medium")
    if cells is not None or (values.size <= WRITTEN and width <= 16):
        middle = (low + high) / 2
        for i, j in np.ndindex(values.shape):
            light = (abs(values[i, j]) < high / 2) if centered else values[i, j] > middle
            number = "" if np.isnan(values[i, j]) else f"{round(float(values[i, j]), 2) + 0.0:.2f}"
            text = number if cells is None else cells[i][j]
            axes.text(j, i, text, ha="center", va="center", fontsize="x-small", color="black" if light else "white")
    return figure


def lines(
    curves: Mapping[str, Sequence[float]],
    *,
    title: str,
    x_label: str,
    y_label: str,
    x: Sequence[float] | None = None,
    spread: Mapping[str, Sequence[float]] | None = None,
    dashed: Sequence[str] = (),
) -> Figure:
    """A curve for each name.

    Args:
      spread: the standard deviation around a curve, by its name.
      dashed: the curves that are baselines.
    """
    figure = Figure(figsize=(7.2, 4.4), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(curves.items()):
        places = list(range(len(values))) if x is None else x
        style = {"linestyle": "--", "alpha": 0.8} if name in dashed else {"marker": "o", "markersize": 4}
        axes.plot(places, values, color=f"C{number % 10}", label=_short(name, 2 * LONGEST), **style)
        if spread and name in spread:
            low, high = (np.asarray(values) + sign * np.asarray(spread[name]) for sign in (-1, 1))
            axes.fill_between(places, low, high, color=f"C{number % 10}", alpha=0.15, linewidth=0)
    if x is None and max(map(len, curves.values())) <= 32:
        axes.set_xticks(range(max(map(len, curves.values()))))
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize="small")
    return figure


def scatters(panels: Mapping[str, np.ndarray], names: Sequence[str], groups: Sequence[str], *, title: str) -> Figure:
    """Points in the plane, a panel each; all panels have the same points, named and colored by their groups.

    Args:
      panels: [points, 2] by the panel's title.
    """
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.3 * rows + 0.6), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    kinds = list(dict.fromkeys(groups))
    for axes, (name, points) in zip(grid, panels.items(), strict=False):
        for number, kind in enumerate(kinds):
            chosen = np.array([group == kind for group in groups])
            axes.scatter(*points[chosen].T, color=f"C{number % 10}", s=26, label=_short(kind))
        for point, text in zip(points, names, strict=True):
            axes.annotate(_short(text), point, fontsize="xx-small", xytext=(3, 3), textcoords="offset points")
        axes.set_title(name, fontsize="small")
        axes.margins(0.2)
        axes.set(xticks=[], yticks=[])
    for axes in grid[len(panels) :]:
        axes.set_axis_off()
    handles, labels = grid[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="outside lower center", ncols=min(6, len(kinds)), frameon=False, fontsize="small"
    )
    figure.suptitle(title, fontsize="medium")
    return figure


def _short(text: str, longest: int = LONGEST) -> str:
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table; numbers with all their digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_atomically(path, text.getvalue())


def write_npz(path: Path, arrays: Mapping[str, Any]) -> None:
    """Arrays by name, compressed."""
    content = io.BytesIO()
    np.savez_compressed(content, **{name: np.asarray(value) for name, value in arrays.items()})
    write_atomically(path, content.getvalue())

"""The picture of a sweep: a curve with error bars for one axis, a heat map for two, parallel coordinates for more."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from tx_jax.files import write_atomically
from tx_jax.runs.best import quality
from tx_jax.sweeps.results import Results, Row
from tx_jax.sweeps.settings import keys_of, short_keys

LONG_SPAN = 10.0  # of numbers whose largest is this many times the smallest, the axis is logarithmic
CELLS = 400  # a heat map of more is drawn as points
LONGEST_LABEL = 24


def draw(results: Results, path: Path) -> Path | None:
    """Draws the scores by setting. Returns None, and draws nothing, where no trial is done."""
    rows = [row for row in results.rows if row.values]
    if not rows:
        return None
    varying = [key for key in keys_of(row.setting for row in rows) if len({row.setting.get(key) for row in rows}) > 1]
    draws: dict[int, Callable[[Axes, Sequence[Row], Sequence[str], str], None]] = {0: _repeats, 1: _curve, 2: _two}
    figure = Figure(figsize=(max(6.4, 1.5 * len(varying) + 2), 4.2), layout="constrained")
    draws.get(len(varying), _parallel)(figure.subplots(), rows, varying, results.metric)
    picture = io.BytesIO()
    figure.savefig(picture, dpi=110)
    write_atomically(path, picture.getvalue())
    return path


def _repeats(axes: Axes, rows: Sequence[Row], keys: Sequence[str], metric: str) -> None:
    """One setting: the score of each repeat, and their mean."""
    done = [one for one in rows[0].outcomes if one.value is not None]
    names = [", ".join(f"{key.rpartition('.')[2]} {value}" for key, value in one.trial.repeat.items()) for one in done]
    axes.plot(range(len(done)), [one.value for one in done], "o")
    axes.axhline(rows[0].mean, linewidth=1, linestyle="--", color="C1", label=f"mean {rows[0].mean:.4g}")
    axes.set_xticks(range(len(done)), names)
    axes.set_ylabel(_score(metric))
    axes.legend(frameon=False)


def _curve(axes: Axes, rows: Sequence[Row], keys: Sequence[str], metric: str) -> None:
    scale = _Scale([row.setting.get(keys[0], "") for row in rows])
    points = sorted((scale.of(row.setting.get(keys[0], "")), row.mean, row.deviation or 0.0) for row in rows)
    x, y, deviation = zip(*points, strict=True)
    has_bars = any(row.deviation is not None for row in rows)
    axes.errorbar(x, y, yerr=deviation if has_bars else None, marker="o", capsize=4, linestyle=scale.line)
    scale.dress(axes, "x")
    axes.set_xlabel(keys[0])
    runs = max(len(row.values) for row in rows)
    axes.set_ylabel(_score(metric))
    if has_bars:
        axes.set_title(f"mean and standard deviation of {runs} runs", fontsize="medium")
    axes.grid(alpha=0.3)


def _two(axes: Axes, rows: Sequence[Row], keys: Sequence[str], metric: str) -> None:
    scales = [_Scale([row.setting.get(key, "") for row in rows]) for key in keys]
    places = [
        [scale.values.index(row.setting.get(key, "")) for scale, key in zip(scales, keys, strict=True)] for row in rows
    ]
    height, width = len(scales[0].values), len(scales[1].values)
    if height * width > max(CELLS, 4 * len(rows)) or 2 * len(rows) < height * width:
        _points(axes, rows, keys, metric, scales)
        return
    grid = np.full((height, width), np.nan)
    for row, (i, j) in zip(rows, places, strict=True):
        grid[i, j] = row.mean
        text = f"{row.mean:.3g}" + (f"\n± {row.deviation:.2g}" if row.deviation is not None else "")
        axes.text(j, i, text, ha="center", va="center", fontsize="small", bbox={"fc": "white", "alpha": 0.7, "lw": 0})
    image = axes.imshow(grid, aspect="auto", cmap="viridis", origin="lower")
    axes.figure.colorbar(image, label=_score(metric))
    axes.set_yticks(range(height), map(_short, scales[0].values))
    axes.set_xticks(range(width), map(_short, scales[1].values))
    axes.set_ylabel(keys[0])
    axes.set_xlabel(keys[1])


def _points(axes: Axes, rows: Sequence[Row], keys: Sequence[str], metric: str, scales: "Sequence[_Scale]") -> None:
    """Settings that fill no grid."""
    y, x = ([scale.of(row.setting.get(key, "")) for row in rows] for scale, key in zip(scales, keys, strict=True))
    image = axes.scatter(x, y, c=[row.mean for row in rows], cmap="viridis")
    axes.figure.colorbar(image, label=_score(metric))
    for scale, which, key in zip(scales, "yx", keys, strict=True):
        scale.dress(axes, which)
        getattr(axes, f"set_{which}label")(key)


def _parallel(axes: Axes, rows: Sequence[Row], keys: Sequence[str], metric: str) -> None:
    """A line for each setting, over an axis for each key and one for the score; the best is thick."""
    from matplotlib import colormaps

    scales = [_Scale([row.setting.get(key, "") for row in rows]) for key in keys]
    means = [row.mean for row in rows]
    low, high = min(means), max(means)
    best = max(rows, key=lambda row: quality(metric, row.mean))
    for row in sorted(rows, key=lambda row: quality(metric, row.mean)):
        share = (row.mean - low) / (high - low) if high > low else 0.5
        places = [scale.share(row.setting.get(key, "")) for scale, key in zip(scales, keys, strict=True)]
        style = {"linewidth": 3.0} if row is best else {"linewidth": 1.0, "alpha": 0.6}
        axes.plot(range(len(keys) + 1), [*places, share], color=colormaps["viridis"](share), **style)
    for number, scale in enumerate(scales):
        axes.axvline(number, color="black", linewidth=0.5)
        for value in scale.ends:
            axes.text(number, scale.share(value), f" {_short(value)}", fontsize="x-small", va="center")
    axes.axvline(len(keys), color="black", linewidth=0.5)
    for share, value in ((0.0, low), (1.0, high)):
        axes.text(len(keys), share, f" {value:.4g}", fontsize="x-small", va="center")
    short = short_keys(keys)
    axes.set_xticks(range(len(keys) + 1), [*(short[key] for key in keys), metric.replace("_", " ")])
    axes.set_yticks([])


class _Scale:
    """Where the values of a key lie: numbers at their place, everything else one after the other."""

    def __init__(self, values: Sequence[str]):
        try:
            numbers = {value: float(value) for value in values}
        except ValueError:
            numbers = {value: float(place) for place, value in enumerate(dict.fromkeys(values))}
            self.named = True
        else:
            self.named = False
        self.values = sorted(numbers, key=numbers.__getitem__)
        self._numbers = numbers
        low, high = numbers[self.values[0]], numbers[self.values[-1]]
        self.logarithmic = not self.named and low > 0 and high / low >= LONG_SPAN
        self.line = "none" if self.named else "-"
        self.ends = self.values if len(self.values) <= 8 else [self.values[0], self.values[-1]]

    def of(self, value: str) -> float:
        return self._numbers[value]

    def share(self, value: str) -> float:
        """From 0 to 1."""
        low, number, high = (self._numbers[one] for one in (self.values[0], value, self.values[-1]))
        if self.logarithmic:
            low, number, high = np.log([low, number, high])
        return float((number - low) / (high - low)) if high > low else 0.5

    def dress(self, axes: Axes, which: str) -> None:
        if self.logarithmic:
            getattr(axes, f"set_{which}scale")("log")
        if self.named or self.ends is self.values:
            places = [self._numbers[value] for value in self.values]
            getattr(axes, f"set_{which}ticks")(places, [_short(value) for value in self.values])
            getattr(axes, f"{which}axis").set_minor_locator(NullLocator())


def _short(value: str) -> str:
    return value if len(value) <= LONGEST_LABEL else f"…{value[1 - LONGEST_LABEL :]}"


def _score(metric: str) -> str:
    return f"{metric.replace('_', ' ')} on validation data"

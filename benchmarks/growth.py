"""Measures how a training step's time and memory grow with length, layers, batch and vocabulary.

    python -m benchmarks.growth --model=bert_mini --json=growth.json --plot=growth.png

Each axis is varied alone; all its points take turns in rounds. Length also at a fixed number of tokens, where an ideal
step costs the same at every length. The exponent is the slope of log time over log size between the two largest points
(1 = linear), and of all points together. Memory is the compiled program's: what it needs besides its arguments
(`temporary`), and all. Points that do not fit in --memory_gib are left out, by the compiler's figure, before they run.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import flags

from benchmarks import measure
from experiments import command_line

MODEL = flags.DEFINE_string("model", "bert_mini", "A row of the table in benchmarks/cases.py.")
DTYPE = flags.DEFINE_string("dtype", "float32", "float32 or bfloat16.")
AXES = flags.DEFINE_list("axes", ["length", "length at fixed tokens", "layers", "batch", "vocabulary"], "What to vary.")
POINTS = flags.DEFINE_integer("points", 0, "At most so many points of each axis, the smallest; 0: all.", lower_bound=0)
ATTENTION = flags.DEFINE_string("attention", "", "Its implementation; empty: the recipe's.")
MEMORY = flags.DEFINE_float("memory_gib", 8.0, "What a step may take.")
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "Where to write the result.")
PLOT = flags.DEFINE_string("plot", None, "Where to draw it, .png.")
TOKENS = 8192  # of a batch, where they are fixed
LENGTHS = (128, 256, 512, 1024, 2048, 4096)
# Axis -> what to change of the case at each point.
AXES_OF: Mapping[str, Mapping[int, dict[str, Any]]] = {
    "length": {t: {"length": t, "batch_size": 2} for t in LENGTHS},
    "length at fixed tokens": {t: {"length": t, "batch_size": TOKENS // t} for t in LENGTHS},
    "layers": {n: {"num_layers": n} for n in (1, 2, 4, 8, 16)},
    "batch": {n: {"batch_size": n} for n in (4, 8, 16, 32, 64)},
    "vocabulary": {n: {"vocab_size": n} for n in (2048, 4096, 8192, 16384, 32768)},
}


def main(argv: list[str]) -> None:
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()
    if unknown := set(AXES.value) - set(AXES_OF):
        command_line.fail(
            f"--axes={','.join(AXES.value)}: there is no {sorted(unknown)[0]!r}; there are {list(AXES_OF)}"
        )
    result = measure.print_header(measure.calibration(dtypes=[DTYPE.value])) | {"axes": {}}
    for axis in AXES.value:
        points = dict(list(AXES_OF[axis].items())[: POINTS.value or None])
        rows = measure_axis(points)
        print(f"\n{MODEL.value}, {DTYPE.value}, {axis}")
        measure.print_table(rows)
        slopes = {key: exponents(rows, key) for key in ("min_ms", "temporary_mib")}
        for key, (all_points, last) in slopes.items():
            print(f"exponent of {key}: {all_points:.2f} over all points, {last:.2f} between the last two")
        result["axes"][axis] = {"rows": rows, "exponents": slopes}
        measure.write_json(JSON.value, result)
    if PLOT.value:
        draw({axis: found["rows"] for axis, found in result["axes"].items()}, PLOT.value)


def measure_axis(points: Mapping[int, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row a point: its size, time and memory."""
    from benchmarks.cases import CASES, OurStep, random_batch

    parts: dict[str, measure.Part] = {}
    memory = {}
    for size, changes in points.items():
        fields = {name: value for name, value in changes.items() if name in ("length", "batch_size")}
        model = {name: value for name, value in changes.items() if name not in fields}
        case = CASES[MODEL.value]
        case = dataclasses.replace(case, **fields, model=case.model | model)
        if "length" in fields and case.predictions:  # 15% of the tokens are predicted at every length
            case = dataclasses.replace(case, predictions=round(0.15 * case.length))
        config = case.config(DTYPE.value, attention=ATTENTION.value)
        step = OurStep(config, random_batch(config))
        found = step.compiled.memory_analysis()
        total = found.argument_size_in_bytes + found.temp_size_in_bytes
        if total > MEMORY.value * 2**30:
            print(f"{size}: left out, it would take {total / 2**30:.1f} GiB")
            break
        parts[str(size)] = step
        memory[str(size)] = {"temporary_mib": found.temp_size_in_bytes / 2**20, "all_mib": total / 2**20}
    rows = measure.interleaved(parts, ROUNDS.value, warmup=2).rows()
    return [{"size": int(row["part"]), **memory[row["part"]], **row} for row in rows]


def exponents(rows: list[dict[str, Any]], key: str) -> tuple[float, float]:
    """The slope of log(key) over log(size): of a line through all points, and between the last two."""
    size, values = (np.log([row[name] for row in rows]) for name in ("size", key))
    if len(rows) < 2:
        return float("nan"), float("nan")
    return float(np.polyfit(size, values, 1)[0]), float((values[-1] - values[-2]) / (size[-1] - size[-2]))


def draw(axes: Mapping[str, list[dict[str, Any]]], path: str) -> None:
    """Time and memory over each axis, both scales logarithmic, relative to the first point, beside a linear line."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(axes), figsize=(4 * len(axes), 4), squeeze=False, sharey=True)
    for panel, (axis, rows) in zip(panels[0], axes.items(), strict=True):
        size = np.array([row["size"] for row in rows], float)
        for key, label in (("min_ms", "time"), ("temporary_mib", "temporary memory")):
            values = np.array([row[key] for row in rows])
            panel.plot(size, values / values[0], marker="o", label=label)
        ideal = np.ones_like(size) if "fixed" in axis else size / size[0]
        panel.plot(size, ideal, color="gray", linestyle="--", label="constant" if "fixed" in axis else "linear")
        panel.set(xscale="log", yscale="log", xlabel=axis, title=f"from {rows[0]['min_ms']:,.0f} ms", xticks=size)
        panel.minorticks_off()
        panel.set_xticklabels([f"{value:,.0f}" for value in size], rotation=45)
        panel.legend()
    panels[0][0].set_ylabel("relative to the first point")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    command_line.run(main)

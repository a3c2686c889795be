"""Profiles a training step: which operations take its time, by kind and one by one.

    python -m benchmarks.step_profile --case=bert_mini --rows=20

From a trace of jax.profiler: the time of each instruction of the compiled program, with the place in the model that it
comes from. On a CPU instructions run beside each other, so that the sum may exceed the step's time.
"""

import collections
import glob
import re
import tempfile
from collections.abc import Mapping
from typing import Any

from absl import flags

from benchmarks import measure
from experiments import command_line

CASE = flags.DEFINE_string("case", "bert_mini", "A row of the table in benchmarks/cases.py.")
DTYPE = flags.DEFINE_string("dtype", "float32", "float32 or bfloat16.")
ATTENTION = flags.DEFINE_string("attention", "", "Its implementation; empty: the recipe's.")
ROWS = flags.DEFINE_integer("rows", 20, "Instructions to print.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "Where to write the result.")
STEPS = flags.DEFINE_integer("steps", 5, "Steps to trace.", lower_bound=1)
_INSTRUCTION = re.compile(r"\s*(?:ROOT )?%?([\w.\-]+) = \(?(\w+\[[\d,]*\])?.*")
_OP_NAME = re.compile(r'op_name="([^"]*)"')


def main(argv: list[str]) -> None:
    from benchmarks.cases import CASES, OurStep, random_batch
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()
    result = measure.print_header({})
    config = CASES[CASE.value].config(DTYPE.value, attention=ATTENTION.value)
    rows = costs(OurStep(config, random_batch(config)), STEPS.value)
    kinds = by_kind(rows)
    measure.print_table(kinds[: ROWS.value])
    print()
    measure.print_table(rows[: ROWS.value])
    named = (f"{row['kind']} ({row['share']})" for row in kinds[:3])
    print(f"the three largest costs: {', '.join(named)}")
    measure.write_json(JSON.value, result | {"kinds": kinds[: ROWS.value], "profile": rows[: ROWS.value]})


def costs(step: Any, steps: int) -> list[dict[str, Any]]:
    """ms a step of each instruction, the dearest first.

    Args:
      step: an OurStep.
    """
    import jax

    for _ in range(2):
        step()
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                step()
        (path,) = glob.glob(f"{folder}/**/*.xplane.pb", recursive=True)
        trace = jax.profiler.ProfileData.from_file(path)
    known = _instructions(step.compiled.as_text())
    found: collections.Counter[str] = collections.Counter()
    for plane in trace.planes:
        for line in plane.lines:
            for event in line.events:
                # A GPU's kernels have names of their own, and the instruction's among their properties.
                name = event.name if event.name in known else str(dict(event.stats).get("hlo_op", ""))
                if name in known and not (line.name == "XLA Ops" and "GPU" in plane.name):  # there twice
                    found[name] += event.duration_ns / 1e6 / steps
    total = sum(found.values())
    return [
        {"instruction": name, "ms": ms, "share": f"{ms / total:.1%}", **known[name]} for name, ms in found.most_common()
    ]


def _instructions(program: str) -> dict[str, dict[str, str]]:
    """Instruction -> its result and its place in the model."""
    found = {}
    for line in program.splitlines():
        if match := _INSTRUCTION.match(line):
            place = _OP_NAME.search(line)
            found[match[1]] = {"result": match[2] or "", "place": place[1].partition("/")[2][-90:] if place else ""}
    return found


def by_kind(rows: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The same, added up over instructions whose names differ by a number."""
    found: collections.Counter[str] = collections.Counter()
    for row in rows:
        found[re.sub(r"[.\d]+$", "", row["instruction"])] += row["ms"]
    total = sum(found.values())
    return [{"kind": kind, "ms": ms, "share": f"{ms / total:.1%}"} for kind, ms in found.most_common()]


if __name__ == "__main__":
    command_line.run(main)

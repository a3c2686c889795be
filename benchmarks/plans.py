"""Plans the recipes for TPU slices, and writes the table benchmarks/PLANS.md.

    pip install -e ".[plan]"
    python -m benchmarks.plans --recipes=bert_base,gpt2_small --slices=v4-8,v5litepod-16
    python -m benchmarks.plans --recipes=bert_base --slices=v5litepod-16 --attention=rows
    python -m benchmarks.plans --write

The first compiles what benchmarks/plans.jsonl does not hold yet, minutes a row, and adds it there; by default all rows.
--again compiles what it holds as well, and replaces it.
--write makes the table of what it holds. Where a recipe does not fit, its parameters are fully sharded, its step is
accumulated over the fewest microbatches whose activations should fit, or its blocks are computed again in the backward
pass; the table says so.
"""

import dataclasses
import importlib
import importlib.metadata
import json
import subprocess
from pathlib import Path

from absl import flags

from experiments import command_line
from tx_jax.planning import tpu_slices

RECIPES = ("bert_base", "roberta_base", "gpt2_small", "deberta_v3_base", "bert_large", "roberta_large", "gpt2_xl")
SLICES = ("v4-8", "v5litepod-16", "v5p-128")
ROWS, TABLE = Path(__file__).with_name("plans.jsonl"), Path(__file__).with_name("PLANS.md")
WRITE = flags.DEFINE_bool("write", False, "Write the table, and compile nothing.")
RECIPE = flags.DEFINE_list("recipes", list(RECIPES), "Files of configs/.")
SLICE = flags.DEFINE_list("slices", list(SLICES), "TPU slices.")
AGAIN = flags.DEFINE_bool("again", False, "Compile rows that are there as well, and replace them.")
ATTENTION = flags.DEFINE_string("attention", "auto", "model.attention: auto, xla, rows or relative.")
SHARES = (0.9, 0.45, 0.2)  # of the memory that the state leaves, for activations: their estimate is no better


def main(argv: list[str]) -> None:
    if WRITE.value:
        TABLE.write_text(table(read_rows()), encoding="utf-8")
        return
    import os

    os.environ["JAX_PLATFORMS"] = "cpu"
    for name in SLICE.value:
        for recipe in RECIPE.value:
            if AGAIN.value or (recipe, name, ATTENTION.value) not in map(key, read_rows()):
                row = plan_row(recipe, name)
                print(json.dumps(row), flush=True)
                rows = [other for other in read_rows() if key(other) != key(row)]
                ROWS.write_text("".join(json.dumps(each) + "\n" for each in [*rows, row]), encoding="utf-8")


def key(row: dict) -> tuple[str, str, str]:
    """What two rows must not have in common."""
    return row["recipe"], row["slice"], row["changes"].get("attention", "auto")


def read_rows() -> list[dict]:
    return [json.loads(line) for line in ROWS.read_text(encoding="utf-8").splitlines()] if ROWS.is_file() else []


def plan_row(recipe: str, name: str) -> dict:
    """Compiles one recipe for one slice. The row holds the plan, or why there is none."""
    import jax

    from tx_jax.config import from_config_dict
    from tx_jax.planning import plan
    from tx_jax.tasks.registry import objective_of

    target = plan.tpu_target(name)
    row = {"recipe": recipe, "slice": name, "chips": len(target.devices)}
    row |= {"jax": jax.__version__, "libtpu": importlib.metadata.version("libtpu"), "commit": commit()}
    for share in SHARES:
        c = importlib.import_module(f"configs.{recipe}").get_config()
        row["changes"] = make_it_fit(c, target, share)
        if ATTENTION.value != "auto":
            row["changes"]["attention"] = c.model.attention = ATTENTION.value
        config = from_config_dict(c)
        try:
            made = plan.plan(config, objective_of(config), target)
        except plan.DoesNotFit as error:
            refused = {"error": str(error)}
        else:
            phases = [
                dataclasses.asdict(phase) | {"step_seconds": made.step_seconds(phase), "mfu": made.mfu(phase)}
                for phase in made.phases
            ]
            return row | {"memory": target.memory, "days": made.days(), "phases": phases}
    return row | refused


def commit() -> str:
    """That of the working tree."""
    found = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True)
    return found.stdout.strip()


def make_it_fit(c, target, share: float) -> dict[str, object]:
    """Changes a recipe so that its activations should fit into a share of what the state leaves; what was changed.

    Parameters are spread over the fewest chips on which they, their gradient and the optimizer state take half of the
    memory. A layer keeps about tokens * 34 D bytes for the backward pass, in bfloat16 (Korthikanti et al. 2022, section
    4.1, without the scores, which are computed again); a block that is computed again 2 D. Scores, and those of
    relative positions, take 12 H T bytes a token in one layer at a time.
    """
    from tx_jax.config import from_config_dict
    from tx_jax.models import registry

    changes, chips = {}, len(target.devices)
    c.training.eval_batch_size = -(-c.training.eval_batch_size // chips) * chips  # takes no part in the plan
    if not c.phases.steps and c.training.batch_size % chips:
        changes["batch_size"] = c.training.batch_size = -(-c.training.batch_size // chips) * chips
    config = from_config_dict(c)
    model, phases = config.model, config.training_phases
    state = 16 * registry.num_params(model)  # parameters, gradient, Adam's two moments
    fsdp = next((n for n in range(1, chips) if chips % n == 0 and state / n <= target.memory / 2), chips)
    if fsdp > 1:
        changes["mesh.fsdp"] = c.mesh.fsdp = fsdp
    room = share * (target.memory - state / fsdp)
    for remat in ("none", "block"):
        steps = [accumulation_steps(model, phase, chips, room, remat) for phase in phases]
        if all(steps):
            if max(steps) > 1:
                group, key = (
                    (c.phases, "phases.accumulation_steps") if len(steps) > 1 else (c.training, "accumulation_steps")
                )
                changes[key] = group.accumulation_steps = tuple(steps) if len(steps) > 1 else steps[0]
            if remat != "none":
                changes["remat"] = c.model.remat = remat
            return changes
    return changes


def accumulation_steps(model, phase, chips: int, room: float, remat: str) -> int:
    """The smallest number of parts of a batch whose activations fit; 0 if none do."""
    length, rows = phase.data.sequence_length, phase.batch_size // chips
    scores = 12 * model.num_heads * length
    layer, again = (34 * model.dim, 0) if remat == "none" else (2 * model.dim, 34 * model.dim)
    once = again + scores * (1 + len(model.relative_attention))
    layers = model.num_layers + 2 * model.enhanced_mask_decoder
    fits = (n for n in range(1, rows + 1) if rows % n == 0 and rows // n * length * (layers * layer + once) <= room)
    return next(fits, 0)


HEAD = """# Recipes on TPU slices, planned

Compiled ahead of time on a machine without TPUs, not measured on any, with jax {jax} and libtpu {libtpu}:
`python -m benchmarks.plans` compiles the rows that are missing, `--write` makes this file. {have} rows have been
run; the others are left out. A recipe of two lengths has a figure for each, 128 / 512.

The step is an estimate: the cycles that the TPU compiler expects of every fusion, at the chip's clock, what attention's
kernels, which have none, need at least (`tx_jax/planning/kernel_costs.py`), and what each chip has to send, over its
links at their peak. Stalls, input, evaluation and checkpoints come on top, so that a real
run is slower; comparing two rows says more than one row. Days are those of all steps of the recipe. Every row is data
parallel, and fully sharded over as many chips as `mesh.fsdp` says. Memory is what the compiled step takes, of what the
compiler gives a program (`tx_jax/planning/tpu_slices.py`). MFU ({formula}: `models.registry.flops_per_token`) is
of the maker's bf16 peak. Of the roofline: the least time that a step could take, as a share of the estimate: the
longest of its FLOPs at that peak (f), of reading and writing parameters and optimizer state once at the bandwidth of
the chip's memory (m), and of what it sends over its links (l). Compilation took place on 2 cores that did other work.
Rows with a star are those of commit 8f6a6e6: before attention's scores were computed again in the backward pass, and
before losses were computed in chunks. They have not been compiled since. plans.jsonl names the commit of the others.

"""
COLUMNS = (
    "recipe", "slice", "chips", "changes", "memory of a chip, GiB", "sent by a chip a step, MB", "step, ms", "MFU",
    "of the roofline", "tokens/s", "days", "compiled in",
)  # fmt: skip


def table(rows: list[dict]) -> str:
    """The table in Markdown, in the order of `RECIPES`, then by the names of the slices."""
    from tx_jax.models.registry import FLOPS_FORMULA

    versions = {key: ", ".join(sorted({row[key] for row in rows})) for key in ("jax", "libtpu")}
    order = {name: i for i, name in enumerate((*RECIPES, *sorted(SLICES)))}
    rows = sorted(rows, key=lambda row: (order.get(row["recipe"], 99), order.get(row["slice"], 99)))
    lines = [COLUMNS, ["---"] * len(COLUMNS), *map(cells, rows)]
    head = HEAD.format(**versions, have=len(rows), formula=FLOPS_FORMULA)
    return head + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def cells(row: dict) -> list[str]:
    changes = ", ".join(f"`{key}={value}`" for key, value in row["changes"].items())
    star = "" if "commit" in row else " *"
    first = [f"`{row['recipe']}`{star}", row["slice"], str(row["chips"]), changes]
    if "error" in row:
        reason = row["error"].partition(": ")[2].partition(". What helps")[0]
        return [*first, f"does not fit: {reason}", *[""] * (len(COLUMNS) - len(first) - 1)]
    phases = row["phases"]

    def each(form: str, figure) -> str:
        return " / ".join(form.format(figure(phase)) for phase in phases)

    return [
        *first,
        each("{:.1f}", lambda phase: phase["peak"] / 2**30) + f" of {row['memory'] / 2**30:.1f}",
        each("{:,.0f}", lambda phase: sum(c["sent"] for c in phase["collectives"]) / 1e6),
        each("{:,.1f}", lambda phase: phase["step_seconds"] * 1e3),
        each("{:.0%}", lambda phase: phase["mfu"]),
        each("{}", lambda phase: roofline(row, phase)),
        each("{:,.0f}", lambda phase: phase["batch_size"] * phase["sequence_length"] / phase["step_seconds"]),
        f"{row['days']:,.1f}",
        f"{sum(phase['compile_seconds'] for phase in phases):,.0f} s",
    ]


def roofline(row: dict, phase: dict) -> str:
    """The least time of a step as a share of the estimate, and the letter of what takes it."""
    tpu_slice = tpu_slices.find(row["slice"])
    state = phase["parameters"] + phase["optimizer_state"]
    least = {
        "f": phase["mfu"] * phase["step_seconds"],
        "m": 2 * state / tpu_slices.GENERATIONS[tpu_slice.generation].memory_bandwidth,
    }
    if tpu_slice.link_bandwidth:  # one chip alone has no links
        least["l"] = sum(c["sent"] for c in phase["collectives"]) / tpu_slice.link_bandwidth
    bound = max(least, key=least.get)
    return f"{least[bound] / phase['step_seconds']:.0%} {bound}"


if __name__ == "__main__":
    command_line.run(main)

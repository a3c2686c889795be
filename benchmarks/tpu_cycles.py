"""Where a train step's time goes on a TPU, by its compiler's estimates: modules, dearest instructions, copies.

    pip install -e ".[plan]"
    python -m benchmarks.tpu_cycles --recipe=bert_base --layers=2 --batch=64 --sequence_length=128
    python -m benchmarks.tpu_cycles --recipe=gpt2_small --layers=2,3 --batch=8 --slice=v5p:2x2x1 --json=cycles.json

Compiles the step for one slice without a TPU, minutes for two layers, and sums the cycles of its instructions. With two
depths it extrapolates each module to the depth of the recipe. An estimate ignores that instructions overlap; data
transfers beside the computation, custom calls (Pallas kernels) and collectives have none. Batch is per chip.
--program reads a program's text, saved by --save, instead of compiling one.
"""

import collections
import dataclasses
import importlib
import json
import os
import re
import time
from pathlib import Path

from absl import flags

from experiments import command_line
from tx_jax.planning import hlo

RECIPE = flags.DEFINE_string("recipe", "bert_base", "A file of configs/.")
LAYERS = flags.DEFINE_list("layers", ["2"], "Number of layers; two numbers, to extrapolate to the recipe's.")
BATCH = flags.DEFINE_integer("batch", 64, "Examples per chip.")
LENGTH = flags.DEFINE_integer("sequence_length", 0, "0: the recipe's.")
SLICE = flags.DEFINE_string("slice", "v5e:1x1", "A TPU slice.")
SETTINGS = flags.DEFINE_multi_string("set", [], "KEY=VALUE: another value of a key, such as model.dropout=0.0.")
DEAREST = flags.DEFINE_integer("dearest", 25, "How many instructions to list.")
JSON = flags.DEFINE_string("json", "", "A file to write the figures to.")
SAVE = flags.DEFINE_string("save", "", "A file to write the program's text to; {layers} in it is the depth.")
PROGRAM = flags.DEFINE_string("program", "", "A file to read the program's text from.")

# The module of a JAX operation; the first row that occurs in it counts. A fusion has the name of its result alone.
MODULES = (
    (r"/(cross_)?attention/(query|key|value|out|relative_query|relative_key)/", "attention projections"),
    (r"/(cross_)?attention/.*dropout", "attention dropout"),
    (r"/(cross_)?attention/", "attention scores"),
    (r"/mlp/", "mlp"),
    (r"layer_\d+/\w*norm/|final_norm/", "norms"),
    (r"layer_\d+/dropout", "dropout"),
    (r"layer_\d+/|/convolution/|/relative/", "rest of the layers"),
    (r"/(masked_lm|causal_lm)/", "head"),
    (r"/(pooler|next_sentence|replaced_token)/", "other heads"),
    (r"/embeddings/", "embeddings"),
    (r"/optimizer/", "optimizer"),
    (r"/loss/|\(loss\)|jvp\(\)|jvp\(jit\(take_along_axis\)\)", "loss"),
)
CHANGES_LAYOUT = ("copy", "transpose", "reshape")  # a reshape that is left in a TPU's program moves data


@dataclasses.dataclass(frozen=True)
class Step:
    """A compiled step of one depth."""

    layers: int
    instructions: list[hlo.Instruction]

    def cycles(self, *opcodes: str) -> int:
        return sum(cycles(each) for each in self.instructions if not opcodes or each.opcode in opcodes)

    def modules(self) -> dict[str, int]:
        """Cycles by module and direction, without layout copies, which are a row of their own."""
        found = collections.Counter()
        for each in self.instructions:
            found[row(each)] += cycles(each)
        return {name: count for name, count in found.items() if count}


def cycles(instruction: hlo.Instruction) -> int:
    return instruction.times * (instruction.cycles or 0)


def row(instruction: hlo.Instruction) -> str:
    """The row of the table of modules that an instruction belongs to."""
    if changes_layout(instruction):
        return "layout copies"
    for pattern, name in MODULES:
        if re.search(pattern, instruction.operation, re.IGNORECASE):
            if name in ("optimizer", "loss"):
                return name
            return f"{name}, {'backward' if 'transpose(' in instruction.operation else 'forward'}"
    return "rest"


def changes_layout(instruction: hlo.Instruction) -> bool:
    """Whether it only moves its operand to another layout, or makes a copy of it."""
    return instruction.opcode in CHANGES_LAYOUT or bool(
        instruction.opcode == "fusion" and re.fullmatch(r"(copy|transpose|bitcast)+(_fusion)?[\d.]*", instruction.name)
    )


def main(argv: list[str]) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    if PROGRAM.value:
        depth = int(LAYERS.value[0])
        steps, facts = [Step(depth, hlo.instructions(Path(PROGRAM.value).read_text(encoding="utf-8")))], {}
    else:
        compiled = [compile_step(int(layers)) for layers in LAYERS.value]
        steps, facts = [step for step, _ in compiled], compiled[-1][1]
    report(steps, facts)


def compile_step(layers: int) -> tuple[Step, dict]:
    """The step of the flags' recipe with so many layers, and facts about it."""
    from tx_jax import sharding
    from tx_jax.config import from_config_dict
    from tx_jax.planning import plan
    from tx_jax.tasks.registry import objective_of

    target = plan.tpu_target(SLICE.value)
    c = importlib.import_module(f"configs.{RECIPE.value}").get_config()
    depth = c.model.num_layers
    change(c, layers, len(target.devices))
    config = from_config_dict(c)
    objective = objective_of(config)
    phase, began = config.training_phases[0], time.perf_counter()
    mesh = sharding.make_mesh(config.mesh, target.devices)
    inputs = plan.step_inputs(objective, mesh, phase)
    compiled = plan.lower_train_step(config, objective, mesh, *inputs).compile()
    text = compiled.as_text()
    if SAVE.value:
        Path(SAVE.value.format(layers=layers)).write_text(text, encoding="utf-8")
    per_chip = phase.tokens_per_step / len(target.devices)
    memory = compiled.memory_analysis()
    facts = {
        "recipe": RECIPE.value,
        "slice": target.name,
        "batch": BATCH.value,
        "sequence_length": phase.data.sequence_length,
        "depth": depth,
        "clock": target.clock,
        "peak_flops": target.peak_flops,
        "flops": objective.flops_per_token(phase) * per_chip,
        "flops_of_a_layer": 6 * per_chip * (4 * config.model.dim**2 + 2 * config.model.dim * config.model.mlp_dim)
        + 12 * per_chip * phase.data.sequence_length * config.model.dim,
        "temporaries": memory.temp_size_in_bytes,
        "compile_seconds": time.perf_counter() - began,
    }
    return Step(layers, hlo.instructions(text)), facts


def change(c, layers: int, chips: int) -> None:
    """A recipe, shortened as the flags say."""
    c.model.num_layers = layers
    length = LENGTH.value or c.data.sequence_length
    if c.phases.steps:  # one of its phases
        at = [*c.phases.sequence_length].index(length)
        c.data.max_predictions = c.phases.max_predictions[at]
        c.phases.update(steps=(), sequence_length=(), max_predictions=(), batch_size=())
    c.data.sequence_length = length
    c.training.batch_size = BATCH.value * chips
    c.training.eval_batch_size = chips
    for setting in SETTINGS.value:
        key, _, value = setting.partition("=")
        group, _, name = key.partition(".")
        c[group][name] = type(c[group][name])(json.loads(value) if value[:1] in "[0123456789" else value)


def report(steps: list[Step], facts: dict) -> None:
    """Prints the tables, and writes the JSON."""
    step, clock = steps[0], facts.get("clock", 1.5e9)
    modules = step.modules()
    total = sum(modules.values())
    print(f"{step.layers} layers: {total / 1e6:.2f} million cycles, {total / clock * 1e3:.2f} ms")
    whole = {}
    if len(steps) > 1:
        whole = extrapolate(steps, facts["depth"])
        seconds = sum(whole.values()) / clock
        flops = facts["flops"] + (facts["depth"] - steps[-1].layers) * facts["flops_of_a_layer"]
        facts |= {"whole_ms": seconds * 1e3, "whole_mfu": flops / facts["peak_flops"] / seconds}
        print(f"{facts['depth']} layers: {facts['whole_ms']:.2f} ms, MFU {facts['whole_mfu']:.1%}")
    for name, count in sorted(modules.items(), key=lambda item: -item[1]):
        line = f"{count / clock * 1e3:9.3f} ms {count / total:6.1%}  {name}"
        print(line + (f"   ({whole[name] / clock * 1e3:.2f} ms in all layers)" if whole else ""))
    chosen = sorted(step.instructions, key=lambda each: -cycles(each))
    tables = {
        "Dearest instructions": [each for each in chosen if not changes_layout(each)][: DEAREST.value],
        "Layout copies": [each for each in chosen if changes_layout(each) and cycles(each) > total / 1000],
        "Custom calls, without an estimate": [each for each in chosen if is_kernel(each)],
        "Others without an estimate (gathers, scatters, sorts)": [
            each for each in chosen if each.cycles is None and each.opcode in ("fusion", "sort", "gather", "scatter")
        ],
    }
    for title, found in tables.items():
        print(f"\n{title}: ms, share, MB through HBM, what" if found else "")
        for each in found:
            what = f"{each.name} {each.shape[:60]} {each.operation.partition(')/')[2]} {each.target}"
            share = f"{cycles(each) / clock * 1e3:9.3f} {cycles(each) / total:6.1%}"
            print(f"{share} {each.times * each.bytes / 1e6:8.1f}  {what}")
    if JSON.value:
        figures = facts | {"cycles": total, "modules": modules, "modules_of_all_layers": whole}
        figures["hbm_bytes"] = sum(each.times * each.bytes for each in step.instructions)
        for title, found in tables.items():
            figures[title] = [dataclasses.asdict(each) for each in found]
        Path(JSON.value).write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def is_kernel(instruction: hlo.Instruction) -> bool:
    """Whether it runs a Pallas kernel; other custom calls are marks for the compiler."""
    return instruction.opcode == "custom-call" and instruction.target == "tpu_custom_call"


def extrapolate(steps: list[Step], depth: int) -> dict[str, int]:
    """Each module's cycles at another depth, on the line through those at the two depths."""
    (first, a), (second, b) = ((step.layers, step.modules()) for step in steps[:2])
    rows = {name: (a.get(name, 0), b.get(name, 0)) for name in {**a, **b}}
    return {name: x + (y - x) * (depth - first) // (second - first) for name, (x, y) in rows.items()}


if __name__ == "__main__":
    command_line.run(main)

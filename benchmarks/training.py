"""Measures a training step beside `transformers` in PyTorch: the same model, batch, optimizer and dropout.

    python -m benchmarks.training --cases=bert_mini --json=training.json       # on a CPU
    python -m benchmarks.training --cases=bert_base,bert_large,roberta_base,gpt2_small --dtypes=bfloat16,float32

Needs torch and transformers. Before anything is timed, the loss of the first step without dropout must agree: the
parameters are the same ones. All sides, PyTorch's in processes of their own, then take turns in rounds of --steps
steps. A ratio is the time of that part divided by ours, of minima and of medians. GFLOP/s and MFU (where the device's
peak is known) are those of the minimum, by `models.registry.flops_per_token`, which counts the head at the predicted
positions only, for all sides.
"""

from typing import Any

from absl import flags

from benchmarks import measure
from benchmarks.apart import Apart
from experiments import command_line

CASES = flags.DEFINE_list("cases", ["bert_mini"], "Rows of the table in benchmarks/cases.py.")
DTYPES = flags.DEFINE_list("dtypes", ["float32"], "float32, bfloat16 (PyTorch: autocast).")
SIDES = flags.DEFINE_list("sides", ["eager", "compile", "gathered", "gathered compile"], "PyTorch's forms to measure.")
BATCH = flags.DEFINE_integer("batch_size", 0, "Rows; 0: the case's; -1: as many as a GPU should hold.", lower_bound=-1)
ATTENTION = flags.DEFINE_string(
    "attention", "", "Our implementation; empty: the recipe's. cudnn: no dropout of scores."
)
STEPS = flags.DEFINE_integer("steps", 4, "Steps of a round.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 8, "Rounds.", lower_bound=1)
ONE_THREAD = flags.DEFINE_bool("one_thread", False, "Compute in one thread: processor time compares on a busy machine.")
JSON = flags.DEFINE_string("json", None, "Where to write the result.")
MAX_DIFFERENCE = {"float32": 1e-4, "bfloat16": 2e-2}  # of the first loss, relative


def main(argv: list[str]) -> None:
    import os

    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs a GPU's memory as well
    if ONE_THREAD.value:
        measure.one_thread()
    if not measure.has_torch():
        command_line.fail("torch and transformers are not installed: they are what this compares with")
    result = measure.print_header(measure.calibration(dtypes=DTYPES.value)) | {"steps": []}
    for name in CASES.value:
        for dtype in DTYPES.value:
            rows = measure_what_fits(name, dtype)
            measure.print_table(rows)
            result["steps"] += [{"case": name, "dtype": dtype, "attention": ATTENTION.value, **row} for row in rows]
            measure.write_json(JSON.value, result)


def measure_what_fits(name: str, dtype: str) -> list[dict[str, Any]]:
    """The rows of the table for one model; where memory runs out, at half of the batch, and so on."""
    from benchmarks.cases import CASES as TABLE

    size = {0: TABLE[name].batch_size, -1: 0}.get(BATCH.value, BATCH.value) or largest_batch(TABLE[name])
    while True:
        print(f"\n{name}, {dtype}, batch of {size}, rounds of {STEPS.value} steps")
        try:
            return measure_case(name, dtype, SIDES.value, size, ROUNDS.value, STEPS.value, ATTENTION.value)
        except Exception as error:
            ran_out = any(words in str(error) for words in ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory"))
            if size == 1 or not ran_out:
                raise
        print("memory ran out")
        size //= 2


def largest_batch(case: Any) -> int:
    """The largest power of two whose activations should fit into a GPU, beside the weights of all sides.

    An estimate: 34 D + 12 H T bytes a token and layer (Korthikanti et al. 2022, section 4.1, scores in float32), and
    PyTorch's logits at every position, several times in float32.
    """
    import jax

    from tx_jax.models import registry

    # A CPU does not say: a tiny batch then, for a smoke test.
    limit = (jax.local_devices()[0].memory_stats() or {}).get("bytes_limit", 2**25)
    model = case.config("bfloat16").model
    weights = 16 * registry.num_params(model) * (1 + len(SIDES.value))
    layers = model.num_layers * (34 * model.dim + 12 * model.num_heads * case.length)
    row, size = case.length * (layers + 14 * model.vocab_size), 1
    while 2 * size * row < 0.6 * (limit - weights):
        size *= 2
    return size


def measure_case(
    name: str, dtype: str, sides: list[str], batch_size: int, rounds: int, steps: int, attention: str
) -> list[dict[str, Any]]:
    """The rows of the table for one model.

    Args:
      sides: PyTorch's forms; those with a gathered head are left out of causal models, which predict every token.

    Raises:
      ValueError: the first losses differ.
    """
    import dataclasses

    import jax

    from benchmarks.cases import CASES as TABLE
    from benchmarks.cases import OurStep, random_batch
    from tx_jax.training.throughput import peak_flops

    case = dataclasses.replace(TABLE[name], batch_size=batch_size)
    config = case.config(dtype, attention=attention)
    batch = random_batch(config)
    ours = OurStep(config, batch)
    parts: dict[str, measure.Part] = {"ours": ours}
    difference = first_losses(case, dtype, ours, batch, attention)
    print(f"first loss without dropout: ours differs from PyTorch's by {difference:.1e} of it")
    if not difference <= MAX_DIFFERENCE[dtype]:
        raise ValueError(f"{name} in {dtype}: the losses differ by {difference:.1e}; the sides do not compute the same")
    for side in sides:
        if not ("gathered" in side and "targets" in batch):
            parts[f"torch {side}"] = their_step(config, ours.params(), batch, dtype, side)
    timings = measure.interleaved(parts, rounds, repeats=steps, warmup=2)
    for part in parts.values():
        if isinstance(part, Apart):
            part.close()
    phase = config.training_phases[0]
    tokens, per_token = phase.tokens_per_step, ours.objective.flops_per_token(phase)
    rows, peak = timings.rows(tokens), peak_flops(jax.devices()[0].device_kind)
    for row in rows:
        row["tokens_per_second"] = row.pop("per_second")
        row["gflops"] = row["tokens_per_second"] * per_token / 1e9
        if peak:
            row["mfu"] = row["gflops"] * 1e9 / peak
    return [row | {"batch": f"{case.batch_size} x {case.length}"} for row in rows]


def their_step(config: Any, params: dict, batch: dict, dtype: str, side: str) -> Apart:
    """PyTorch's step on a model of its own, in a process of its own."""
    from benchmarks.torch_steps import TheirStep

    return Apart(TheirStep, config, params, batch, dtype, gathered="gathered" in side, compiled="compile" in side)


def first_losses(case: Any, dtype: str, ours: Any, batch: dict, attention: str) -> float:
    """The relative difference of the losses without dropout, of the same parameters."""
    config = case.config(dtype, dropout=False, attention=attention)
    theirs = their_step(config, ours.params(), batch, dtype, "eager" if "targets" in batch else "gathered")
    expected = theirs.call("first_loss")
    theirs.close()
    return abs(ours.first_loss(config) - expected) / expected


if __name__ == "__main__":
    command_line.run(main)

"""Everything that is to be measured on an NVIDIA GPU, in one command that ends within --minutes.

    python -m benchmarks.gpu --json=gpu.json          # --smoke: a tiny form of every part, also on a CPU

Needs this repository, jax with CUDA, flax, optax, torch and transformers. First what must be right: cuDNN's attention
against ours in XLA, in bfloat16, values and gradients, for rows of several lengths. Then training steps beside PyTorch
(the batch is the largest that should fit beside it, and is halved where memory runs out), inference, and the three
dearest operations of a step. A part that may not end in time is left out, which is said. Not yet run on a GPU.
"""

import os
import time
from typing import Any

from absl import flags

from benchmarks import measure
from experiments import command_line

MINUTES = flags.DEFINE_float("minutes", 8.0, "When to end.")
SMOKE = flags.DEFINE_bool("smoke", False, "A tiny form of every part.")
JSON = flags.DEFINE_string("json", None, "Where to write the result.")
# Case, attention, PyTorch's forms, seconds that it may take: the most important first.
STEPS = (
    ("bert_base", "", ("eager", "gathered", "gathered compile"), 90),
    ("bert_base", "cudnn", ("eager", "gathered compile"), 80),
    ("gpt2_small", "cudnn", ("eager", "compile"), 80),
    ("bert_large", "cudnn", ("eager",), 70),
    ("bert_base_512", "cudnn", ("eager",), 50),
    ("roberta_base", "cudnn", ("eager",), 50),
)
SMOKE_STEPS = (("bert_tiny", "", ("eager", "gathered"), 30), ("gpt2_tiny", "", ("eager",), 30))
ATTENTION = ((8, 128, True), (8, 192, True), (4, 512, True), (4, 1024, False))  # B, T, whether rows have padding
SMOKE_ATTENTION = ((2, 32, True), (2, 48, False))
# Relative to the largest element: bfloat16 has 8 bits, and both sides round probabilities to it.
MAX_DIFFERENCE = 2e-2


def main(argv: list[str]) -> None:
    began = time.monotonic()
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # torch needs memory as well
    import jax

    on_gpu = jax.default_backend() == "gpu"
    if not on_gpu and not SMOKE.value:
        command_line.fail("there is no GPU that jax sees here: --smoke runs a tiny form of every part anywhere")
    if not measure.has_torch():
        command_line.fail("torch and transformers are not installed: they are what this compares with")
    shapes = ((64, 64, 64),) if SMOKE.value else ((8192, 4096, 4096),)
    result: dict[str, Any] = measure.print_header(measure.calibration(shapes, ("bfloat16", "float32")))
    result["correct"] = check_attention(SMOKE_ATTENTION if SMOKE.value else ATTENTION, "cudnn" if on_gpu else "xla")
    parts = [("steps", row[-1], train, row[:-1]) for row in (SMOKE_STEPS if SMOKE.value else STEPS)]
    model = "bert_tiny" if SMOKE.value else "bert_base"
    attention = "cudnn" if on_gpu else ""
    parts.insert(2, ("profile", 40, profile, (model, attention)))
    parts.insert(4, ("inference", 60, infer, (model,)))
    for kind, seconds, function, arguments in parts:
        left = 60 * MINUTES.value - (time.monotonic() - began)
        if seconds > left:
            print(f"\n{kind} of {', '.join(map(str, arguments))}: left out, {left:.0f} s are left")
            continue
        result.setdefault(kind, []).extend(function(*arguments))
        measure.write_json(JSON.value, result)
    print(f"\n{time.monotonic() - began:.0f} s in all")


def check_attention(shapes: tuple[tuple[int, int, bool], ...], implementation: str) -> list[dict[str, Any]]:
    """cuDNN's attention against ours: the largest difference of values and of each gradient, relative.

    Raises:
      ValueError: one is too large, or not a number.
    """
    import functools

    import jax
    import jax.numpy as jnp

    from tx_jax.nn.attention import cudnn, xla
    from tx_jax.nn.masks import Mask

    rows = []
    for batch, length, padded in shapes:
        for causal in (False, True):
            keys = jax.random.split(jax.random.key(0), 4)
            q, k, v, gradient = (jax.random.normal(key, (batch, length, 12, 64), jnp.bfloat16) for key in keys)
            lengths = jnp.arange(1, batch + 1) * length // batch
            valid = (jnp.arange(length)[None] < lengths[:, None]) if padded else jnp.ones((batch, length), bool)
            mask = Mask(valid_BS=valid if padded else None, causal=causal)
            gradient = gradient * valid[:, :, None, None]  # what padding reads is nobody's concern
            found = {}
            for name, attend in (
                ("xla", xla.attend),
                ("cudnn", functools.partial(cudnn.attend, implementation=implementation)),
            ):
                y, backward = jax.vjp(jax.jit(lambda q, k, v, attend=attend, mask=mask: attend(q, k, v, mask)), q, k, v)
                found[name] = [y * valid[:, :, None, None], *backward(gradient)]
            differences = [
                float(jnp.abs((a - b).astype(jnp.float32)).max() / jnp.abs(b.astype(jnp.float32)).max())
                for a, b in zip(found["cudnn"], found["xla"], strict=True)
            ]
            row = {"attention": f"{batch} x {length}", "causal": str(causal), "padding": str(padded)}
            rows.append(row | dict(zip(("y", "dq", "dk", "dv"), differences, strict=True)))
    print()
    measure.print_table(rows)
    if not all(row[name] <= MAX_DIFFERENCE for row in rows for name in ("y", "dq", "dk", "dv")):
        raise ValueError(f"cuDNN's attention differs from XLA's by more than {MAX_DIFFERENCE}: see the table above")
    return rows


def train(name: str, attention: str, sides: tuple[str, ...]) -> list[dict[str, Any]]:
    """The rows of `benchmarks.training` for a case in bfloat16, at the largest batch that fits."""
    from benchmarks.training import measure_case

    dtype = "float32" if SMOKE.value else "bfloat16"
    size = 0 if SMOKE.value else largest_batch(name)
    while True:
        print(f"\n{name}, {dtype}, attention {attention or 'as the recipe has it'}, batch of {size or 'the case'}")
        try:
            rows = measure_case(
                name, dtype, list(sides), size, rounds=2 if SMOKE.value else 5, steps=1 if SMOKE.value else 5,
                attention=attention,
            )  # fmt: skip
        except Exception as error:
            if size < 2 or not any(
                word in str(error) for word in ("RESOURCE_EXHAUSTED", "out of memory", "Out of memory")
            ):
                raise
            print("memory ran out")
            size //= 2
        else:
            measure.print_table(rows)
            return [{"case": name, "dtype": dtype, "attention": attention, **row} for row in rows]


def largest_batch(name: str) -> int:
    """The largest power of two whose activations should fit, beside the weights of both sides, PyTorch's logits in
    float32 (several times, at every position) among them. An estimate: see `train`."""
    import jax

    from benchmarks.cases import CASES
    from tx_jax.models import registry

    limit = jax.local_devices()[0].memory_stats()["bytes_limit"]
    case = CASES[name]
    model = case.config("bfloat16").model
    weights = 5 * 16 * registry.num_params(model)  # ours, and one model for each form of theirs
    layers = model.num_layers * (34 * model.dim + 12 * model.num_heads * case.length)
    row = case.length * (layers + 14 * model.vocab_size)
    size = 1
    while 2 * size * row < 0.6 * (limit - weights):
        size *= 2
    return size


def infer(name: str) -> list[dict[str, Any]]:
    from benchmarks.inference import measure_inference

    if SMOKE.value:
        return measure_inference(name, "float32", 32, 32, 8, rounds=1)
    return measure_inference(name, "bfloat16", 4096, 128, 128, rounds=3)


def profile(name: str, attention: str) -> list[dict[str, Any]]:
    """The dearest operations of our step; the first three are the ones to name."""
    from benchmarks.cases import CASES, OurStep, random_batch
    from benchmarks.step_profile import by_kind, costs

    config = CASES[name].config("float32" if SMOKE.value else "bfloat16", attention=attention)
    rows = costs(OurStep(config, random_batch(config)), 3)
    print(f"\n{name}: the dearest operations of a step, by kind and one by one")
    measure.print_table(by_kind(rows)[:3])
    measure.print_table(rows[:10])
    return rows[:10]


if __name__ == "__main__":
    command_line.run(main)

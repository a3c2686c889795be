"""Everything that is to be measured on an NVIDIA GPU, in one command that ends within --minutes.

    python -m benchmarks.gpu --folder=gpu            # --smoke: a tiny form of every part, also on a CPU

Needs this repository, jax with CUDA, flax, optax, torch and transformers. First what must be right: cuDNN's attention
against ours in XLA, in bfloat16, values and gradients, for rows of several lengths. Then, each in a process of its own:
training steps beside PyTorch (the batch is the largest that should fit, and is halved where memory runs out), the three
largest costs of a step, inference. A part that runs out of time is ended, which is said; those after it get what is
left. Each part writes FOLDER/PART.json. Not yet run on a GPU.
"""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from absl import flags

from benchmarks import measure
from experiments import command_line

MINUTES = flags.DEFINE_float("minutes", 8.0, "When to end.")
SMOKE = flags.DEFINE_bool("smoke", False, "A tiny form of every part.")
FOLDER = flags.DEFINE_string("folder", "gpu", "Where to write the results.")
_BF16 = "--dtypes=bfloat16 --batch_size=-1 --rounds=5 --steps=5"
# Part -> its command, the most important first.
PARTS = {
    "bert_base": f"training --cases=bert_base --sides=eager,gathered --attention=xla {_BF16}",
    "bert_base_cudnn": f"training --cases=bert_base --sides=compile,gathered --attention=cudnn {_BF16}",
    "profile": "step_profile --case=bert_base --dtype=bfloat16 --attention=cudnn --steps=3 --rows=10",
    "gpt2_small": f"training --cases=gpt2_small --sides=eager,compile --attention=cudnn {_BF16}",
    "bert_large": f"training --cases=bert_large --sides=eager --attention=cudnn {_BF16}",
    "inference": "inference --model=bert_base --dtype=bfloat16 --sentences=4096 --batch_size=128 --rounds=3",
    "bert_base_512": f"training --cases=bert_base_512 --sides=eager --attention=cudnn {_BF16}",
    "roberta_base": f"training --cases=roberta_base --sides=eager --attention=cudnn {_BF16}",
    "bert_base_fp32": "training --cases=bert_base --sides=eager --batch_size=-1 --rounds=3 --steps=2",
}
_TINY = "--rounds=1 --steps=1 --batch_size=-1"
SMOKE_PARTS = {
    "bert": f"training --cases=bert_tiny --sides=eager,gathered {_TINY}",
    "gpt2": f"training --cases=gpt2_tiny --sides=eager {_TINY}",
    "profile": "step_profile --case=bert_tiny --steps=1 --rows=3",
    "inference": "inference --model=bert_tiny --sentences=16 --length=32 --batch_size=8 --rounds=1",
}
ATTENTION = ((8, 128, True), (8, 192, True), (4, 512, True), (4, 1024, False))  # B, T, whether rows have padding
SMOKE_ATTENTION = ((2, 32, True), (2, 48, False))
# Relative to the largest element: bfloat16 has 8 bits, and both sides round probabilities to it.
MAX_DIFFERENCE = 2e-2


def main(argv: list[str]) -> None:
    end = time.monotonic() + 60 * MINUTES.value
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # torch and the other processes need memory as well
    import jax

    on_gpu = jax.default_backend() == "gpu"
    if not on_gpu and not SMOKE.value:
        command_line.fail("there is no GPU that jax sees here: --smoke runs a tiny form of every part anywhere")
    if not measure.has_torch():
        command_line.fail("torch and transformers are not installed: they are what this compares with")
    folder = Path(FOLDER.value)
    folder.mkdir(parents=True, exist_ok=True)
    shapes = ((64, 64, 64),) if SMOKE.value else ((8192, 4096, 4096),)
    result: dict[str, Any] = measure.print_header(measure.calibration(shapes, ("bfloat16", "float32")))
    result["attention"] = check_attention(SMOKE_ATTENTION if SMOKE.value else ATTENTION, "cudnn" if on_gpu else "xla")
    measure.write_json(str(folder / "attention.json"), result)
    for name, command in (SMOKE_PARTS if SMOKE.value else PARTS).items():
        print(f"\n== {name}: python -m benchmarks.{command}", flush=True)
        words = command.split()
        arguments = [sys.executable, "-m", f"benchmarks.{words[0]}", *words[1:], f"--json={folder / name}.json"]
        try:
            ended = subprocess.run(arguments, timeout=max(1.0, end - time.monotonic()), check=False)
        except subprocess.TimeoutExpired:
            print(f"{name}: ended, {MINUTES.value:g} minutes are over")
        else:
            if ended.returncode:
                print(f"{name}: failed with exit code {ended.returncode}")


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


if __name__ == "__main__":
    command_line.run(main)

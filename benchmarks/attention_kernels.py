"""Compiles attention's TPU kernels ahead of time, forward and backward, and prints what the compiler makes of them.

    python -m benchmarks.attention_kernels
    python -m benchmarks.attention_kernels --chips v5e --kernels rows --lengths 128 512 --head_dims 64

Needs libtpu (pip install -e ".[plan]"), no TPU; minutes. Nothing is run: the figures are estimates.

For each of the two kernels: `model`, the microseconds of `tx_jax.planning.kernel_costs` for a device's 8 rows of width
768, and which unit binds; `schedule`, those that the compiler's code takes by its own schedule, without waiting for
memory. `memory` is what the whole program needs besides its arguments and results, in MiB; `calls` are the kernels that
are in it. `relative` are the kernels of DeBERTa's scores, which leave the softmax to XLA.
"""

import argparse
import collections
import json
import os
import re
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from configs import deberta_v3_base
from tx_jax.config import from_config_dict
from tx_jax.nn.attention import relative_scores, rows, splash, xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.rows_kernels import LANES
from tx_jax.nn.dropout import dropout_key
from tx_jax.nn.masks import Mask
from tx_jax.planning import kernel_costs, tpu_slices
from tx_jax.training.throughput import peak_flops

BATCH, WIDTH = 8, 768
LENGTHS = {"rows": (128, 512, 1024), "splash": (128, 512, 1024, 4096), "relative": (128, 512)}
SLICES = {"v5e": "v5e:2x2", "v5p": "v5p:2x2x1"}


def compile_attention(attend, case: Case, device: jax.Device) -> jax.stages.Compiled:
    """Forward and backward pass on one device, rows padded."""
    place = NamedSharding(Mesh(np.array([device]), ("all",)), PartitionSpec())

    def array(shape: tuple[int, ...], dtype) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, dtype, sharding=place)

    def both(q, k, v, gradient, valid, key):
        mask = Mask(valid_BS=valid, causal=case.causal, window=case.window)
        options = {"dropout_rate": case.dropout, "dropout_key": key} if case.dropout else {}
        y, backward = jax.vjp(lambda *qkv: attend(*qkv, mask, **options), q, k, v)
        return y, backward(gradient)

    heads = array((BATCH, case.queries, WIDTH // case.head_dim, case.head_dim), jnp.dtype(case.dtype))
    key = jax.eval_shape(lambda: dropout_key(0))
    traced = jax.jit(both).trace(*[heads] * 4, array((BATCH, case.keys), bool), array(key.shape, key.dtype))
    return traced.lower(lowering_platforms=("tpu",)).compile()


def attend_relative(q_BTHK: jax.Array, k_BTHK: jax.Array, v_BTHK: jax.Array, mask: Mask) -> jax.Array:
    """With tables of ones."""
    config = from_config_dict(deberta_v3_base.get_config()).model
    table_PHK = jnp.ones((2 * config.relative_buckets, *q_BTHK.shape[2:]), q_BTHK.dtype)
    tables = xla.Relative(config, {"c2p": table_PHK, "p2c": table_PHK})
    return relative_scores.attend(q_BTHK, k_BTHK, v_BTHK, mask, relative=tables)


def scheduled_cycles(folder: Path, name: str, steps: float, loops: int) -> float | None:
    """The cycles of a kernel's code: its instruction bundles, times how often they are run; None if there is no dump.

    Args:
      steps: steps of the kernel's grid.
      loops: how often a loop inside is run.
    """
    bundles = collections.Counter()
    for path in folder.rglob(f"*{name}*final_bundles.txt"):
        if "analysis" not in path.name:
            # Each line is a bundle; the number of > is the depth of the loop that it is in.
            bundles = collections.Counter(re.findall(r"^ *(?:0x[0-9a-f]+|0) .*?: (>*) *{", path.read_text(), re.M))
    if not bundles:
        return None
    return bundles[""] + steps * (bundles[">"] + loops * bundles[">>"])


def grid(name: str, case: Case, part: int, cores: int) -> tuple[float, int]:
    """Steps of the grid of the forward (0) or backward (1) kernel on the busiest core, and trips of the loop inside."""
    heads = WIDTH // case.head_dim
    if name == "splash":
        keys = (splash.block(case.keys), splash.backward_block(case.keys, False))[part]
        steps = BATCH * heads * (case.queries // splash.block(case.queries)) * (case.keys // keys)
        # A step of the backward kernel has a loop over the keys, unrolled or not; and it is not split over cores.
        return (steps if part else steps / cores), keys // splash.block(case.keys)
    if name == "relative":
        return BATCH * heads * case.head_dim / LANES / cores, 0
    plan = rows.make_plan((BATCH, case.queries, heads, case.head_dim), case.keys, Mask(), case.dropout)
    return BATCH * plan.steps / cores, len(plan.spans())


def measure(name: str, chip: str, length: int, head_dim: int, dropout: float, dumps: Path) -> dict:
    device = tpu_slices.find(SLICES[chip]).devices()[0]
    dropout = dropout if name == "rows" else 0.0
    case = Case("tpu", "bfloat16", length, length, head_dim, dropout=dropout, relative=name == "relative")
    attend = {"rows": rows.attend, "splash": splash.attend, "relative": attend_relative}[name]
    heads = WIDTH // head_dim
    began = time.perf_counter()
    compiled = compile_attention(attend, case, device)
    row = {"chip": chip, "kernel": name, "length": length, "head_dim": head_dim, "dropout": case.dropout}
    row["compile_seconds"] = round(time.perf_counter() - began, 1)
    row["memory_mib"] = round(compiled.memory_analysis().temp_size_in_bytes / 2**20, 1)
    row["calls"] = len(re.findall('custom_call_target="tpu_custom_call"', compiled.as_text()))
    clock = peak_flops(device.device_kind) / tpu_slices.GENERATIONS[chip].flops_per_cycle
    cores = tpu_slices.GENERATIONS[chip].flops_per_cycle // 2**17  # of which JAX makes one device
    for i, part in enumerate(("forward", "backward")):
        seconds, binds = kernel_costs.costs(name, case, BATCH, heads)[i].longest(chip)
        row[part] = {"model_us": round(seconds * 1e6, 1), "binds": binds}
        cycles = scheduled_cycles(dumps, kernel_costs.CALLS[name][i], *grid(name, case, i, cores))
        row[part]["schedule_us"] = None if cycles is None else round(cycles / clock * 1e6, 1)
    for path in dumps.rglob("*.txt"):
        path.unlink()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chips", nargs="+", choices=SLICES, default=list(SLICES))
    parser.add_argument("--kernels", nargs="+", choices=LENGTHS, default=list(LENGTHS))
    parser.add_argument(
        "--lengths", nargs="+", type=int, default=sorted({n for each in LENGTHS.values() for n in each})
    )
    parser.add_argument("--head_dims", nargs="+", type=int, default=[64, 128])
    parser.add_argument("--dropout", type=float, default=0.1, help="of `rows`; splash has none")
    parser.add_argument("--json", type=Path, help="a file to write the rows to, one a line")
    arguments = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    lines = []
    heads = ("chip", "kernel", "length", "head dim", "dropout", "calls", "memory", "compiled in")
    heads += ("forward: model, schedule, binds", "backward: model, schedule, binds")
    print(f"| {' | '.join(heads)} |\n{'|---' * len(heads)}|")
    with tempfile.TemporaryDirectory() as folder:
        # Only the compiler writes down its schedule, where it is told to.
        flags = f"--xla_jf_dump_to={folder} --xla_jf_dump_llo_text=true --xla_jf_dump_hlo_text=false"
        os.environ["LIBTPU_INIT_ARGS"] = f"{flags} --xla_jf_dump_llo_pass_label_regex=final_bundles"
        for chip in arguments.chips:
            for name in arguments.kernels:
                for head_dim in arguments.head_dims:
                    for length in (n for n in LENGTHS[name] if n in arguments.lengths):
                        row = measure(name, chip, length, head_dim, arguments.dropout, Path(folder))
                        lines.append(json.dumps(row))
                        parts = (row[part] for part in ("forward", "backward"))
                        cells = (f"{p['model_us']} us, {p['schedule_us']} us, {p['binds']}" for p in parts)
                        named = [str(row[key]) for key in ("chip", "kernel", "length", "head_dim", "dropout", "calls")]
                        named += [f"{row['memory_mib']} MiB", f"{row['compile_seconds']} s", *cells]
                        print(f"| {' | '.join(named)} |", flush=True)
    if arguments.json:
        arguments.json.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()

"""A step of decoding on a TPU, by its compiler: the bytes that it moves, beside parameters and cache once, and cycles.

    pip install -e ".[plan]"
    python -m benchmarks.decoding_tpu --batch_sizes=1,8,64
    python -m benchmarks.decoding_tpu --recipe=gpt2_small --slice=v5p:2x2x1 --cache=2048 --json=decoding.json

Compiles the step ahead of time, without a TPU: one token of each row through the decoder, with its cache, and the most
probable next token. Bytes are those that the program's instructions read from the chip's memory and write to it; the
limit is every parameter and the whole cache, read once, at the memory's bandwidth. The compiler's cycles ignore that
instructions overlap, and that what it fetches ahead takes the memory's time.
"""

import importlib
import os
import time
from typing import Any

from absl import flags

from benchmarks import measure
from experiments import command_line
from tx_jax.planning import hlo

RECIPE = flags.DEFINE_string("recipe", "gpt2_small", "A file of configs/ with a decoder.")
SLICE = flags.DEFINE_string("slice", "v5e:1x1", "A TPU slice; the rows are split over its chips.")
BATCH_SIZES = flags.DEFINE_list("batch_sizes", ["1", "8", "64"], "Rows a chip.")
CACHE = flags.DEFINE_integer("cache", 1024, "Places of the cache: tokens that a row may have.", lower_bound=1)
PARAMETERS = flags.DEFINE_enum("parameters", "float32", ["float32", "bfloat16"], "As what they are stored.")
JSON = flags.DEFINE_string("json", None, "Where to write the result.")


def main(argv: list[str]) -> None:
    os.environ["JAX_PLATFORMS"] = "cpu"
    from tx_jax.config import from_config_dict
    from tx_jax.planning import plan, tpu_slices

    config = from_config_dict(importlib.import_module(f"configs.{RECIPE.value}").get_config()).model
    if config.architecture != "decoder":
        command_line.fail(f"--recipe={RECIPE.value} is no decoder")
    target = plan.tpu_target(SLICE.value)
    bandwidth = tpu_slices.GENERATIONS[target.generation].memory_bandwidth
    print(f"{RECIPE.value}, {config.dtype}, parameters {PARAMETERS.value}, {CACHE.value} places, on {target.name}")
    rows = [_row(config, target, bandwidth, int(size)) for size in BATCH_SIZES.value]
    measure.print_table(rows)
    measure.write_json(JSON.value, {"recipe": RECIPE.value, "slice": target.name, "decoding": rows})


def _row(config: Any, target: Any, bandwidth: float, size: int) -> dict[str, Any]:
    """The figures of one chip."""
    began = time.perf_counter()
    compiled, held = compile_step(config, target.devices, size * len(target.devices))
    found = hlo.instructions(compiled.as_text())
    chips = len(target.devices)
    limit = held["parameters"] + held["cache"] / chips
    moved = sum(each.times * each.bytes for each in found)
    cycles = sum(each.times * (each.cycles or 0) for each in found)
    return {
        "batch": size,
        "parameters_mb": held["parameters"] / 1e6,
        "cache_mb": held["cache"] / chips / 1e6,
        "moved_mb": moved / 1e6,
        "moved_to_limit": moved / limit,
        "limit_ms": limit / bandwidth * 1e3,
        "moved_ms": moved / bandwidth * 1e3,
        "cycles_ms": cycles / target.clock * 1e3,
        "limit_tokens_per_second": size * bandwidth / limit,
        "compile_s": time.perf_counter() - began,
    }


def compile_step(config: Any, devices: list[Any], rows: int) -> tuple[Any, dict[str, int]]:
    """The compiled program, and the bytes of parameters and cache."""
    import jax
    import jax.numpy as jnp

    from tx_jax import sharding
    from tx_jax.config import MeshConfig
    from tx_jax.decoding import steps
    from tx_jax.models import registry

    config = steps.for_decoding(config)
    mesh = sharding.make_mesh(MeshConfig(data=-1, fsdp=1, tensor=1), devices)
    shapes = registry.param_shapes(config)
    shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.dtype(PARAMETERS.value)), shapes)
    params = jax.tree.map(
        lambda x, place: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=place),
        shapes,
        sharding.state_sharding(mesh, shapes),
    )
    of_rows = jax.ShapeDtypeStruct((rows,), jnp.int32, sharding=sharding.batch_sharding(mesh, "example", 1))
    cache = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.batch_sharding(mesh, "example", x.ndim)),
        jax.eval_shape(lambda: steps.empty_cache(config, rows, CACHE.value)),
    )

    def greedy(params: Any, tokens_N: jax.Array, first_N: jax.Array, kept: Any) -> tuple[jax.Array, Any]:
        writable = steps.Writable(config.vocab_size)
        logits_NV, kept = steps.step(config, params, tokens_N, first_N, kept, writable)
        return logits_NV.argmax(axis=1).astype(jnp.int32), kept

    with jax.set_mesh(mesh):
        lowered = jax.jit(greedy, donate_argnums=3).lower(params, of_rows, of_rows, steps.Kept(cache))
        compiled = lowered.compile()
    sizes = {"parameters": params, "cache": cache}
    return compiled, {
        name: sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) for name, tree in sizes.items()
    }


if __name__ == "__main__":
    command_line.run(main)

"""Measures the train step and the loader of an experiment, each alone, on the devices there are.

    python -m benchmarks.throughput --config=configs/quickstart.py

Prints medians over single steps, after compilation; the train step sees one and the same batch throughout. Tokens are
positions, padding included; FLOPs are those of `models.registry.flops_per_token`.
"""

import time

from absl import flags
from ml_collections import config_flags

from experiments import command_line

CONFIG = config_flags.DEFINE_config_file("config", "configs/quickstart.py", "The experiment.")
KEEP = flags.DEFINE_bool("keep_freed_memory", True, "Allocate as experiments.train does.")
STEPS = flags.DEFINE_integer("steps", 30, "Steps to time.", lower_bound=3)


def main(argv: list[str]) -> None:
    from tx_jax.training import allocator

    if KEEP.value:
        allocator.keep_freed_memory()
    import jax
    import numpy as np

    from tx_jax import sharding
    from tx_jax.config import from_config_dict
    from tx_jax.data.corpus import TokenStore
    from tx_jax.tasks.masked_lm import MaskedLM
    from tx_jax.training.evaluate import device_batch
    from tx_jax.training.loop import jit_train_step
    from tx_jax.training.optimizer import make_optimizer
    from tx_jax.training.state import init_state
    from tx_jax.training.step import dropout_key

    config = from_config_dict(CONFIG.value)
    task = MaskedLM(config, TokenStore.open(config.data.store))
    batches = task.batches("train", batch_size=config.training.batch_size, repeat=True)
    tokens = config.training.batch_size * config.data.sequence_length

    def report(name: str, seconds: list[float], flops_per_token: float = 0.0) -> None:
        speed = tokens / np.median(seconds)
        rate = f", {speed * flops_per_token / 1e9:,.0f} GFLOP/s" if flops_per_token else ""
        print(f"{name}: {np.median(seconds) * 1e3:.1f} ms a step, {speed:,.0f} tokens/s{rate}")

    times = []
    for step in range(STEPS.value):
        began = time.perf_counter()
        batch = batches.batch_at(step)
        times.append(time.perf_counter() - began)
    report("loader, one core", times)

    mesh = sharding.make_mesh(config.mesh)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    with jax.set_mesh(mesh):
        state = init_state(task, optimizer, config.seed, mesh)
        step_fn, rng = jit_train_step(config, task, optimizer), dropout_key(config.seed)
        placed = device_batch(batch, mesh)
        times = []
        for _ in range(STEPS.value + 1):
            began = time.perf_counter()
            state, metrics = step_fn(state, placed, rng)
            jax.block_until_ready(metrics)
            times.append(time.perf_counter() - began)
    print(f"compilation and first step: {times[0]:.1f} s")
    report(f"train step, {mesh.devices.size} x {mesh.devices.flat[0].device_kind}", times[1:], task.flops_per_token())


if __name__ == "__main__":
    command_line.run(main)

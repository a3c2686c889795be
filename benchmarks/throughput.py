"""Measures an experiment on the devices there are: the loader alone, the train step alone, and the loop of both.

    python -m benchmarks.throughput --config=configs/quickstart.py

The three take turns, so that other work on the machine touches all of them alike; what is printed are medians over
rounds of --steps steps, after compilation. The train step alone sees one and the same batch; the loop reads ahead, puts
each batch on the devices and reads the metrics of the step before, as `training.loop` does. Its share of waiting is the
time that it stands at the next batch. Tokens are positions, padding included; FLOPs are those of
`models.registry.flops_per_token`. Of several phases the first is measured, or that of --phase.
"""

import time

from absl import flags
from ml_collections import config_flags

from experiments import command_line

CONFIG = config_flags.DEFINE_config_file("config", "configs/quickstart.py", "The experiment.")
KEEP = flags.DEFINE_bool("keep_freed_memory", True, "Allocate as experiments.train does.")
PHASE = flags.DEFINE_integer("phase", 0, "The phase to measure, from 0.", lower_bound=0)
STEPS = flags.DEFINE_integer("steps", 20, "Steps of a round.", lower_bound=3)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds.", lower_bound=1)


def main(argv: list[str]) -> None:
    from tx_jax.hosts import allocator

    if KEEP.value:
        allocator.keep_freed_memory()
    import jax

    from tx_jax import sharding
    from tx_jax.config import from_config_dict
    from tx_jax.data.loader import read_ahead
    from tx_jax.evaluation.evaluate import device_batch
    from tx_jax.nn.dropout import dropout_key
    from tx_jax.tasks.registry import open_task
    from tx_jax.training.optimizer import Optimizer
    from tx_jax.training.state import init_state
    from tx_jax.training.step import jit_train_step

    config = from_config_dict(CONFIG.value)
    if PHASE.value >= len(config.training_phases):
        command_line.fail(f"--phase={PHASE.value}: there are {len(config.training_phases)} phases, from 0")
    phase, task = config.training_phases[PHASE.value], open_task(config)
    batches = task.batches("train", batch_size=phase.batch_size, repeat=True, phase=phase)
    mesh, count = sharding.make_mesh(config.mesh), STEPS.value
    optimizer = Optimizer(config)
    step_fn, rng = jit_train_step(config, task.objective, optimizer), dropout_key(config.seed)
    waits = []

    def loader(state, begin):
        began = time.perf_counter()
        for step in range(begin, begin + count):
            batches.batch_at(step)
        return state, time.perf_counter() - began

    def bare(state, begin):
        began = time.perf_counter()
        for _ in range(count):
            state, metrics = step_fn(state, placed, rng)
            jax.block_until_ready(metrics)
        return state, time.perf_counter() - began

    def loop(state, begin):
        ahead = read_ahead(batches, begin, begin + count + 1, config.data.read_ahead)
        batch, pending, waited = next(ahead), None, 0.0
        began = time.perf_counter()
        for _ in range(count):
            state, metrics = step_fn(state, device_batch(batch, mesh), rng)
            jax.device_get(pending)
            pending, asked = metrics, time.perf_counter()
            batch = next(ahead)
            waited += time.perf_counter() - asked
        jax.block_until_ready(pending)
        seconds = time.perf_counter() - began
        waits.append(waited / seconds)
        return state, seconds

    with jax.set_mesh(mesh):
        placed = device_batch(batches.batch_at(phase.start), mesh)
        state, began = init_state(task.objective, optimizer, config.seed, mesh), time.perf_counter()
        state, metrics = step_fn(state, placed, rng)
        jax.block_until_ready(metrics)
        print(f"compilation and first step: {time.perf_counter() - began:.1f} s")
        seconds = measure({"loader": loader, "train step": bare, "loop": loop}, state, phase.start)
    report(
        seconds,
        waits,
        phase,
        task.objective.flops_per_token(phase),
        f"{mesh.devices.size} x {mesh.devices.flat[0].device_kind}",
    )


def measure(parts: dict, state, begin: int) -> dict[str, list[float]]:
    """Seconds of each round of each part, which all pass the state on."""
    seconds = {name: [] for name in parts}
    for number in range(ROUNDS.value):
        for name, part in parts.items():
            state, took = part(state, begin + number * STEPS.value)
            seconds[name].append(took)
    return seconds


def report(seconds: dict[str, list[float]], waits: list[float], phase, flops_per_token: float, devices: str) -> None:
    import numpy as np

    from tx_jax.models.registry import FLOPS_FORMULA

    for name, rounds in seconds.items():
        each = np.median(rounds) / STEPS.value
        speed = phase.tokens_per_step / each
        rate = (
            f", {speed * flops_per_token / 1e9:,.0f} GFLOP/s ({FLOPS_FORMULA}) on {devices}"
            if name != "loader"
            else ", one core"
        )
        print(f"{name}: {each * 1e3:.1f} ms a step, {speed:,.0f} tokens/s{rate}")
    ratio = np.median(np.divide(seconds["loop"], seconds["train step"]))
    print(f"the loop takes {ratio:.2f} times the train step, and waits for data {np.median(waits):.1%} of the time")


if __name__ == "__main__":
    command_line.run(main)

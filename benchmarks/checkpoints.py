"""Measures what checkpoints cost a run: how long it stands still for a save, and how long a resume reads.

    python -m benchmarks.checkpoints --config=configs/quickstart.py

Rounds of --steps steps without and with a save at their start take turns. A save blocks the loop while the state is
copied from the devices; then it is written by threads, while training goes on. The share is that of the run as
configured, with a save every `training.checkpoint_every` steps. On a CPU the threads also take cores from training,
which the difference between the rounds shows. What is printed are medians. Restoring verifies every checksum first.
"""

import statistics
import tempfile
import time
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import command_line

CONFIG = config_flags.DEFINE_config_file("config", "configs/quickstart.py", "The experiment.")
STEPS = flags.DEFINE_integer("steps", 50, "Steps of a round.", lower_bound=3)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each kind.", lower_bound=1)
FOLDER = flags.DEFINE_string("folder", None, "On the disk to measure; else that of temporary files.")


def main(argv: list[str]) -> None:
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()
    import jax

    from tx_jax import sharding
    from tx_jax.config import from_config_dict
    from tx_jax.evaluation.evaluate import device_batch
    from tx_jax.nn.dropout import dropout_key
    from tx_jax.runs.checkpoint import Checkpoints
    from tx_jax.tasks.registry import open_task
    from tx_jax.training.optimizer import Optimizer
    from tx_jax.training.state import abstract_state, init_state
    from tx_jax.training.step import jit_train_step

    config = from_config_dict(CONFIG.value)
    task, phase = open_task(config), config.training_phases[0]
    mesh, optimizer = sharding.make_mesh(config.mesh), Optimizer(config)
    batch = task.batches("train", batch_size=phase.batch_size, repeat=True, phase=phase).batch_at(0)
    step_fn, rng, placed = (
        jit_train_step(config, task.objective, optimizer),
        dropout_key(config.seed),
        device_batch(batch, mesh),
    )
    state = init_state(task.objective, optimizer, config.seed, mesh)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    blocked, written, rounds, restored = [], [], {False: [], True: []}, []

    def steps(state, checkpoints):
        for _ in range(STEPS.value):
            state, metrics = step_fn(state, placed, rng)
            jax.block_until_ready(metrics)
            checkpoints.poll()
        return state

    with tempfile.TemporaryDirectory(dir=FOLDER.value) as folder, jax.set_mesh(mesh):
        with Checkpoints(Path(folder), keep_last=1) as checkpoints:
            state = steps(state, checkpoints)  # compiles
            for number in range(2 * ROUNDS.value):
                saving, began = bool(number % 2), time.perf_counter()
                if saving:
                    checkpoints.save(state)
                    blocked.append(time.perf_counter() - began)
                state = steps(state, checkpoints)
                rounds[saving].append(time.perf_counter() - began)
                checkpoints.wait()
            for _ in range(ROUNDS.value):
                state, metrics = step_fn(state, placed, rng)
                jax.block_until_ready(metrics)
                began = time.perf_counter()
                checkpoints.save(state)
                checkpoints.wait()
                written.append(time.perf_counter() - began)
        for _ in range(ROUNDS.value):
            began = time.perf_counter()
            with Checkpoints(Path(folder), read_only=True) as reader:
                target = abstract_state(task.objective, optimizer, mesh)
                jax.block_until_ready(reader.restore(reader.newest(), target))
            restored.append(time.perf_counter() - began)
    save, without, with_ = (statistics.median(values) for values in (blocked, rounds[False], rounds[True]))
    step, every = without / STEPS.value, config.training.checkpoint_every
    print(f"state                     {size:,} bytes on {mesh.devices.size} x {mesh.devices.flat[0].device_kind}")
    print(f"a step                    {step * 1e3:,.1f} ms")
    print(f"a save blocks             {save * 1e3:,.1f} ms, {save / step:,.1f} steps")
    print(f"  every {every:,} steps".ljust(26) + f"{save / (save + every * step):.3%} of the time")
    print(f"{STEPS.value} steps, with a save".ljust(26) + f"{with_ - without:+.3f} s, of {without:.3f} s")
    print(f"on disk, nothing else on  {statistics.median(written):.3f} s")
    print(f"verify and restore        {statistics.median(restored):.3f} s")


if __name__ == "__main__":
    command_line.run(main)

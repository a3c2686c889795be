"""Measures what checkpoints cost a run: how long it stands still for a save, and how long a resume reads.

    python -m benchmarks.checkpoints --config=configs/quickstart.py

Rounds of --steps steps without and with a save at their start take turns. A save blocks the loop while the state is
copied from the devices; then it is written by threads, while training goes on. The share is that of the run as
configured, with a save every `training.checkpoint_every` steps. On a CPU the threads also take cores from training,
which the difference between the rounds shows. What is printed are medians. Restoring verifies every checksum first.

    python -m benchmarks.checkpoints --config=configs/bert_large.py --gigabytes=4 --out=gs://bucket/x --step_ms=60.3

saves, verifies and restores a state of that size, of random numbers in arrays of 64 MB, here or on a store, without
training; --step_ms, of a plan, gives the share of the time that saving as often as --config says would block.
"""

import contextlib
import statistics
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

from absl import flags
from ml_collections import config_flags

from experiments import command_line
from tx_jax.errors import InputError
from tx_jax.files import is_local, path_of

CONFIG = config_flags.DEFINE_config_file("config", "configs/quickstart.py", "The experiment.")
STEPS = flags.DEFINE_integer("steps", 50, "Steps of a round.", lower_bound=3)
ROUNDS = flags.DEFINE_integer("rounds", 5, "Rounds of each kind.", lower_bound=1)
OUT = flags.DEFINE_string("out", None, "On the disk to measure, or on a store; else the folder of temporary files.")
GIGABYTES = flags.DEFINE_float("gigabytes", 0.0, "Of a state of random numbers, instead of the configuration's.")
STEP_MS = flags.DEFINE_float("step_ms", 0.0, "Of a step, for the share of the time with --gigabytes.")
MEGABYTES = 64  # of an array of such a state


@contextlib.contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """One that nothing else is in; on a store it stays."""
    if is_local(out):
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="benchmark-", dir=out) as folder:
            yield Path(folder)
        return
    folder = out / f"benchmark-{time.strftime('%Y%m%d-%H%M%S')}"
    try:
        yield folder
    finally:
        print(f"left there: {folder}")


def at_size(folder: Path, every: int) -> None:
    import jax
    import numpy as np

    from tx_jax import sharding
    from tx_jax.config import MeshConfig
    from tx_jax.runs.checkpoint import Checkpoints
    from tx_jax.training.state import TrainState

    mesh = sharding.make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    placed = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    numbers = np.random.default_rng(0)
    count = round(GIGABYTES.value * 1000 / MEGABYTES)
    shape, times = (MEGABYTES * 1000, 250), {}

    def digests(state: TrainState) -> list[int]:
        return [zlib.crc32(np.asarray(leaf)) for leaf in jax.tree.leaves(state.params)]

    def timed(what: str, began: float) -> None:
        times.setdefault(what, []).append(time.perf_counter() - began)
        print(f"{what:26}{times[what][-1]:.3f} s", flush=True)

    params = {str(n): jax.device_put(numbers.standard_normal(shape, np.float32), placed) for n in range(count)}
    state = TrainState(np.int32(0), params, {})
    with Checkpoints(folder, keep_last=1) as checkpoints:
        for step in range(ROUNDS.value):
            state = state.replace(step=jax.device_put(np.int32(step), placed))
            began = time.perf_counter()
            checkpoints.save(state)
            timed("a save blocks", began)
            checkpoints.wait()
            timed("written", began)
    target = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed), state)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    saved, state, params = digests(state), None, None  # memory for what is restored
    for _ in range(ROUNDS.value):
        restored = None
        with Checkpoints(folder, read_only=True) as reader:
            began = time.perf_counter()
            step = reader.newest()
            timed("verified", began)
            began = time.perf_counter()
            restored = jax.block_until_ready(reader.restore(step, target))
            timed("restored", began)
    assert digests(restored) == saved
    print(f"state                     {size:,} bytes, {folder}")
    for what, seconds in times.items():
        print(f"{what:26}{min(seconds):.3f} s at least, median {statistics.median(seconds):.3f} s")
    if STEP_MS.value:
        blocked, between = statistics.median(times["a save blocks"]), every * STEP_MS.value / 1e3
        print(
            f"  every {every:,} steps of {STEP_MS.value:g} ms".ljust(34)
            + f"{blocked / (blocked + between):.3%} of the time"
        )


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
    out = path_of(OUT.value or tempfile.gettempdir(), "--out")
    if GIGABYTES.value:
        with new_folder(out) as folder:
            return at_size(folder, config.training.checkpoint_every)
    if not is_local(out):
        raise InputError("--out: without --gigabytes this is measured on a local disk alone")
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

    with new_folder(out) as folder, jax.set_mesh(mesh):
        with Checkpoints(folder, keep_last=1) as checkpoints:
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
            with Checkpoints(folder, read_only=True) as reader:
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

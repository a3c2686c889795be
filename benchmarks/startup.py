"""Measures how long a training takes to get to its first step, in fresh processes, without and with programs in the
compilation cache.

    python -m benchmarks.startup
    python -m benchmarks.startup --config=configs/gpt2_small.py --config.training.batch_size=4 --rounds=3

By default a BERT of 4 layers, 256 wide (MLP 1,024, 16 x 128 tokens, vocabulary 8,192, float32, dropout on). No data is
read: batches are of ones. Each round starts two processes, the first with an empty cache, the second with what the
first left there; medians over rounds are printed, of seconds and of the CPU's seconds, which other work on the machine
changes less. `evaluation step` is that of held-out data, compiled and run once. What a run also does, such as opening
its data and drawing tables, is not measured here.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

from absl import flags
from ml_collections import config_flags

from experiments import command_line

CONFIG = config_flags.DEFINE_config_file("config", "configs/bert_base.py", "The experiment; default: BERT mini.")
ROUNDS = flags.DEFINE_integer("rounds", 3, "Rounds of two processes.", lower_bound=1)
JSON = flags.DEFINE_string("json", None, "A file for the results.")
WORKER = flags.DEFINE_string("worker", None, "Used by the benchmark itself: measure in this process with this cache.")
MINI = {
    "model": {"num_layers": 4, "dim": 256, "num_heads": 4, "mlp_dim": 1024, "vocab_size": 8192, "dtype": "float32"},
    "training": {"batch_size": 16, "eval_batch_size": 16},
    "phases": {"steps": (), "sequence_length": (), "max_predictions": (), "batch_size": ()},
}
SUM = ("initialize", "place a batch", "trace and lower", "compile", "first step")


def main(argv: list[str]) -> None:
    if not any(argument.startswith("--config=") for argument in sys.argv):
        for group, values in MINI.items():
            CONFIG.value[group].update(values)
    if WORKER.value is not None:
        print(json.dumps(measured(CONFIG.value, WORKER.value)))
        return
    from benchmarks import measure

    result = measure.print_header(measure.calibration())
    rounds: dict[str, list[dict[str, list[float]]]] = {"empty cache": [], "cached": []}
    for _ in range(ROUNDS.value):
        with tempfile.TemporaryDirectory() as cache:
            for each in rounds.values():
                each.append(in_new_process(cache))
    rows = [
        {"seconds": part}
        | {
            name + cpu: statistics.median(one[part][i] for one in each)
            for i, cpu in enumerate(("", ", CPU"))
            for name, each in rounds.items()
        }
        for part in rounds["cached"][0]
    ]
    measure.print_table(rows)
    measure.write_json(JSON.value, result | {"rows": rows, "rounds": rounds})


def in_new_process(cache: str) -> dict[str, list[float]]:
    command = [sys.executable, "-m", "benchmarks.startup", *sys.argv[1:], f"--worker={cache}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def measured(values, cache: str) -> dict[str, list[float]]:
    """Seconds and CPU seconds of each part in this process, which has imported neither jax nor tx_jax so far."""
    seconds: dict[str, list[float]] = {}
    before = [time.perf_counter(), time.process_time()]

    def until_now(name: str) -> None:
        nonlocal before
        now = [time.perf_counter(), time.process_time()]
        seconds[name], before = [b - a for a, b in zip(before, now, strict=True)], now

    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()
    import jax
    import numpy as np

    from experiments import display  # noqa: F401  with what the command imports besides
    from tx_jax import sharding
    from tx_jax.config import from_config_dict
    from tx_jax.evaluation.evaluate import device_batch, jit_eval_step
    from tx_jax.hosts import compilation
    from tx_jax.nn.dropout import dropout_key
    from tx_jax.tasks.registry import objective_of
    from tx_jax.training import loop  # noqa: F401
    from tx_jax.training.optimizer import Optimizer
    from tx_jax.training.state import init_state
    from tx_jax.training.step import jit_train_step

    compilation.keep_programs(cache)
    until_now("import")
    config = from_config_dict(values)
    objective, optimizer, mesh = objective_of(config), Optimizer(config), sharding.make_mesh(config.mesh)
    shapes = objective.batch_shapes(config.training_phases[0])
    until_now("configure")
    state = jax.block_until_ready(init_state(objective, optimizer, config.seed, mesh))
    until_now("initialize")
    with jax.set_mesh(mesh):
        placed = device_batch({name: np.ones(x.shape, x.dtype) for name, x in shapes.items()}, mesh)
        key, step = dropout_key(config.seed), jit_train_step(config, objective, optimizer)
        until_now("place a batch")
        lowered = step.lower(state, placed, key)
        until_now("trace and lower")
        compiled = lowered.compile()
        until_now("compile")
        state, _ = jax.block_until_ready(compiled(state, placed, key))
        until_now("first step")
        seconds["to the first step, imported"] = [sum(of) for of in zip(*(seconds[name] for name in SUM), strict=True)]
        state, _ = jax.block_until_ready(compiled(state, placed, key))
        until_now("second step")
        jax.block_until_ready(jit_eval_step(objective, mesh)(state.params, placed))
        until_now("evaluation step")
    return seconds


if __name__ == "__main__":
    command_line.run(main)

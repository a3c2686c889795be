"""Evaluates a run on held-out data, each metric beside what a trivial predictor would reach.

    python -m experiments.evaluate --workdir=runs/bert
    python -m experiments.evaluate --workdir=runs/bert --step=20000
    python -m experiments.evaluate --workdir=runs/cola --split=test

The result goes to the screen and to WORKDIR/evaluation.json.
"""

import json
from pathlib import Path

from absl import flags

from experiments import command_line

WORKDIR = flags.DEFINE_string("workdir", None, "The run directory.")
STEP = flags.DEFINE_integer("step", None, "The checkpoint's step; the newest if not given.")
STORE = flags.DEFINE_string("store", None, "A token store of the same tokenizer; by default that of training.")
SPLIT = flags.DEFINE_string("split", "validation", "Of a fine-tuned model: validation or test.")
BATCHES = flags.DEFINE_integer("batches", 0, "Held-out batches; 0 is all.", lower_bound=0)


def main(argv: list[str]) -> int:
    if not WORKDIR.value:
        command_line.fail("--workdir is needed: the run directory that experiments.train made")
    from rich.table import Table

    from experiments.display import make_console
    from tx_jax.config import LabeledDataConfig
    from tx_jax.errors import InputError
    from tx_jax.files import write_atomically
    from tx_jax.tasks.registry import open_task
    from tx_jax.training import trained
    from tx_jax.training.evaluate import held_out, with_perplexities
    from tx_jax.training.run_dir import RunDir

    model = trained.load(Path(WORKDIR.value), STEP.value)
    if model.config is None:
        raise InputError(f"{WORKDIR.value} is a converted model, not a run: there is no data to evaluate it on")
    source = STORE.value or model.config.data.source
    task = open_task(model.config, STORE.value, model.tokenizer)
    if not STORE.value and task.data_fingerprint != RunDir(Path(WORKDIR.value)).data_fingerprint():
        anyway = (
            "" if isinstance(model.config.data, LabeledDataConfig) else f"; if that is meant, give --store={source}"
        )
        raise InputError(
            f"{source} changed since {WORKDIR.value} was trained on it, and may hold out what was trained on: restore "
            f"it{anyway}"
        )
    # A multiple of the devices; rows that only fill up carry weight 0.
    devices = model.mesh.devices.size
    batch_size = -(-model.config.training.eval_batch_size // devices) * devices
    batches = task.batches(SPLIT.value, batch_size=batch_size, repeat=False)
    values = model.evaluate(task, held_out(batches, BATCHES.value), SPLIT.value)
    baselines = task.baselines(held_out(batches, BATCHES.value), SPLIT.value)
    trivial = with_perplexities({name: value for name, (value, _) in baselines.items()})
    baselines |= {name: (trivial[name], "") for name in trivial.keys() - baselines.keys()}
    table = Table(f"on {SPLIT.value} data", "model", "baseline", "", title=f"Step {model.step} of {WORKDIR.value}")
    for name, value in values.items():
        baseline, what = baselines.get(name, (None, ""))
        table.add_row(name, f"{value:.4f}", "" if baseline is None else f"{baseline:.4f}", what)
    make_console().print(table)
    result = {"step": model.step, "metrics": values, "baselines": {k: v for k, (v, _) in baselines.items()}}
    write_atomically(Path(WORKDIR.value) / "evaluation.json", json.dumps(result, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    command_line.run(main)

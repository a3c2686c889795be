"""The front door: what `import tx_jax` offers in Python.

    model = tx_jax.load("runs/bert")                    # or a converted model, a Hugging Face folder or name
    model.fill_mask("Madrid is the [MASK] of Spain.")   # for each mask, the most probable tokens
    model.encode(["one text", "another"])               # float32 [2, D]
    tx_jax.train(bert_base.get_config("smoke"), workdir="runs/mine")

The commands of `experiments` call the same functions of the library. A `Model` is also what those functions take, such
as `decoding.generate` for many prompts or `interpret.capture.stream` for many texts.
"""

import dataclasses
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from tx_jax.config import LabeledDataConfig
from tx_jax.errors import InputError, InputWarning
from tx_jax.loaded import Model
from tx_jax.runs import trained
from tx_jax.runs.open_model import open_model
from tx_jax.runs.trained import Trained
from tx_jax.training.run import Run

__all__ = ["Model", "load", "train"]


def load(name: str | Path, *, step: int | None = None, heads: Sequence[str] | None = None, average: int = 1) -> Model:
    """Opens a model: a run directory, a converted model, a Hugging Face folder, or a name on the Hugging Face Hub.

    Args:
      name: its path, or its name on the Hub.
      step: for a run: the checkpoint's step; None: a fine-tuned run's best, the newest of other runs.
      heads: for a Hugging Face model: the heads to read; None: those that it has.
      average: for a run: the mean of the parameters of so many checkpoints.

    Raises:
      InputError: there is no model there (it says what was looked for), or it is damaged.

    Examples:
      >>> tx_jax.load("models/bert").can
      ('fill_mask', 'encode', 'capture')
    """
    if isinstance(heads, str):
        raise InputError(f"load, heads={heads!r}: give a list, such as [{heads!r}]")
    opened = open_model(name, step=step, heads=heads, average=average)
    placed = trained.place(opened)
    values = {field.name: getattr(placed, field.name) for field in dataclasses.fields(Trained)}
    return Model(**values, opened=opened)


def train(config: Any, workdir: str | Path, *, progress: bool = True) -> dict[str, dict[str, float]]:
    """Trains as `experiments.train` does: a new run, or on from the newest checkpoint of the one in the folder.

    Args:
      config: what a configuration's `get_config` returns, changed as you like, or the same as nested plain values.
      workdir: the run directory.
      progress: whether to show a bar, and what was filled in or chosen. What deserves a second look is an InputWarning.

    Returns:
      Metrics by split: the last evaluation on "validation"; after fine-tuning those of the best checkpoint, on every
      split.

    Raises:
      InputError: what cannot be used, before any work.
      Stopped: Ctrl-C or SIGTERM; the state is saved, and the same call continues.

    Examples:
      >>> config = tx_jax.get_config("bert_base:smoke")
      >>> config.data.store = "data/mine"
      >>> config.training.update(num_steps=2, eval_every=0, checkpoint_every=2, keep_best=0)
      >>> tx_jax.train(config, "runs/mine", progress=False)["validation"].keys() >= {"masked_lm_accuracy"}
      True
    """
    from tx_jax.evaluation import report
    from tx_jax.files import path_of
    from tx_jax.runs import plots, trackers
    from tx_jax.training import loop
    from tx_jax.training.open_run import open_run

    if not isinstance(config, dict) and not hasattr(config, "to_dict"):
        raise InputError(
            f"train takes a configuration, not {config!r:.60} ({type(config).__name__}): "
            "tx_jax.get_config(NAME) makes one"
        )
    values = config if isinstance(config, dict) else config.to_dict()
    if missing := sorted({"data", "model", "training"} - values.keys()):
        raise InputError(f"train: the configuration lacks {', '.join(missing)}; tx_jax.get_config(NAME) makes one")
    place = path_of(workdir, "workdir")
    opened = open_run(values, place)
    for line in opened.told if progress else ():
        print(line, flush=True)
    for line in opened.notices:
        warnings.warn(line, InputWarning, stacklevel=2)
    task = opened.task
    with (
        trackers.tracking(task.config.training.trackers) as tracking,
        _Progress(task.config.training.num_steps, shown=progress) as display,
    ):
        found = {"validation": loop.train(task.config, task, place, display, opened.start_from, tracking=tracking)}
        plots.draw_curves(place)
        batches = task.config.training.final_eval_batches
        if isinstance(task.config.data, LabeledDataConfig) and batches >= 0:
            reports = report.evaluate_run(place, task=task, batches=batches)
            report.write(place, reports)
            found = {split: dict(one.metrics) for split, one in reports.items()}
        tracking.summarize(place, {f"{split}/{name}": x for split, of in found.items() for name, x in of.items()})
    return found


class _Progress:
    """A bar of steps with the last loss and evaluation, as `training.run.Display`."""

    def __init__(self, steps: int, *, shown: bool):
        self._bar = tqdm(total=steps, unit="step", dynamic_ncols=True, disable=not shown)
        self._values: dict[str, float] = {}

    def __enter__(self) -> "_Progress":
        return self

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def start(self, run: Run, start_step: int, changes: list[str]) -> None:
        del run, changes
        self._bar.update(start_step)

    def pace(self, start: int, step: int, seconds: float) -> None: ...

    def train(self, step: int, values: dict[str, float]) -> None:
        self._note({"loss": values["loss"]})
        self._bar.update(step - self._bar.n)

    def evaluation(self, step: int, values: dict[str, float]) -> None:
        """Of several losses that of the language model: a line that is broken in two cannot be written over."""
        del step
        losses = [name for name in values if name.endswith("loss")]
        chosen = [name for name in losses if name.endswith("lm_loss")] or losses
        self._note({f"held-out {name}": values[name] for name in chosen})

    def _note(self, values: dict[str, float]) -> None:
        """What is shown from the next step on: of the bar one line a time, since notebooks made into pages keep all."""
        self._values |= values
        self._bar.set_postfix(self._values, refresh=False)

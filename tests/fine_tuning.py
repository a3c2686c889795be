"""A training in this process, as experiments.train does it."""

import dataclasses
import pathlib
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from rich.console import Console

from experiments.display import figures_table
from tx_jax import tree
from tx_jax.config import ExperimentConfig, from_config_dict
from tx_jax.runs.start import open_start
from tx_jax.tasks.registry import open_task
from tx_jax.training import loop
from tx_jax.training.run import Run


@dataclasses.dataclass
class Trained:
    """What a training left.

    Attributes:
      run: as it was before the first step, but for its arrays, which are gone.
      before: the parameters before the first step, by path.
      shown: the table of figures at the start.
      result: of the last evaluation.
    """

    config: ExperimentConfig
    run: Run
    before: dict[str, np.ndarray]
    shown: str
    result: dict[str, float]


class _Display:
    run: Run | None = None

    def start(self, run: Run, *_: Any) -> None:
        self.run = dataclasses.replace(run)
        console = Console(width=400)
        with console.capture() as capture:
            console.print(figures_table(run))
        self.shown = capture.get()
        self.before = {path: np.array(x) for path, x in tree.flatten(run.state.params).items()}

    def pace(self, *_: Any) -> None: ...

    def train(self, *_: Any) -> None: ...

    def evaluation(self, *_: Any) -> None: ...


def train(c: ConfigDict, workdir: pathlib.Path) -> Trained:
    values, start = open_start(c.to_dict(), workdir)
    task = open_task(
        from_config_dict(values), tokenizer=start and start.tokenizer, label_order=start.labels if start else ()
    )
    display = _Display()
    result = loop.train(task.config, task, workdir, display, start)
    return Trained(task.config, display.run, display.before, display.shown, result)


def one_step(c: ConfigDict) -> None:
    """A step that changes next to nothing."""
    c.optimizer.update(learning_rate=1e-9, warmup_steps=0, warmup_share=0.0)
    c.training.update(num_steps=1, num_epochs=0.0, checkpoint_every=1, eval_every=0, eval_batches=0, keep_best=0)

"""A run's metrics on held-out data, next to those of a trivial predictor."""

import dataclasses
import functools
import statistics
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import jax
import numpy as np

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, LabeledDataConfig
from tx_jax.errors import InputError, InputWarning
from tx_jax.evaluation.evaluate import (
    EvalStep,
    evaluate_model,
    even_batch_size,
    held_out,
    jit_eval_step,
    num_held_out,
    with_perplexities,
)
from tx_jax.files import json_text, write_atomically
from tx_jax.models import forward
from tx_jax.runs import data_paths, trained
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.trained import Trained
from tx_jax.tasks.base import Task
from tx_jax.tasks.registry import open_task
from tx_jax.tasks.supervised import Supervised


@dataclasses.dataclass(frozen=True)
class Report:
    """One split at one step.

    Attributes:
      step: the optimizer step of the parameters; None for a model without a run.
      baselines: value and name of the baseline, for metrics that have one.
      batches: number of batches evaluated, and number of batches in the split.
      confusion: int [L, L] of a task that predicts single labels, see `Supervised.confusion`; None for others.
      label_counts: int [L, 3] of a task that predicts sets of labels, see `Supervised.label_counts`; None for others.
      labels: of the rows of either.
    """

    step: int | None
    metrics: dict[str, float]
    baselines: dict[str, tuple[float, str]]
    batches: tuple[int, int] = (0, 0)
    confusion: np.ndarray | None = None
    label_counts: np.ndarray | None = None
    labels: tuple[str, ...] = ()

    @property
    def is_whole(self) -> bool:
        """Whether it covers all batches of the split."""
        return self.batches[0] == self.batches[1]


Progress = Callable[[str, int, int], None]  # called with what is evaluated, batches done, and all batches


def evaluate_run(
    workdir: Path,
    *,
    task: Task | None = None,
    step: int | None = None,
    store: str | None = None,
    split: str | None = None,
    batches: int = 0,
    progress: Progress = lambda what, done, total: None,
) -> dict[str, Report]:
    """The report of each split, computed on the run's mesh if it fits the available devices: a model that was trained
    sharded may be too large for one device to hold all of it.

    Args:
      task: the run's task, if it is already open.
      step: see `trained.load`.
      store: for pretraining, token stores to use instead of those of training.
      split: the only split to evaluate; None: all except the training data.
      batches: evaluate only this many batches; 0: all.

    Raises:
      InputError: there is no run or checkpoint, or the data is not what it was trained on.
    """
    model = trained.load(workdir, step, mesh_of=_run_mesh)
    if model.config is None:
        raise InputError(f"{workdir} is not a run, so it has no data to evaluate on: give --data=FILE")
    data = model.config.data
    labeled = isinstance(data, LabeledDataConfig)
    if labeled and store:
        raise InputError(f"--store={store}: {workdir} was fine-tuned on labeled examples, not on a token store")
    if task is None:
        task = open_task(data_paths.found(RunDir(workdir), model.config, store=store), store, model.tokenizer)
        data = task.config.data
    if not store and task.data_fingerprint != RunDir(workdir).data_fingerprint():
        source = " or ".join(filter(None, (data.train, data.validation))) if labeled else data.source
        raise InputError(
            f"{source} changed since {workdir} was trained on it, so held-out data may hold training data: restore it"
            + ("" if labeled else f"; if that is meant, give --store={data.source}")
        )
    every = data.evaluation_splits if labeled else getattr(task, "held_out_splits", ("validation",))
    eval_step = jit_eval_step(task.objective, model.mesh)
    names = every if split is None else (split,)
    return {name: evaluate_split(model, task, name, batches, eval_step, progress=progress) for name in names}


def evaluate_split(
    model: Trained,
    task: Task,
    split: str,
    batches: int = 0,
    eval_step: EvalStep | None = None,
    *,
    progress: Progress = lambda what, done, total: None,
) -> Report:
    """The report of one split. For `eval_step` see `evaluate_model`, for the rest `evaluate_run`."""
    batch_size = even_batch_size(task.config.training.eval_batch_size, model.mesh)
    part = task.batches(split, batch_size=batch_size, repeat=False)
    name = "the model" if model.step is None else f"the model of step {model.step}"
    here = functools.partial(progress, f"{name} on {split} data")
    of_labels: dict[str, np.ndarray | None] = {}

    def scores(outputs: Mapping[str, np.ndarray]) -> dict[str, float]:
        if isinstance(task, Supervised):
            of_labels["confusion"] = task.confusion(outputs, split)
            of_labels["label_counts"] = task.label_counts(outputs, split)
        return task.scores(outputs, split)

    values = evaluate_model(model, task, held_out(part, batches, here), split, eval_step, scores)
    here = functools.partial(progress, f"the baselines on {split} data")
    baselines = task.baselines(held_out(part, batches, here), split)
    trivial = with_perplexities({key: value for key, (value, _) in baselines.items()})
    baselines |= {key: (trivial[key], "") for key in trivial.keys() - baselines.keys()}
    known = {name: counts for name, counts in of_labels.items() if counts is not None}
    labels = task.config.labeled.labels if known else ()
    return Report(model.step, values, baselines, (num_held_out(part, batches), len(part)), **known, labels=labels)


def _run_mesh(config: ExperimentConfig) -> jax.sharding.Mesh | None:
    """The mesh that a run was trained on; None, with a warning, if it does not fit the available devices."""
    try:
        mesh = sharding.make_mesh(config.mesh)
        sharding.check_divisible(mesh, config)
        sharding.state_sharding(mesh, forward.param_shapes(config.model, config.lora))
    except InputError as error:
        text = f"{error}: evaluation splits only the examples, so every device holds all parameters"
        warnings.warn(text, InputWarning, stacklevel=2)
        return None
    return mesh


def write(workdir: Path, reports: Mapping[str, Report]) -> None:
    """Writes WORKDIR/evaluation.json: for every split the step, the number of batches evaluated and in total, the
    metrics, the values of the baselines and, where single labels are predicted, which was taken for which, or, where
    sets of them are, how often each was right. A file that already has this content is not rewritten."""
    values = {
        name: {
            "step": report.step,
            "batches": {"first": report.batches[0], "of": report.batches[1]},
            "metrics": report.metrics,
            "baselines": {metric: value for metric, (value, _) in report.baselines.items()},
            **_of_labels(report),
        }
        for name, report in reports.items()
    }
    path, text = workdir / "evaluation.json", json_text(values, indent=2) + "\n"
    if not path.is_file() or path.read_text() != text:
        write_atomically(path, text)


def _of_labels(report: Report) -> dict[str, dict[str, list]]:
    found = {"confusion": report.confusion, "label_counts": report.label_counts}
    return {
        name: {"labels": list(report.labels), "counts": counts.tolist()}
        for name, counts in found.items()
        if counts is not None
    }


@dataclasses.dataclass(frozen=True)
class Spread:
    """A metric over several runs that differ only in their seed.

    Attributes:
      deviation: the standard deviation over runs (with N - 1); that of the mean is smaller by sqrt(N).
      values: the value of each run.
    """

    mean: float
    deviation: float
    values: tuple[float, ...]


def spread(runs: Sequence[Mapping[str, Report]]) -> dict[str, dict[str, Spread]]:
    """Every metric of every split over two or more runs."""
    return {
        split: {
            name: Spread(statistics.fmean(values), statistics.stdev(values), values)
            for name in report.metrics
            for values in [tuple(run[split].metrics[name] for run in runs)]
        }
        for split, report in runs[0].items()
    }

"""A run on held-out data, each metric beside what a trivial predictor would reach."""

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from tx_jax.config import LabeledDataConfig
from tx_jax.errors import InputError
from tx_jax.evaluation.evaluate import (
    EvalStep,
    evaluate_model,
    even_batch_size,
    held_out,
    jit_eval_step,
    with_perplexities,
)
from tx_jax.files import write_atomically
from tx_jax.runs import trained
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.trained import Trained
from tx_jax.tasks.base import Task
from tx_jax.tasks.registry import open_task


@dataclasses.dataclass(frozen=True)
class Report:
    """One split at one step.

    Attributes:
      step: None of a model that no run stands behind.
      baselines: for metrics that have one, its value and name.
    """

    step: int | None
    metrics: dict[str, float]
    baselines: dict[str, tuple[float, str]]


def evaluate_run(
    workdir: Path,
    *,
    task: Task | None = None,
    step: int | None = None,
    store: str | None = None,
    split: str | None = None,
    batches: int = 0,
) -> dict[str, Report]:
    """The report of each split.

    Args:
      task: that of the run, if it is open already.
      step: as of `trained.load`.
      store: for pretraining, other token stores than those of training.
      split: the only one; None: all that there are beside the training data.
      batches: so many only; 0: all.

    Raises:
      InputError: no run, no checkpoint, or other data than it was trained on.
    """
    model = trained.load(workdir, step)
    if model.config is None:
        raise InputError(f"{workdir} is not a run, so it has no data to evaluate it on: give --data=FILE")
    data = model.config.data
    labeled = isinstance(data, LabeledDataConfig)
    if labeled and store:
        raise InputError(f"--store={store}: {workdir} was fine-tuned on examples with labels, not on a token store")
    task = task or open_task(model.config, store, model.tokenizer)
    if not store and task.data_fingerprint != RunDir(workdir).data_fingerprint():
        source = " or ".join(filter(None, (data.train, data.validation))) if labeled else data.source
        raise InputError(
            f"{source} changed since {workdir} was trained on it, and may hold out what was trained on: restore it"
            + ("" if labeled else f"; if that is meant, give --store={data.source}")
        )
    every = data.evaluation_splits if labeled else ("validation",)
    eval_step = jit_eval_step(task.objective, model.mesh)
    names = every if split is None else (split,)
    return {name: evaluate_split(model, task, name, batches, eval_step) for name in names}


def evaluate_split(
    model: Trained, task: Task, split: str, batches: int = 0, eval_step: EvalStep | None = None
) -> Report:
    """The report of one split. `eval_step`: as of `evaluate_model`."""
    batch_size = even_batch_size(task.config.training.eval_batch_size, model.mesh)
    part = task.batches(split, batch_size=batch_size, repeat=False)
    values = evaluate_model(model, task, held_out(part, batches), split, eval_step)
    baselines = task.baselines(held_out(part, batches), split)
    trivial = with_perplexities({key: value for key, (value, _) in baselines.items()})
    baselines |= {key: (trivial[key], "") for key in trivial.keys() - baselines.keys()}
    return Report(model.step, values, baselines)


def write(workdir: Path, reports: Mapping[str, Report]) -> None:
    """WORKDIR/evaluation.json: of every split the step, the metrics and the values of the baselines."""
    values = {
        name: {
            "step": report.step,
            "metrics": report.metrics,
            "baselines": {metric: value for metric, (value, _) in report.baselines.items()},
        }
        for name, report in reports.items()
    }
    write_atomically(workdir / "evaluation.json", json.dumps(values, indent=2) + "\n")


@dataclasses.dataclass(frozen=True)
class Spread:
    """A metric over several runs that differ in their seed alone.

    Attributes:
      deviation: the standard deviation of a run (with N - 1); that of the mean is smaller by sqrt(N).
      values: of each run.
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

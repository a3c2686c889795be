"""Exact evaluation: sums and weights over every held-out example, divided once."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tx_jax import sharding
from tx_jax.batch import Batch
from tx_jax.runs.trained import Trained
from tx_jax.tasks.base import Batches, Metrics, Objective, Task

EvalStep = Callable[[Any, Batch], tuple[Metrics, Mapping[str, jax.Array]]]
Scores = Callable[[Mapping[str, np.ndarray]], dict[str, float]]


def eval_step(params: Any, batch: Batch, *, objective: Objective) -> tuple[Metrics, dict[str, jax.Array]]:
    """Metrics of one batch, without dropout, and its outputs, if there are any, with which examples they are of.

    The forward pass that both need is compiled into one.
    """
    outputs = objective.outputs(params, batch)
    if outputs:
        outputs |= {"example": batch["example"], "example_weights": batch["example_weights"]}
    return objective.metrics(params, batch, dropout_rng=None), outputs


def jit_eval_step(objective: Objective, mesh: jax.sharding.Mesh) -> EvalStep:
    """`eval_step` of an objective, whose results are on every device."""
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(functools.partial(eval_step, objective=objective), out_shardings=everywhere)


@dataclasses.dataclass(frozen=True)
class _Joined:
    """Several parts of each global batch, one below the other."""

    parts: Sequence[Batches]

    def __len__(self) -> int:
        return len(self.parts[0])

    def batch_at(self, step: int) -> dict[str, np.ndarray]:
        batches = [part.batch_at(step) for part in self.parts]
        return {key: np.concatenate([batch[key] for batch in batches]) for key in batches[0]}


def local_batches(task: Task, split: str, mesh: jax.sharding.Mesh, **options: Any) -> Batches:
    """`task.batches` with the rows that the devices of this process hold, and no others."""
    numbers, count = sharding.batch_parts(mesh)
    parts = [task.batches(split, process=number, num_processes=count, **options) for number in numbers]
    return parts[0] if len(parts) == 1 else _Joined(parts)


def device_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """This process's rows of a batch, as global arrays that are split over the mesh's data axes."""
    numbers, count = sharding.batch_parts(mesh)
    return {
        key: jax.make_array_from_process_local_data(
            sharding.batch_sharding(mesh, key, value.ndim),
            value,
            (value.shape[0] // len(numbers) * count, *value.shape[1:]),
        )
        for key, value in batch.items()
    }


def evaluate(
    eval_step: EvalStep,
    params: Any,
    batches: Iterable[Batch],
    mesh: jax.sharding.Mesh,
    scores: Scores | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """The mean of each metric over the batches, and the scores of their outputs. Rows that only fill up the last batch
    carry weight 0, and are left out of the outputs.

    Returns:
      None if `stopping`, which is asked before each batch, said so.
    """
    totals: Metrics = {}
    parts: list[dict[str, np.ndarray]] = []
    for batch in batches:
        if stopping():
            return None
        metrics, outputs = eval_step(params, device_batch(batch, mesh))
        totals = {name: totals[name] + value if name in totals else value for name, value in metrics.items()}
        if outputs:
            parts.append(jax.device_get(outputs))
    values = {name: value.mean() for name, value in jax.device_get(totals).items()}
    if parts and scores is not None:
        values |= scores(in_order(parts))
    return with_perplexities(values)


def evaluate_model(
    model: Trained, task: Task, batches: Iterable[Batch], split: str = "validation", eval_step: EvalStep | None = None
) -> dict[str, float]:
    """Exact means of the task's metrics over the batches, and its scores.

    Args:
      eval_step: that of the task, which several splits share, so that it is compiled once.
    """
    scores = functools.partial(task.scores, split=split)
    with jax.set_mesh(model.mesh):
        return evaluate(
            eval_step or jit_eval_step(task.objective, model.mesh), model.params, batches, model.mesh, scores
        )


def in_order(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs of several batches as one, by ascending number of their examples, without rows that fill up."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = np.flatnonzero(rows.pop("example_weights"))
    order = real[np.argsort(rows["example"][real], kind="stable")]
    return {name: values[order] for name, values in rows.items()}


def with_perplexities(values: dict[str, float]) -> dict[str, float]:
    """The values, with the perplexity per token where a causal LM's loss is among them, and per byte."""
    perplexities = {}
    if "causal_lm_loss" in values:
        perplexities["causal_lm_perplexity"] = float(np.exp(values["causal_lm_loss"]))
    if "bits_per_byte" in values:
        perplexities["byte_perplexity"] = float(np.exp2(values["bits_per_byte"]))
    return values | perplexities


def even_batch_size(batch_size: int, mesh: jax.sharding.Mesh) -> int:
    """The next multiple of the devices of a mesh that splits examples alone. Rows that only fill up carry weight 0."""
    return -(-batch_size // mesh.devices.size) * mesh.devices.size


def held_out(batches: Batches, limit: int) -> Iterable[Batch]:
    """The first `limit` batches of one pass, or all where it is 0."""
    count = min(limit, len(batches)) if limit else len(batches)
    return map(batches.batch_at, range(count))

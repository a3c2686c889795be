"""Exact evaluation: sums and weights over every held-out example, added up in float64, divided once."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np

from tx_jax import sharding
from tx_jax.batch import Batch
from tx_jax.runs.trained import Trained
from tx_jax.tasks.base import Batches, Metrics, Objective, Task, WeightedSum

EvalStep = Callable[[Any, Batch], tuple[Metrics, Mapping[str, jax.Array]]]
Scores = Callable[[Mapping[str, np.ndarray]], dict[str, float]]
T = TypeVar("T")
Progress = Callable[[int, int], None]  # called with the number of batches done, and of all batches


def eval_step(params: Any, batch: Batch, *, objective: Objective) -> tuple[Metrics, dict[str, jax.Array]]:
    """Metrics of one batch, without dropout, and its outputs, if there are any, with the indices of their examples.

    The forward pass that both need is compiled into one.
    """
    outputs = objective.outputs(params, batch)
    if outputs:
        outputs |= {"example": batch["example"], "example_weights": batch["example_weights"]}
    return objective.metrics(params, batch, dropout_rng=None), outputs


@functools.lru_cache(maxsize=4)
def jit_eval_step(objective: Objective, mesh: jax.sharding.Mesh) -> EvalStep:
    """`eval_step` of an objective, whose results are on every device; one for all objectives that compute the same."""
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


def on_host(metrics: Metrics) -> Metrics:
    """The same sums and weights as Python's numbers, which are float64: a device's float32 adds no 1 to 2**24."""
    return {name: WeightedSum(float(s.total), float(s.weight)) for name, s in jax.device_get(metrics).items()}


def added(sums: Metrics, more: Metrics) -> Metrics:
    """The sums added; keys that only one of them has are kept."""
    return sums | {name: sums[name] + value if name in sums else value for name, value in more.items()}


def evaluate(
    eval_step: EvalStep,
    params: Any,
    batches: Iterable[Batch],
    mesh: jax.sharding.Mesh,
    scores: Scores | None = None,
    *,
    stopping: Callable[[], bool] = lambda: False,
) -> dict[str, float] | None:
    """The mean of each metric over the batches, and the scores of their outputs. Rows that only pad the last batch have
    weight 0, and are left out of the outputs.

    The results of a batch are read while the next one runs, so that the device never waits for the host.

    Returns:
      None if `stopping`, which is called before each batch, returned True.
    """
    totals: Metrics = {}
    parts: list[dict[str, np.ndarray]] = []
    for metrics, outputs in _one_late(_results(eval_step, params, batches, mesh, stopping)):
        if metrics is None:
            return None
        totals = added(totals, on_host(metrics))
        if outputs:
            parts.append(jax.device_get(outputs))
    values = {name: value.mean() for name, value in totals.items()}
    if parts and scores is not None:
        values |= scores(in_order(parts))
    return with_perplexities(values)


def _results(
    eval_step: EvalStep, params: Any, batches: Iterable[Batch], mesh: jax.sharding.Mesh, stopping: Callable[[], bool]
) -> Iterator[tuple[Metrics | None, Any]]:
    for batch in batches:
        if stopping():
            yield None, None
            return
        yield eval_step(params, device_batch(batch, mesh))


def _one_late(results: Iterator[T]) -> Iterator[T]:
    """The same, each only once the next one has been computed, or begun."""
    before = []
    for result in results:
        yield from before
        before = [result]
    yield from before


def evaluate_model(
    model: Trained,
    task: Task,
    batches: Iterable[Batch],
    split: str = "validation",
    eval_step: EvalStep | None = None,
    scores: Scores | None = None,
) -> dict[str, float]:
    """Exact means of the task's metrics over the batches, and its scores.

    Args:
      eval_step: the task's; several splits share it, so that it is compiled once.
      scores: takes the outputs of the whole split; by default the task's scores.
    """
    scores = scores or functools.partial(task.scores, split=split)
    with jax.set_mesh(model.mesh):
        return evaluate(
            eval_step or jit_eval_step(task.objective, model.mesh), model.params, batches, model.mesh, scores
        )


def in_order(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The outputs of several batches as one, in ascending order of example index, without padding rows."""
    rows = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    real = np.flatnonzero(rows.pop("example_weights"))
    order = real[np.argsort(rows["example"][real], kind="stable")]
    return {name: values[order] for name, values in rows.items()}


def with_perplexities(values: dict[str, float]) -> dict[str, float]:
    """The values plus, if a causal LM's loss is among them, the perplexity per token, per byte and per word."""
    perplexities = {}
    if "causal_lm_loss" in values:
        perplexities["causal_lm_perplexity"] = float(np.exp(values["causal_lm_loss"]))
    if "bits_per_byte" in values:
        perplexities["byte_perplexity"] = float(np.exp2(values["bits_per_byte"]))
    if "word_loss" in values:
        perplexities["word_perplexity"] = float(np.exp(values["word_loss"]))
    return values | perplexities


def even_batch_size(batch_size: int, mesh: jax.sharding.Mesh) -> int:
    """The next multiple of the number of devices in a mesh, which can be split along any axes. Padding rows have weight
    0."""
    return -(-batch_size // mesh.devices.size) * mesh.devices.size


def held_out(batches: Batches, limit: int, progress: Progress = lambda done, total: None) -> Iterator[Batch]:
    """The first `limit` batches of one pass, or all where it is 0. `progress` is told before each, and at the end."""
    count = num_held_out(batches, limit)
    for number in range(count):
        progress(number, count)
        yield batches.batch_at(number)
    progress(count, count)


def num_held_out(batches: Batches, limit: int) -> int:
    """How many batches `held_out` gives."""
    return min(limit, len(batches)) if limit else len(batches)

"""Exact evaluation: sums and weights over every held-out example, divided once."""

from collections.abc import Callable, Iterable
from typing import Any

import jax
import numpy as np

from tx_jax import sharding
from tx_jax.tasks.base import Batch, Batches, Metrics

EvalStep = Callable[[Any, Batch], Metrics]


def device_batch(batch: Batch, mesh: jax.sharding.Mesh) -> Batch:
    """This process's rows of a batch, as global arrays that are split over the mesh's data axes."""
    placement = sharding.batch_sharding(mesh)
    return {key: jax.make_array_from_process_local_data(placement, value) for key, value in batch.items()}


def evaluate(eval_step: EvalStep, params: Any, batches: Iterable[Batch], mesh: jax.sharding.Mesh) -> dict[str, float]:
    """The mean of each metric over the batches. Rows that only fill up the last batch carry weight 0."""
    totals: Metrics = {}
    for batch in batches:
        metrics = eval_step(params, device_batch(batch, mesh))
        totals = {name: totals[name] + value if name in totals else value for name, value in metrics.items()}
    return with_perplexities({name: value.value() for name, value in jax.device_get(totals).items()})


def with_perplexities(values: dict[str, float]) -> dict[str, float]:
    """The values, with the perplexity per token where a causal LM's loss is among them, and per byte."""
    perplexities = {}
    if "causal_lm_loss" in values:
        perplexities["causal_lm_perplexity"] = float(np.exp(values["causal_lm_loss"]))
    if "bits_per_byte" in values:
        perplexities["byte_perplexity"] = float(np.exp2(values["bits_per_byte"]))
    return values | perplexities


def held_out(batches: Batches, limit: int) -> Iterable[Batch]:
    """The first `limit` batches of one pass, or all where it is 0."""
    count = min(limit, len(batches)) if limit else len(batches)
    return map(batches.batch_at, range(count))

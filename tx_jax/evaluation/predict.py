"""Predictions of a fine-tuned model for new examples.

They are sorted by length, so that little is computed for padding, and grouped into few shapes, each compiled once.

Shapes: N rows of a table, B of a batch, T the longest row's length.
"""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tx_jax import sharding
from tx_jax.data.by_length import batches_by_length
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError, InputWarning
from tx_jax.evaluation.evaluate import device_batch
from tx_jax.tasks.base import Objective
from tx_jax.tasks.supervised import Record, Supervised


def predict(
    task: Supervised,
    params: Any,
    mesh: jax.sharding.Mesh,
    records: Sequence[Record],
    *,
    batch_size: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[dict[str, Any]]:
    """The task's `predictions` for the records, in order. Issues an InputWarning about truncated or empty texts.

    Args:
      batch_size: rows of full length per batch; batches of shorter rows have as many tokens, see `data/by_length.py`.
      progress: called with the number of rows done, and of all rows.

    Raises:
      InputError: the records do not fit the task, or there is nothing to predict for any of them.
    """
    table = task.encode(records, labeled=False)
    if not len(table):
        raise InputError("there is nothing to predict: no word in any of the examples")
    for what, count in table.counts.items():
        warnings.warn(f"{what}: {count:,} of {len(records):,}", InputWarning, stacklevel=2)
    return task.predictions(outputs(task, params, mesh, table, batch_size, progress), records, table)


def outputs(
    task: Supervised,
    params: Any,
    mesh: jax.sharding.Mesh,
    table: Table,
    batch_size: int,
    progress: Callable[[int, int], None],
) -> dict[str, np.ndarray]:
    """The objective's `outputs` for all rows of the table, in order; where rows have lengths, filled up with zeros."""
    step = _jit_outputs(task.objective, mesh)
    parts: list[tuple[np.ndarray, Mapping[str, np.ndarray]]] = []
    pending: list[tuple[np.ndarray, Mapping[str, jax.Array]]] = []
    done = 0
    with jax.set_mesh(mesh):
        batches = batches_by_length(
            table.lengths, table.length, batch_size, mesh.devices.size, on_cpu=sharding.platform() == "cpu"
        )
        for indices, rows, length in batches:
            batch = table.rows(np.resize(indices, rows), length=length)
            pending.append((indices, step(params, device_batch(batch, mesh))))
            if len(pending) > 1:  # the host fetches one batch while the device computes the next
                parts.append(_fetch(*pending.pop(0)))
            done += len(indices)
            progress(done, len(table))
        parts += [_fetch(*part) for part in pending]
    return {name: _joined([(indices, part[name]) for indices, part in parts], len(table)) for name in parts[0][1]}


@functools.cache  # so that texts that arrive one by one do not compile it each time
def _jit_outputs(objective: Objective, mesh: jax.sharding.Mesh) -> Callable[[Any, Any], dict[str, jax.Array]]:
    everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    return jax.jit(objective.outputs, out_shardings=everywhere)


def _fetch(indices: np.ndarray, values: Mapping[str, jax.Array]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The arrays on the host, without padding rows."""
    return indices, {name: np.asarray(value)[: len(indices)] for name, value in jax.device_get(values).items()}


def _joined(parts: Sequence[tuple[np.ndarray, np.ndarray]], count: int) -> np.ndarray:
    shape = np.max([part.shape[1:] for _, part in parts], axis=0).astype(int)
    joined = np.zeros((count, *shape), parts[0][1].dtype)
    for indices, part in parts:
        joined[(indices, *(slice(size) for size in part.shape[1:]))] = part
    return joined

"""Encoded labeled examples, each of which can become a row of a batch.

Shapes: N examples in the table, B examples in a batch, C choices, T sequence length.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from tx_jax.data.pretraining.targets import Batch
from tx_jax.data.rng import RowRandom


@dataclasses.dataclass(frozen=True)
class Ragged:
    """N sequences of different lengths.

    Attributes:
      values: the concatenated sequences.
      offsets: int64 [N + 1], where each sequence begins.
      fill: the padding value.
    """

    values: np.ndarray
    offsets: np.ndarray
    fill: int = 0

    @classmethod
    def of(cls, sequences: Iterable[Sequence[int]], *, fill: int = 0, dtype: type = np.int32) -> "Ragged":
        arrays = [np.asarray(sequence, dtype) for sequence in sequences]
        offsets = np.concatenate([[0], np.cumsum([len(array) for array in arrays], dtype=np.int64)]).astype(np.int64)
        return cls(np.concatenate([np.empty(0, dtype), *arrays]), offsets, fill)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def nbytes(self) -> int:
        return self.values.nbytes + self.offsets.nbytes

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        return np.diff(self.offsets)

    def rows(self, indices: np.ndarray, length: int) -> np.ndarray:
        """[B, T]: the sequences with these indices, padded to `length`, which none exceeds."""
        inside = self.inside(indices, length)
        rows = np.full(inside.shape, self.fill, self.values.dtype)
        positions = self.offsets[indices][:, None] + np.arange(length)
        rows[inside] = self.values[positions[inside]]
        return rows

    def inside(self, indices: np.ndarray, length: int) -> np.ndarray:
        """bool [B, T]: which positions of the rows are not padding."""
        return np.arange(length) < self.lengths[indices][:, None]


@dataclasses.dataclass(frozen=True)
class Groups:
    """N groups of C sequences each, which become [B, C, T].

    Attributes:
      members: the N * C sequences.
      size: C.
    """

    members: Ragged
    size: int

    def __len__(self) -> int:
        return len(self.members) // self.size

    @property
    def nbytes(self) -> int:
        return self.members.nbytes

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """The length of the longest sequence in each group: int64 [N]."""
        return self.members.lengths.reshape(-1, self.size).max(axis=1)

    def rows(self, indices: np.ndarray, length: int) -> np.ndarray:
        return self.members.rows(self._numbers(indices), length).reshape(-1, self.size, length)

    def inside(self, indices: np.ndarray, length: int) -> np.ndarray:
        return self.members.inside(self._numbers(indices), length).reshape(-1, self.size, length)

    def _numbers(self, indices: np.ndarray) -> np.ndarray:
        return (np.asarray(indices)[:, None] * self.size + np.arange(self.size)).ravel()


@dataclasses.dataclass(frozen=True)
class Table:
    """N encoded examples; implements `loader.Examples`.

    Attributes:
      columns: the columns by their key in the batch (see `tasks/base.py`): a `Ragged` becomes [B, T], `Groups` become
        [B, C, T], and the rows of an array [N, ...] are used unchanged. "tokens" is required; `valid` follows from it.
      length: T.
      counts: counts of encoding events that a user should know about: "truncated", "answers not in the context", ...
      alignment: further columns, which batches do not contain: they map the model's outputs back to the records.
    """

    columns: Mapping[str, np.ndarray | Ragged | Groups]
    length: int
    counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    alignment: Mapping[str, np.ndarray | Ragged] = dataclasses.field(default_factory=dict)

    def __post_init__(self):
        sizes = {name: len(column) for name, column in {**self.columns, **self.alignment}.items()}
        if len(set(sizes.values())) != 1:
            raise ValueError(f"columns of different lengths: {sizes}")

    def __len__(self) -> int:
        return len(self.columns["tokens"])

    @property
    def nbytes(self) -> int:
        return sum(column.nbytes for column in self.columns.values())

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each example, or of its longest choice if it has several: int64 [N]."""
        return self.columns["tokens"].lengths

    def rows(self, indices: np.ndarray, rng: RowRandom | None = None, *, length: int | None = None) -> Batch:
        """The rows with these indices, and `example`, the indices themselves. `rng` is not used.

        Args:
          length: replaces T; no row may be longer.
        """
        length = length or self.length
        batch = {
            name: column[indices] if isinstance(column, np.ndarray) else column.rows(indices, length)
            for name, column in self.columns.items()
        }
        batch["valid"] = self.columns["tokens"].inside(indices, length)
        return batch | {"example": np.asarray(indices, np.int32)}

"""Batches as a function of (seed, step) only: resuming needs only the step, on any number of hosts.

Shapes: B examples of this process, T sequence length, P predictions.
"""

import bisect
import dataclasses
import functools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from tx_jax.batch import without_filling
from tx_jax.config.skipped import Ranges, batch_of
from tx_jax.data.pretraining.mixture import Mixture
from tx_jax.data.pretraining.targets import Batch, MakeTargets
from tx_jax.data.rng import RowRandom, hash_text, keys, permute

_ORDER, _CORRUPTION, _PHASE = map(hash_text, ("order", "corruption", "phase"))
_LOCATED = 2048  # examples, see `Loader._steps_together`


class Examples(Protocol):
    """A numbered set of examples, each of which can be built independently.

    Attributes:
      nbytes: memory held, in bytes.
    """

    nbytes: int

    def __len__(self) -> int: ...

    def rows(self, indices: np.ndarray, rng: RowRandom) -> Batch:
        """The examples with these numbers. The amount drawn from `rng` must not depend on the indices."""


class BatchAt(Protocol):
    """Builds the batch of any step."""

    def batch_at(self, step: int) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class Loader:
    """Batches for pretraining.

    Attributes:
      corpora: the examples of each corpus; usually there is only one.
      targets: adds the prediction targets to the rows.
      batch_size: examples of a global batch, over all processes.
      repeat: True: endless epochs, each in a different order. False: each example once, in a fixed random order (so
        that the first batches alone are a fair sample); the last batch is padded with examples of weight 0.
      dupe_factor: 0 corrupts each epoch differently (dynamic). Otherwise epochs e and e + dupe_factor are corrupted
        identically (static).
      mixture: with several corpora, how often each is sampled while repeating; each has its own epochs.
      order: of the examples of the one corpus where each comes once, for another than that of the first epoch.
      first_step: the step of the first batch; those before it belong to an earlier phase.
      skipped: batches to leave out, numbered from 1 as in `config/skipped.py`.
      process, num_processes: which equal part of each global batch this process builds.
    """

    corpora: Sequence[Examples]
    targets: MakeTargets
    batch_size: int
    seed: int
    repeat: bool
    dupe_factor: int = 0
    mixture: Mixture | None = None
    first_step: int = 0
    skipped: Ranges = ()
    process: int = 0
    num_processes: int = 1
    order: np.ndarray | None = None

    def __post_init__(self):
        if self.batch_size % self.num_processes:
            raise ValueError(f"{self.batch_size=} is not divisible by {self.num_processes=}")
        if self.repeat and len(self.corpora) > 1 and self.mixture is None:
            raise ValueError("several corpora need a mixture")

    @property
    def num_examples(self) -> int:
        return sum(map(len, self.corpora))

    def __len__(self) -> int:
        """Batches of one pass; for a mixture, batches with as many examples as all corpora have together."""
        return -(-self.num_examples // self.batch_size)

    def batch_at(self, step: int) -> Batch:
        """This process's rows of the global batch of a step. The keys are those of `tx_jax/batch.py`."""
        block, row = divmod(step - self.first_step, self._steps_together)
        weights, *where = (array[row].copy() for array in self._located(block))
        batch = _join([(rows, self._build(rows, step, *where)) for rows in _rows_of_corpora(where[0])])
        return without_filling(batch, weights)

    @property
    def _steps_together(self) -> int:
        """Steps whose examples are located together: a permutation of few numbers takes as long as one of many."""
        return -(-_LOCATED * self.num_processes // self.batch_size)

    def _located(self, block: int) -> tuple[np.ndarray, ...]:
        """`_locate`, of which the last two results are kept."""
        if (found := self._recent.get(block)) is None:
            found = self._recent[block] = self._locate(block)
            for old in list(self._recent)[:-2]:  # several threads may be here
                self._recent.pop(old, None)
        return found

    @functools.cached_property
    def _recent(self) -> dict[int, tuple[np.ndarray, ...]]:
        return {}  # not `functools.lru_cache`: it would hold this loader, and its examples, until a garbage collection

    def _locate(self, block: int) -> tuple[np.ndarray, ...]:
        """For each row of some steps' batches its weight, and the corpus, epoch and index of its example: [S, B]."""
        local = self.batch_size // self.num_processes
        steps = range(block * self._steps_together, (block + 1) * self._steps_together)
        first = self.first_step
        places = np.array([batch_of(first + step + 1, self.skipped, first) - 1 - first for step in steps])
        number = (places[:, None] * self.batch_size + self.process * local + np.arange(local)).ravel()
        if self.repeat:
            weights = np.ones(len(number), np.float32)
            corpus, number = self.mixture.locate(number) if self.mixture else (np.zeros_like(number), number)
        else:
            weights = (number < self.num_examples).astype(np.float32)
            corpus, number = self._in_one_pass(number % self.num_examples)
        epoch, index = np.divmod(number, np.array([len(examples) for examples in self.corpora])[corpus])
        for rows in _rows_of_corpora(corpus):
            index[rows] = self._in_order(int(corpus[rows[0]]), epoch[rows], index[rows])
        return tuple(array.reshape(len(steps), local) for array in (weights, corpus, epoch, index))

    def _in_order(self, corpus: int, epoch: np.ndarray, index: np.ndarray) -> np.ndarray:
        """The examples of one corpus that come at these places of their epochs."""
        if self.order is not None:
            return self.order[index]
        return permute(index, len(self.corpora[corpus]), keys(self.seed, _ORDER, epoch, *_which(corpus)))

    def _in_one_pass(self, number: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Corpus and example number within it when each example occurs once."""
        if len(self.corpora) == 1:  # the order is that of the first epoch
            return np.zeros_like(number), number
        number = permute(number, self.num_examples, keys(self.seed, _ORDER))
        ends = np.cumsum([len(examples) for examples in self.corpora])
        corpus = np.searchsorted(ends, number, side="right")
        return corpus, number - np.concatenate([[0], ends])[corpus]

    def _build(self, rows: np.ndarray, step: int, corpus: np.ndarray, epoch: np.ndarray, index: np.ndarray) -> Batch:
        """These rows of a batch, which come from one corpus."""
        number, epoch, index = int(corpus[rows[0]]), epoch[rows], index[rows]
        copy = epoch % self.dupe_factor if self.dupe_factor else epoch
        rng = RowRandom(keys(self.seed, _CORRUPTION, copy, index, *_which(number)))
        return self.targets(self.corpora[number].rows(index, rng), rng, step)


def _which(corpus: int) -> tuple[int, ...]:
    """What tells a corpus in a key; nothing for the first, so that a run may add others."""
    return (corpus,) if corpus else ()


def _rows_of_corpora(corpus: np.ndarray) -> Iterator[np.ndarray]:
    """The rows that come from each corpus among them."""
    return (np.flatnonzero(corpus == number) for number in np.unique(corpus))


def _join(parts: list[tuple[np.ndarray, Batch]]) -> Batch:
    """Joins parts into one batch, given the rows that each part fills."""
    if len(parts) == 1:
        return parts[0][1]
    order = np.argsort(np.concatenate([rows for rows, _ in parts]))
    return {name: np.concatenate([part[name] for _, part in parts])[order] for name in parts[0][1]}


@dataclasses.dataclass(frozen=True)
class PhasedBatches:
    """The batches of several phases of training, one after another.

    Attributes:
      starts: the first step of each phase, ascending from 0.
      parts: the batches of each.
    """

    starts: Sequence[int]
    parts: Sequence[BatchAt]

    def batch_at(self, step: int) -> Batch:
        """The batch of the phase that contains the step."""
        return self.parts[bisect.bisect_right(self.starts, step) - 1].batch_at(step)


def phase_seed(seed: int, number: int) -> int:
    """The seed of a phase's data. The first phase uses the run's own seed, as does training without phases."""
    return int(keys(seed, _PHASE, number)[0] >> np.uint64(1)) if number else seed


def read_ahead(batches: BatchAt, start: int, stop: int, depth: int) -> Iterator[Batch]:
    """`batches.batch_at(step)` for start <= step < stop, built by a thread `depth` batches before they are needed."""
    import grain  # imported here because grain imports jax, and the rest of tx_jax.data runs without it

    steps = grain.MapDataset.range(start, stop).map(batches.batch_at)
    return iter(steps.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=depth)))

"""Batches of pairs of one bucket of lengths each, as a function of (seed, step) only.

An epoch has every pair at least once: the last batch of a bucket is filled up from the bucket's beginning. The order of
the pairs of a bucket, and of the batches of all buckets, is another one in every epoch.

Shapes: B pairs of this process, T length of the bucket.
"""

import dataclasses
import functools

import numpy as np

from tx_jax.batch import without_filling
from tx_jax.config.skipped import Ranges, batch_of
from tx_jax.data.rng import hash_text, keys, permute
from tx_jax.data.rows import put, ranges
from tx_jax.data.translation.store import PairSplit
from tx_jax.errors import InputError
from tx_jax.text.pair_forms import PairTokens

Batch = dict[str, np.ndarray]
_ORDER, _BATCHES = map(hash_text, ("order", "batches"))


@dataclasses.dataclass(frozen=True)
class PairBatches:
    """
    Attributes:
      buckets: the lengths, ascending; longer pairs are left out.
      batch_size: pairs of the longest bucket in a global batch; shorter ones have as many tokens.
      tokens: the special tokens of the pairs.
      repeat: True: endless epochs. False: each pair once; the last batch of a bucket is filled up with pairs of weight
        0. The batches are in a fixed random order, so that the first ones are a fair sample.
      first_step, skipped, process, num_processes: see `Loader`.
    """

    split: PairSplit
    buckets: tuple[int, ...]
    batch_size: int
    tokens: PairTokens
    seed: int
    repeat: bool
    first_step: int = 0
    skipped: Ranges = ()
    process: int = 0
    num_processes: int = 1

    def __post_init__(self):
        if self.batch_size % self.num_processes:
            raise ValueError(f"{self.batch_size=} is not divisible by {self.num_processes=}")
        if not self.num_examples:
            raise InputError(
                f"no pair of the {self.split.name} split has at most data.sequence_length={self.buckets[-1]} tokens"
            )

    @functools.cached_property
    def members(self) -> list[np.ndarray]:
        """The pairs of each bucket."""
        bucket = np.searchsorted(self.buckets, self.split.lengths(self.tokens))
        return [np.flatnonzero(bucket == number) for number in range(len(self.buckets))]

    @functools.cached_property
    def _starts(self) -> np.ndarray:
        """The number of the first batch of each bucket, and of all batches of an epoch."""
        counts = [-(-len(pairs) // self._rows(number)) for number, pairs in enumerate(self.members)]
        return np.cumsum([0, *counts])

    @property
    def num_examples(self) -> int:
        return sum(map(len, self.members))

    @property
    def too_long(self) -> int:
        """How many pairs are left out."""
        return len(self.split) - self.num_examples

    def __len__(self) -> int:
        """Batches of one pass."""
        return int(self._starts[-1])

    def _rows(self, bucket: int) -> int:
        """Pairs of a global batch."""
        return self.batch_size * (self.buckets[-1] // self.buckets[bucket])

    def batch_at(self, step: int) -> Batch:
        """This process's rows of the global batch of a step. The keys are those of `tx_jax/batch.py`."""
        first = self.first_step
        place = batch_of(step + 1, self.skipped, first) - 1 - first
        epoch, place = divmod(place, len(self))
        number = int(permute(np.array([place]), len(self), keys(self.seed, _BATCHES, epoch))[0])
        bucket = int(np.searchsorted(self._starts, number, side="right")) - 1
        local = self._rows(bucket) // self.num_processes
        pairs = self.members[bucket]
        places = (number - self._starts[bucket]) * self._rows(bucket) + self.process * local + np.arange(local)
        weights = np.ones(local, np.float32) if self.repeat else (places < len(pairs)).astype(np.float32)
        order = permute(places % len(pairs), len(pairs), keys(self.seed, _ORDER, epoch, bucket))
        return without_filling(self._build(pairs[order], self.buckets[bucket]), weights)

    def _build(self, pairs: np.ndarray, length: int) -> Batch:
        """These pairs, padded on the right; padding is 0 and counts nowhere. Nor does a token that every target begins
        with: it is not predicted, but given."""
        split, special, shape = self.split, self.tokens, (len(pairs), length)
        tokens, targets, target_tokens = (np.zeros(shape, np.int32) for _ in range(3))
        valid, predicted = np.zeros(shape, bool), np.zeros(shape, bool)
        rows, zeros = np.arange(len(pairs)), np.zeros(len(pairs), int)
        sources, counts = _ids(split.source, split.source_ends, pairs)
        tokens[:, : len(special.before)] = special.before
        ends = zeros + len(special.before) + counts
        put(tokens, rows, zeros + len(special.before), counts, sources)
        for place, token in enumerate(special.after):
            tokens[rows, ends + place] = token
        put(valid, rows, zeros, ends + len(special.after), True)
        ids, counts = _ids(split.target, split.target_ends, pairs)
        firsts = zeros + len(special.first)
        targets[:, : len(special.first)] = special.first
        put(targets, rows, firsts, counts, ids)
        targets[rows, firsts + counts] = special.end
        target_tokens[:, : 1 + len(special.first)] = (special.start, *special.first)
        put(target_tokens, rows, firsts + 1, counts, ids)
        put(predicted, rows, firsts, counts + 1, True)
        return {
            "tokens": tokens,
            "valid": valid,
            "target_tokens": target_tokens,
            "targets": targets,
            "target_weights": predicted.astype(np.float32),
            "target_bytes": split.sizes[pairs, 0].astype(np.float32),
            "target_words": split.sizes[pairs, 1].astype(np.float32),
            "example": pairs.astype(np.int32),
        }


def _ids(flat: np.ndarray, ends: np.ndarray, pairs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The ids of these texts, one after another, and how many each has."""
    begins = np.where(pairs > 0, ends[pairs - 1], 0)
    counts = ends[pairs] - begins
    return flat[ranges(begins, counts)], counts

"""The configuration of data for translation: from the store of pairs to the batch."""

import dataclasses

from tx_jax.config import skipped
from tx_jax.config.checks import require

METRICS = ("bleu", "chrf")


@dataclasses.dataclass(frozen=True)
class TranslationDataConfig:
    """From a store of pairs to the batch. Lengths are in tokens of one side, its special token included.

    A batch has pairs of one bucket: each side is padded to the bucket's length, and there are so many pairs that
    `training.batch_size` * `sequence_length` tokens a side result. So every step has as many, whatever its bucket.

    Attributes:
      store: folder of a store of pairs.
      sequence_length: the longest source or target; longer pairs are left out, and counted.
      buckets: the lengths that batches have, ascending; the last is `sequence_length`, which each divides.
      label_smoothing: the share of a target's probability that is spread evenly over the vocabulary (Szegedy et al.
        2016, section 7).
      metrics: what evaluation computes from greedy translations of the held-out pairs, names in `METRICS`; empty:
        nothing is translated.
      skip_batches: see `DataConfig`.
    """

    store: str
    sequence_length: int
    buckets: tuple[int, ...]
    label_smoothing: float
    metrics: tuple[str, ...]
    read_ahead: int
    skip_batches: str = ""

    @property
    def source(self) -> str:
        """Where the training data comes from."""
        return self.store

    def __post_init__(self):
        require(self.sequence_length >= 8, f"data.sequence_length={self.sequence_length} must be at least 8")
        require(self.read_ahead >= 1, f"data.read_ahead={self.read_ahead} must be at least 1 batch")
        require(0 <= self.label_smoothing < 1, f"data.label_smoothing={self.label_smoothing} must be in [0, 1)")
        buckets = self.buckets
        require(
            bool(buckets) and buckets[-1] == self.sequence_length and list(buckets) == sorted(set(buckets)),
            f"data.buckets={buckets} must be ascending and end with data.sequence_length={self.sequence_length}",
        )
        for length in buckets:
            require(
                length >= 1 and self.sequence_length % length == 0,
                f"data.buckets={buckets}: {length} does not divide data.sequence_length={self.sequence_length}, so its "
                "batches would not have as many tokens as the others",
            )
        for name in self.metrics:
            require(name in METRICS, f"data.metrics={self.metrics}: {name!r} is not one of {', '.join(METRICS)}")
        skipped.parse(self.skip_batches)

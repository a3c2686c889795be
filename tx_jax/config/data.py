"""From the token store to the batch."""

import dataclasses
from typing import Literal

from tx_jax.config.checks import require


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """From the token store to the batch: spans, corruption. Lengths in tokens, specials included."""

    store: str
    sequence_length: int
    packing: Literal["pairs", "doc_sentences"]
    short_sequence_probability: float
    mask_rate: float
    max_predictions: int
    replace_with_mask: float
    replace_with_random: float
    masking: Literal["dynamic", "static"]
    dupe_factor: int
    read_ahead: int

    def __post_init__(self):
        require(self.sequence_length >= 8, f"data.sequence_length={self.sequence_length} must be at least 8")
        require(
            1 <= self.max_predictions <= self.sequence_length,
            f"data.max_predictions={self.max_predictions} must be between 1 and "
            f"data.sequence_length={self.sequence_length}",
        )
        wanted = round(self.mask_rate * self.sequence_length)
        require(
            self.max_predictions >= wanted,
            f"data.max_predictions={self.max_predictions} cuts the masking short: data.mask_rate={self.mask_rate} of "
            f"data.sequence_length={self.sequence_length} are {wanted} predictions",
        )
        for name in ("short_sequence_probability", "mask_rate", "replace_with_mask", "replace_with_random"):
            value = getattr(self, name)
            require(0 <= value <= 1, f"data.{name}={value} must be in [0, 1]")
        require(self.mask_rate > 0, "data.mask_rate=0 leaves nothing to predict")
        require(
            self.replace_with_mask + self.replace_with_random <= 1,
            f"data.replace_with_mask={self.replace_with_mask} + "
            f"data.replace_with_random={self.replace_with_random} exceeds 1",
        )
        require(self.dupe_factor >= 1, f"data.dupe_factor={self.dupe_factor} must be at least 1")
        require(self.read_ahead >= 1, f"data.read_ahead={self.read_ahead} must be at least 1 batch")

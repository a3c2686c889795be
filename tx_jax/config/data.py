"""The configuration of pretraining data: from the token store to the batch."""

import dataclasses
import math
from typing import Literal

from tx_jax.config import skipped
from tx_jax.config.checks import require

# What each packing makes: pairs for next-sentence prediction; rows for a masked LM; rows for a causal LM.
PAIRED = ("pairs", "sentence_pairs")
MASKED = (*PAIRED, "full_sentences", "doc_sentences", "packed_documents")
CAUSAL = ("chunks", "packed_documents")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """From the token store to the batch: spans, corruption. Lengths are in tokens, special tokens included.

    Attributes:
      store: folder of a token store, or several, comma-separated, which are mixed.
      packing: "pairs" (SEGMENT-PAIR), "sentence_pairs", "full_sentences" and "doc_sentences" are the four input formats
        of Liu et al. 2019, section 4.2; "chunks" is one stream for causal models; "packed_documents" puts several
        documents in a row, which do not attend to each other.
      pair_separators: [SEP]s between the two parts of a pair: 1 for BERT, 2 for RoBERTa.
      mask_rate: share of the tokens to predict; 0 if nothing is masked.
      mask_rate_end, mask_rate_steps: the rate changes linearly from `mask_rate` to `mask_rate_end` over the first
        `mask_rate_steps` steps; 0 steps: constant.
      mask_unit: what is masked at random, one of `UNITS` in `data/pretraining/targets.py`: "token", "whole_word", or
        "span" (of words).
      span_probability, span_max_words: parameters of the truncated geometric distribution of span lengths in words
        (SpanBERT).
      selective_words: a file with one word a line; only these words are masked. Empty: any.
      selective_share: share of the sequences that are masked this way; the others are masked at random.
      selective_rate_of: what `mask_rate` is a share of in those: the listed words' occurrences, or all tokens.
      mixture_weights: weights of several stores, in their order; empty: determined by `mixture_alpha`.
      mixture_alpha: a store is sampled in proportion to its size to this power (XLM-R: 0.3).
      skip_batches: training batches to skip, such as "7,100-120"; later batches move up. See `config/skipped.py`.
    """

    store: str
    sequence_length: int
    packing: Literal["pairs", "sentence_pairs", "full_sentences", "doc_sentences", "chunks", "packed_documents"]
    short_sequence_probability: float
    mask_rate: float
    max_predictions: int
    replace_with_mask: float
    replace_with_random: float
    masking: Literal["dynamic", "static"]
    dupe_factor: int
    read_ahead: int
    pair_separators: int = 1
    mask_rate_end: float = 0.0
    mask_rate_steps: int = 0
    mask_unit: str = "token"
    span_probability: float = 0.2
    span_max_words: int = 10
    selective_words: str = ""
    selective_share: float = 1.0
    selective_rate_of: Literal["occurrences", "tokens"] = "occurrences"
    mixture_weights: tuple[float, ...] = ()
    mixture_alpha: float = 1.0
    skip_batches: str = ""

    @property
    def source(self) -> str:
        """Where the training data comes from."""
        return self.store

    def __post_init__(self):
        require(self.sequence_length >= 8, f"data.sequence_length={self.sequence_length} must be at least 8")
        for name in (
            "short_sequence_probability",
            "mask_rate",
            "mask_rate_end",
            "replace_with_mask",
            "replace_with_random",
            "selective_share",
        ):
            value = getattr(self, name)
            require(0 <= value <= 1, f"data.{name}={value} must be in [0, 1]")
        for name in ("dupe_factor", "pair_separators", "span_max_words"):
            value = getattr(self, name)
            require(value >= 1, f"data.{name}={value} must be at least 1")
        require(self.read_ahead >= 1, f"data.read_ahead={self.read_ahead} must be at least 1 batch")
        require(self.mask_rate_steps >= 0, f"data.mask_rate_steps={self.mask_rate_steps} must not be negative")
        require(0 < self.span_probability <= 1, f"data.span_probability={self.span_probability} must be in (0, 1]")
        self._check_masking()
        self._check_mixture()
        skipped.parse(self.skip_batches)

    def _check_masking(self) -> None:
        require(
            1 <= self.max_predictions <= self.sequence_length,
            f"data.max_predictions={self.max_predictions} must be between 1 and "
            f"data.sequence_length={self.sequence_length}",
        )
        if self.packing not in CAUSAL:
            require(self.mask_rate > 0, "data.mask_rate=0 leaves nothing to predict")
        if self.packing not in MASKED:
            return
        highest = "mask_rate_end" if self.mask_rate_steps and self.mask_rate_end > self.mask_rate else "mask_rate"
        wanted = round(getattr(self, highest) * self.sequence_length)
        require(
            self.max_predictions >= wanted,
            f"data.max_predictions={self.max_predictions} is too small: "
            f"data.{highest}={getattr(self, highest)} of data.sequence_length={self.sequence_length} are {wanted} "
            "predictions",
        )
        require(
            self.replace_with_mask + self.replace_with_random <= 1,
            f"data.replace_with_mask={self.replace_with_mask} + "
            f"data.replace_with_random={self.replace_with_random} exceeds 1",
        )
        if self.mask_rate_steps:
            require(
                self.mask_rate_end > 0 and self.masking == "dynamic",
                f"data.mask_rate_steps={self.mask_rate_steps} changes the rate: it needs "
                f"data.mask_rate_end={self.mask_rate_end} above 0, and data.masking={self.masking!r} must be 'dynamic'",
            )

    def _check_mixture(self) -> None:
        stores, weights = self.store.split(","), self.mixture_weights
        require(
            not weights or len(weights) == len(stores),
            f"data.mixture_weights={weights} has {len(weights)} values for the {len(stores)} stores in "
            f"data.store={self.store!r}",
        )
        require(
            all(0 < weight < math.inf for weight in weights), f"data.mixture_weights={weights} must all be positive"
        )
        require(0 <= self.mixture_alpha <= 1, f"data.mixture_alpha={self.mixture_alpha} must be in [0, 1]")
        require(
            not weights or self.mixture_alpha == 1,
            f"data.mixture_weights={weights} replace data.mixture_alpha={self.mixture_alpha}: leave it at 1",
        )

"""Turns examples into the model's inputs and targets: corrupted for a masked LM, weighted for a causal one.

It is a pure function of (rows, random numbers, step). Shapes: B examples, T sequence length.
"""

import dataclasses
from collections.abc import Callable
from typing import Protocol

import numpy as np

from tx_jax import added
from tx_jax.data.pretraining.masking import Choice, Masking, choose_tokens, corrupt
from tx_jax.data.pretraining.selective import RateOf, WordList, choose_listed
from tx_jax.data.pretraining.word_counts import WordCounts
from tx_jax.data.pretraining.words import choose_spans, choose_words
from tx_jax.data.rng import RowRandom
from tx_jax.errors import InputError, did_you_mean

Batch = dict[str, np.ndarray]


class MakeTargets(Protocol):
    """Adds the targets to the rows that `Examples.rows` made."""

    def __call__(self, batch: Batch, rng: RowRandom, step: int) -> Batch: ...


@dataclasses.dataclass(frozen=True)
class RateSchedule:
    """A rate that changes linearly from one value to another over the first steps and then stays constant (it decreases
    in Yang et al. 2023 and Ankner et al. 2024). `steps` 0: constant."""

    begin: float
    end: float
    steps: int

    def at(self, step: int) -> float:
        if not self.steps:
            return self.begin
        return self.begin + (self.end - self.begin) * min(step / self.steps, 1.0)


@dataclasses.dataclass(frozen=True)
class MaskedTargets:
    """Masked language modeling.

    Attributes:
      masking: the ids, the replacement, and P.
      rate: replaces `masking.rate` at each step.
      unit: the unit that is chosen at random, one of `UNITS`.
      is_continuation: the tokenizer's; needed for words and spans.
      span_probability, span_max_words: see `words.span_lengths`.
      listed: None, or the words to mask selectively, in a random share `selective_share` of the sequences; the others
        are masked at random, by `unit`.
      rate_of: see `selective`.
    """

    masking: Masking
    rate: RateSchedule
    unit: str = "token"
    is_continuation: np.ndarray | None = None
    span_probability: float = 0.2
    span_max_words: int = 10
    listed: WordList | None = None
    selective_share: float = 1.0
    rate_of: RateOf = "occurrences"

    def __post_init__(self):
        if self.unit not in UNITS:
            near = added.hint(did_you_mean(self.unit, UNITS))
            raise InputError(f"data.mask_unit={self.unit!r} is not one of {', '.join(UNITS)}.{near}")

    def __call__(self, batch: Batch, rng: RowRandom, step: int) -> Batch:
        masking = self.masking
        if (rate := self.rate.at(step)) != masking.rate:
            masking = dataclasses.replace(masking, rate=rate)
        tokens, valid = batch["tokens"], batch["valid"]
        if self.listed is None:
            choice = self._at_random(tokens, valid, masking, rng)
        else:
            choice = choose_listed(tokens, valid, masking, self.listed, rng, rate_of=self.rate_of)
            if self.selective_share < 1:
                other = self._at_random(tokens, valid, masking, rng)
                choice = _mixed(rng.uniform() < self.selective_share, choice, other)
        return batch | corrupt(tokens, choice, masking, rng)

    def _at_random(self, tokens: np.ndarray, valid: np.ndarray, masking: Masking, rng: RowRandom) -> Choice:
        choice = UNITS[self.unit](self, tokens, valid, masking, rng)
        where = f"masking unit {self.unit!r}{added.owner('masking unit', self.unit)}"
        chosen = getattr(choice, "chosen_BT", None)
        if not isinstance(chosen, np.ndarray) or chosen.shape != tokens.shape or chosen.dtype != bool:
            raise InputError(f"{where} must return a Choice whose chosen_BT is bool [B, T], not {choice!r:.60}")
        most = int(chosen.sum(axis=1).max(initial=0))
        if most > masking.max_predictions:  # they would run over into the next row
            raise InputError(
                f"{where} chooses {most} tokens of a row, but there is room for data.max_predictions="
                f"{masking.max_predictions}: see masking.budget"
            )
        return choice


def _tokens(how: MaskedTargets, tokens: np.ndarray, valid: np.ndarray, masking: Masking, rng: RowRandom) -> Choice:
    return choose_tokens(tokens, valid, masking, rng)


def _whole_words(how: MaskedTargets, tokens: np.ndarray, valid: np.ndarray, masking: Masking, rng: RowRandom) -> Choice:
    return choose_words(tokens, valid, masking, how.is_continuation, rng)


def _spans(how: MaskedTargets, tokens: np.ndarray, valid: np.ndarray, masking: Masking, rng: RowRandom) -> Choice:
    return choose_spans(
        tokens,
        valid,
        masking,
        how.is_continuation,
        rng,
        probability=how.span_probability,
        max_words=how.span_max_words,
    )


# `data.mask_unit` -> the function that chooses such units at random. A new unit is a function and a row
# here, or one of a user's own, by `tx_jax.extend`.
Unit = Callable[[MaskedTargets, np.ndarray, np.ndarray, Masking, RowRandom], Choice]
UNITS: dict[str, Unit] = {
    "token": _tokens,
    "whole_word": _whole_words,
    "span": _spans,
}


def _mixed(first_B: np.ndarray, one: Choice, other: Choice) -> Choice:
    """The rows of `one` where `first`, else those of `other`."""
    column = np.broadcast_to(np.arange(one.chosen_BT.shape[1]), one.chosen_BT.shape)
    groups = [column if choice.group_BT is None else choice.group_BT for choice in (one, other)]
    return Choice(
        np.where(first_B[:, None], one.chosen_BT, other.chosen_BT),
        np.where(first_B, one.dropped_B, other.dropped_B),
        np.where(first_B[:, None], *groups),
    )


@dataclasses.dataclass(frozen=True)
class CausalTargets:
    """Next-token prediction on rows that bring their `targets`.

    Attributes:
      byte_lengths: float32 [vocab_size], see `byte_lengths.byte_lengths`.
      words: how many words begin in each target.
    """

    byte_lengths: np.ndarray
    words: WordCounts

    def __call__(self, batch: Batch, rng: RowRandom, step: int) -> Batch:
        """Adds target_weights float32 [B, T], 1 for a prediction, and target_bytes and target_words float32 [B], the
        bytes and words of text that the row's targets stand for."""
        weights = batch["valid"].astype(np.float32)
        return batch | {
            "target_weights": weights,
            "target_bytes": (self.byte_lengths[batch["targets"]] * weights).sum(axis=1, dtype=np.float32),
            "target_words": (self.words(batch["tokens"], batch["targets"]) * weights).sum(axis=1, dtype=np.float32),
        }

"""Masking of whole words and of spans of words.

A word is an initial piece and its continuation pieces, as given by the tokenizer's `is_continuation`; special tokens
and padding belong to no word and end the current one. So the same code works for WordPiece, byte-level BPE and
SentencePiece.

Shapes: B examples, T sequence length.
"""

import numpy as np

from tx_jax.data.pretraining.masking import Choice, Masking
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import ranges

_STEPS = 16  # spans started between two checks of the remaining budget


def word_sizes(tokens_BT: np.ndarray, candidates_BT: np.ndarray, is_continuation: np.ndarray) -> np.ndarray:
    """int64 [B, T + 1]: at the first piece of each word the number of its pieces, 0 elsewhere and at the end."""
    follows = np.zeros_like(candidates_BT)
    follows[:, 1:] = is_continuation[tokens_BT[:, 1:]] & candidates_BT[:, :-1]
    return run_sizes(candidates_BT, candidates_BT & ~follows)


def run_sizes(inside_BT: np.ndarray, begins_BT: np.ndarray) -> np.ndarray:
    """int64 [B, T + 1]: at each True of `begins` the number of tokens `inside` up to the next one, 0 elsewhere."""
    size, length = inside_BT.shape
    sizes = np.zeros(size * (length + 1), np.int64)
    begins = np.flatnonzero(np.pad(begins_BT, ((0, 0), (0, 1))))
    run = np.cumsum(begins_BT.ravel())[inside_BT.ravel()] - 1
    sizes[begins] = np.bincount(run, minlength=len(begins))
    return sizes.reshape(size, length + 1)


def choose_words(
    tokens_BT: np.ndarray, valid_BT: np.ndarray, masking: Masking, is_continuation: np.ndarray, rng: RowRandom
) -> Choice:
    """Whole words in random order, each piece replaced by itself (google-research/bert, `do_whole_word_mask`).

    As there, a word with more pieces than the remaining budget is skipped, so that the rate is never exceeded.
    """
    candidates = masking.candidates(tokens_BT, valid_BT)
    wanted = masking.wanted(valid_BT, candidates)
    sizes = word_sizes(tokens_BT, candidates, is_continuation)
    order = rng.order(sizes[:, :-1] > 0)
    chosen = fill_budget(sizes, masking.budget(wanted), order)
    return Choice(chosen, wanted - masking.budget(wanted))


def choose_spans(
    tokens_BT: np.ndarray,
    valid_BT: np.ndarray,
    masking: Masking,
    is_continuation: np.ndarray,
    rng: RowRandom,
    *,
    probability: float,
    max_words: int,
) -> Choice:
    """Spans of whole words, until the rate is reached (SpanBERT: Joshi et al. 2020, section 3.1).

    The first word of a span is uniform among the words not chosen yet, its length geometric, see `span_lengths`. It
    ends early at a special token, at another span, and where the next word would exceed the rate: there SpanBERT's
    program cuts the word instead. A span is replaced as one: all of it by masks, by random tokens or by itself.
    """
    candidates = masking.candidates(tokens_BT, valid_BT)
    wanted = masking.wanted(valid_BT, candidates)
    sizes = word_sizes(tokens_BT, candidates, is_continuation)
    order = rng.order(sizes[:, :-1] > 0)
    lengths = span_lengths(rng.uniform(tokens_BT.shape[1]), probability, max_words)
    group = fill_with_spans(sizes, masking.budget(wanted), order, lengths)
    return Choice(group > 0, wanted - masking.budget(wanted), group)


def span_lengths(uniform: np.ndarray, probability: float, max_words: int) -> np.ndarray:
    """Lengths in words from uniform numbers: P(n) proportional to p (1 - p)^(n - 1) for 1 <= n <= `max_words`.

    SpanBERT's p = 0.2 and 10 words have a mean of 3.8.
    """
    words = np.arange(1, max_words + 1)
    shares = probability * (1 - probability) ** (words - 1)
    return 1 + np.searchsorted(np.cumsum(shares / shares.sum())[:-1], uniform, side="right")


def fill_budget(sizes_BT1: np.ndarray, budget_B: np.ndarray, order_BT: np.ndarray) -> np.ndarray:
    """Takes words in the order given, skipping those that exceed the remaining budget.

    Args:
      sizes_BT1: see `word_sizes`.
      budget_B: tokens.
      order_BT: see `RowRandom.order`.

    Returns bool [B, T]: the tokens of the words taken.
    """
    left, rows = budget_B.copy(), np.arange(len(budget_B))
    sizes = np.take_along_axis(sizes_BT1, order_BT, axis=1)
    taken = np.zeros(sizes.shape, bool)
    while len(rows):
        # Words that exceed the budget now will never fit; of the others, take all up to the first that does not fit.
        fitting = np.where(sizes[rows] <= left[rows, None], sizes[rows], 0)
        take = (fitting > 0) & (np.cumsum(fitting, axis=1) <= left[rows, None])
        taken[rows] |= take
        left[rows] -= (fitting * take).sum(axis=1)
        sizes[rows] = np.where(take, 0, fitting)
        rows = rows[(left[rows] > 0) & sizes[rows].any(axis=1)]
    at_word = np.zeros(sizes_BT1.shape, bool)
    np.put_along_axis(at_word, order_BT, taken, axis=1)
    return spread_over_words(at_word, sizes_BT1)


def fill_with_spans(
    sizes_BT1: np.ndarray, budget_B: np.ndarray, order_BT: np.ndarray, lengths_BT: np.ndarray
) -> np.ndarray:
    """Takes spans that begin with the words in the order given, until the budget is filled.

    Args:
      sizes_BT1, budget_B, order_BT: as for `fill_budget`.
      lengths_BT: words of the span that begins at each position. It ends before a special token, a word that was taken,
        and a word that exceeds the budget.

    Returns int64 [B, T]: the number of the span that each token was taken with, from 1; 0 for tokens not taken.
    """
    begins, index = _lists_of_words(sizes_BT1, int(lengths_BT.max(initial=1)))
    ahead = np.arange(int(lengths_BT.max(initial=1)))
    left, number, step = budget_B.copy(), np.zeros_like(sizes_BT1), 0
    rows, order = np.arange(len(left)), order_BT
    while True:
        # Words that are taken or exceed the budget begin no span: go on with the others, in the same order.
        size = sizes_BT1[rows[:, None], order]
        useful = (size > 0) & (size <= left[rows, None]) & (number[rows[:, None], order] == 0)
        order = np.take_along_axis(order, np.argsort(~useful, axis=1, kind="stable"), axis=1)
        rows, order = rows[useful.any(axis=1)], order[useful.any(axis=1), : int(useful.sum(axis=1).max(initial=0))]
        if not len(rows):
            return spread_over_words(number, sizes_BT1)
        for first in order[:, :_STEPS].T:
            step += 1
            at = begins[rows[:, None], index[rows, first][:, None] + ahead]
            size = sizes_BT1[rows[:, None], at]
            fits = (size > 0) & (number[rows[:, None], at] == 0) & (np.cumsum(size, axis=1) <= left[rows, None])
            fits[:, 1:] &= at[:, 1:] == (at + size)[:, :-1]  # no special token in between
            fits &= ahead < lengths_BT[rows, first][:, None]
            fits = np.logical_and.accumulate(fits, axis=1)
            number[np.broadcast_to(rows[:, None], at.shape)[fits], at[fits]] = step
            left[rows] -= (size * fits).sum(axis=1)


def _lists_of_words(sizes_BT1: np.ndarray, beyond: int) -> tuple[np.ndarray, np.ndarray]:
    """Where the words of each row begin, in order, and then `beyond` times or more the last column, which is no word;
    and for each position where a word begins its place in that list, for other positions a place of no word."""
    is_word = sizes_BT1 > 0
    words = is_word.sum(axis=1)
    begins = np.full((len(words), int(words.max(initial=0)) + beyond), sizes_BT1.shape[1] - 1)
    begins[np.arange(begins.shape[1])[None] < words[:, None]] = np.nonzero(is_word)[1]
    return begins, np.where(is_word, np.cumsum(is_word, axis=1) - 1, words[:, None])


def spread_over_words(values_BT1: np.ndarray, sizes_BT1: np.ndarray) -> np.ndarray:
    """Gives all pieces of a word the value at its first one, and the other positions 0: [B, T]."""
    begins = np.flatnonzero(sizes_BT1)
    sizes = sizes_BT1.ravel()[begins]
    spread = np.zeros(values_BT1.size, values_BT1.dtype)
    spread[ranges(begins, sizes)] = np.repeat(values_BT1.ravel()[begins], sizes)
    return spread.reshape(values_BT1.shape)[:, :-1]

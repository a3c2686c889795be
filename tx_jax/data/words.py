"""Masking of whole words and of spans of words.

A word is a piece that begins one and the pieces that continue it, by the tokenizer's `is_continuation`; special tokens
and padding belong to none, and end one. So the same code is right for WordPiece, byte-level BPE and SentencePiece.
Shapes: B examples, T sequence length.
"""

import numpy as np

from tx_jax.data.masking import Choice, Masking
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import ranges


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

    As there, a word with more pieces than are still wanted is passed over, so that the rate is never exceeded.
    """
    candidates = masking.candidates(tokens_BT, valid_BT)
    wanted = masking.wanted(valid_BT, candidates)
    sizes = word_sizes(tokens_BT, candidates, is_continuation)
    order = random_order(sizes[:, :-1] > 0, rng)
    group = fill_budget(sizes, masking.budget(wanted), order)
    return Choice(group > 0, wanted - masking.budget(wanted))


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
    order = random_order(sizes[:, :-1] > 0, rng)
    lengths = span_lengths(rng.uniform(tokens_BT.shape[1]), probability, max_words)
    group = fill_budget(sizes, masking.budget(wanted), order, lengths)
    return Choice(group > 0, wanted - masking.budget(wanted), group)


def span_lengths(uniform: np.ndarray, probability: float, max_words: int) -> np.ndarray:
    """Lengths in words from uniform numbers: P(n) proportional to p (1 - p)^(n - 1) for 1 <= n <= `max_words`.

    SpanBERT's p = 0.2 and 10 words have a mean of 3.8.
    """
    words = np.arange(1, max_words + 1)
    shares = probability * (1 - probability) ** (words - 1)
    return 1 + np.searchsorted(np.cumsum(shares / shares.sum())[:-1], uniform, side="right")


def random_order(is_item_BT: np.ndarray, rng: RowRandom) -> np.ndarray:
    """The positions of the items of each row in a uniformly random order, then the other positions: int64 [B, T]."""
    return np.argsort(np.where(is_item_BT, rng.uniform(is_item_BT.shape[1]), 2.0), axis=1)


def fill_budget(
    sizes_BT1: np.ndarray, budget_B: np.ndarray, order_BT: np.ndarray, lengths_BT: np.ndarray | None = None
) -> np.ndarray:
    """Takes words in the order given while they fit into the budget.

    Args:
      sizes_BT1: see `word_sizes`.
      budget_B: tokens.
      order_BT: see `random_order`.
      lengths_BT: words to take, from each position on; None takes one.

    Returns int64 [B, T]: the number of the span, from 1, that each token was taken with, 0 where it was not.
    """
    number = np.zeros_like(sizes_BT1)  # of the span, at the first piece of each word
    left, words = budget_B.copy(), (sizes_BT1 > 0).sum(axis=1)
    longest = 1 if lengths_BT is None else int(lengths_BT.max(initial=1))
    for k in range(int(words.max(initial=0))):  # over the words of a row, in all rows at once
        open_rows = np.flatnonzero((left > 0) & (k < words))
        if not len(open_rows):
            break
        at = first = order_BT[open_rows, k]
        row = open_rows
        for n in range(longest):
            size = sizes_BT1[row, at]
            fits = (size > 0) & (number[row, at] == 0) & (size <= left[row])
            if lengths_BT is not None:
                fits &= n < lengths_BT[row, first]
            row, at, first, size = row[fits], at[fits], first[fits], size[fits]
            number[row, at] = k + 1
            left[row] -= size
            at = at + size
            if not len(row):
                break
    return spread_over_words(number, sizes_BT1)


def spread_over_words(values_BT1: np.ndarray, sizes_BT1: np.ndarray) -> np.ndarray:
    """Gives all pieces of a word the value at its first one, and the other positions 0: [B, T]."""
    begins = np.flatnonzero(sizes_BT1)
    sizes = sizes_BT1.ravel()[begins]
    spread = np.zeros(values_BT1.size, values_BT1.dtype)
    spread[ranges(begins, sizes)] = np.repeat(values_BT1.ravel()[begins], sizes)
    return spread.reshape(values_BT1.shape)[:, :-1]

"""Masking of whole words and of spans of words.

A word is an initial piece and its continuation pieces, as given by the tokenizer's `is_continuation`; special tokens
and padding belong to no word and end the current one. So the same code works for WordPiece, byte-level BPE and
SentencePiece.

Shapes: B examples, T sequence length; of spans: R rows, S or Z spans, N words.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from tx_jax.data.pretraining.masking import Choice, Masking
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import ranges

_SPANS = 16  # spans of a row that are taken together, at most
_WINDOW = 128  # places of the random order looked at together: most rows need no more


def word_sizes(tokens_BT: np.ndarray, candidates_BT: np.ndarray, is_continuation: np.ndarray) -> np.ndarray:
    """int64 [B, T + 1]: at the first piece of each word the number of its pieces, 0 elsewhere and at the end."""
    follows = np.zeros_like(candidates_BT)
    follows[:, 1:] = is_continuation[tokens_BT[:, 1:]] & candidates_BT[:, :-1]
    return run_sizes(candidates_BT, candidates_BT & ~follows)


def run_sizes(inside_BT: np.ndarray, begins_BT: np.ndarray) -> np.ndarray:
    """int64 [B, T + 1]: at each True of `begins` the number of tokens `inside` up to the next one, 0 elsewhere."""
    size, length = inside_BT.shape
    sizes = np.zeros((size, length + 1), np.int64)
    begins = np.flatnonzero(begins_BT)
    through = np.cumsum(inside_BT)  # tokens inside, through each place; a run's first token is inside
    sizes.reshape(-1)[begins + begins // length] = np.diff(through[begins], append=through[-1:] + 1)
    return sizes


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
    uniform = rng.uniform(tokens_BT.shape[1])
    lengths = functools.partial(span_lengths, probability=probability, max_words=max_words)
    group = fill_with_spans(sizes, masking.budget(wanted), order, uniform, lengths, max_words)
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
    left, taken = budget_B.copy(), np.zeros(order_BT.shape, bool)
    for begin in range(0, order_BT.shape[1], _WINDOW):
        rows = np.flatnonzero(left)
        order = order_BT[rows, begin : begin + _WINDOW]
        sizes = sizes_BT1[rows[:, None], order]
        here = np.zeros(sizes.shape, bool)
        of, room = np.arange(len(rows)), left[rows]
        while len(of):
            # Words that exceed the budget now will never fit; of the others, take all up to the first that does not.
            fitting = np.where(sizes[of] <= room[of, None], sizes[of], 0)
            take = (fitting > 0) & (np.cumsum(fitting, axis=1) <= room[of, None])
            here[of] |= take
            room[of] -= (fitting * take).sum(axis=1)
            sizes[of] = np.where(take, 0, fitting)
            of = of[(room[of] > 0) & sizes[of].any(axis=1)]
        taken[rows, begin : begin + _WINDOW], left[rows] = here, room
    at_word = np.zeros(sizes_BT1.shape, bool)
    np.put_along_axis(at_word, order_BT, taken, axis=1)
    return spread_over_words(at_word, sizes_BT1)


def fill_with_spans(
    sizes_BT1: np.ndarray,
    budget_B: np.ndarray,
    order_BT: np.ndarray,
    uniform_BT: np.ndarray,
    lengths: Callable[[np.ndarray], np.ndarray],
    longest: int,
) -> np.ndarray:
    """Takes spans that begin with the words in the order given, until the budget is filled.

    Args:
      sizes_BT1, budget_B, order_BT: as for `fill_budget`.
      uniform_BT, lengths: the span that begins at a position has as many words as `lengths` makes of the number there,
        at most `longest`. It ends before a special token, a word that was taken, and a word that exceeds the budget.

    Returns int64 [B, T]: the number of the span that each token was taken with, from 1; 0 for tokens not taken.
    """
    words = _Words.of(sizes_BT1, longest)
    number = np.zeros(len(words.size), np.int32)  # of the span that each word was taken with
    left, step, size = budget_B.copy(), 0, uniform_BT.shape[1]
    for begin in range(0, order_BT.shape[1], _WINDOW):
        rows = np.flatnonzero(left)
        order = words.rank[rows[:, None], order_BT[rows, begin : begin + _WINDOW]]
        while True:
            # Words that are taken or exceed the budget begin no span: go on with the others, in the same order.
            useful = (words.size[order] > 0) & (words.size[order] <= left[rows, None]) & (number[order] == 0)
            counts = useful.sum(axis=1)
            rows, counts, kept = rows[counts > 0], counts[counts > 0], order[useful]
            if not len(rows):
                break
            order = np.full((len(rows), int(counts.max())), words.none)
            order[np.arange(order.shape[1])[None] < counts[:, None]] = kept
            # Of about 4 tokens each; looking at more than are needed costs more than looking again.
            together = min(_SPANS, int(left[rows].max()) // 4 + 4)
            first, order = order[:, :together], order[:, together:]
            wanted = lengths(uniform_BT.reshape(-1)[words.column[first] + rows[:, None] * size])
            left[rows] -= _take(words, number, first, wanted, left[rows], step)
            step += together
    at_word = np.zeros_like(sizes_BT1)
    at_word.reshape(-1)[words.begin] = number[words.place]
    return spread_over_words(at_word, sizes_BT1)


def _take(
    words: "_Words", number: np.ndarray, first_RS: np.ndarray, wanted_RS: np.ndarray, left_R: np.ndarray, step: int
) -> np.ndarray:
    """Takes the spans that begin with these words, in their order, and writes `step` + 1, + 2 ... into `number`.

    How many words a span takes depends on the spans before it alone. So all are computed together, again and again
    from what the last time found, until nothing changes: then each follows from those before it. That takes a few
    rounds, as long as a chain of spans that stand in each other's way.

    Args:
      first_RS: for R rows, the words that S spans begin with.
      wanted_RS: the words of each, if nothing ends it earlier.
      left_R: tokens left in each row.

    Returns the tokens taken from each row.
    """
    ahead_N11 = np.arange(words.longest + 1, dtype=np.int32)[:, None, None]
    at_NRS = first_RS + ahead_N11
    before_RS = words.before[first_RS]
    is_free_NRS = (number[at_NRS] == 0) & (ahead_N11 < np.minimum(words.run[first_RS], wanted_RS))
    room_RS = np.logical_and.accumulate(is_free_NRS, axis=0).sum(axis=0, dtype=np.int32)
    tokens_NRS = (words.before[at_NRS[1:]] - before_RS).astype(np.int32)  # of the first word, of the first two, ...
    # How far the first word of each span Z is ahead of that of S, if it comes before S in the order.
    first_RS = first_RS.astype(np.int32)
    ahead_ZRS = first_RS.T[:, :, None] - first_RS
    is_earlier_ZRS = np.tri(first_RS.shape[1], k=-1, dtype=bool).T[:, None, :]
    until_ZRS = np.where(is_earlier_ZRS & (ahead_ZRS > 0), ahead_ZRS, words.longest)
    behind_ZRS = np.where(is_earlier_ZRS & (ahead_ZRS <= 0), -ahead_ZRS, words.longest)
    count_RS = room_RS
    while True:
        taken_RS = words.before[first_RS + count_RS] - before_RS
        left_RS = left_R[:, None] - (np.cumsum(taken_RS, axis=1) - taken_RS)
        count_ZR1 = count_RS.T[:, :, None]
        end_RS = np.where(count_ZR1 > 0, until_ZRS, words.longest).min(axis=0)
        is_inside_RS = (behind_ZRS < count_ZR1).any(axis=0)
        before, count_RS = count_RS, np.where(is_inside_RS, 0, np.minimum(room_RS, end_RS))
        exceeds = words.before[first_RS + count_RS] - before_RS > left_RS
        count_RS[exceeds] = (tokens_NRS[:, exceeds] <= left_RS[exceeds]).sum(axis=0)
        if np.array_equal(before, count_RS):
            break
    is_taken_NRS = ahead_N11 < count_RS
    numbers = np.broadcast_to(step + 1 + np.arange(first_RS.shape[1]), is_taken_NRS.shape)
    number[at_NRS[is_taken_NRS]] = numbers[is_taken_NRS]
    return taken_RS.sum(axis=1)


class _Words(NamedTuple):
    """The words of all rows, row after row, each row followed by places that hold no word.

    longest: words of the longest span; begin: where each word begins in the flattened sizes; place: its number; rank
    [B, T + 1]: the number of the word that begins at each position, or of a place without one. By these numbers:
    column, where the word begins in its row; size, 0 for no word; before, the sizes of all words before it; run, the
    words from there to the next special token. none: a place without a word.
    """

    longest: int
    begin: np.ndarray
    place: np.ndarray
    rank: np.ndarray
    column: np.ndarray
    size: np.ndarray
    before: np.ndarray
    run: np.ndarray
    none: int

    @classmethod
    def of(cls, sizes_BT1: np.ndarray, longest: int) -> "_Words":
        begin = np.flatnonzero(sizes_BT1 > 0)
        row, column_of = np.divmod(begin, sizes_BT1.shape[1])
        size_of = sizes_BT1.reshape(-1)[begin]
        gap = longest + 1
        place = np.arange(len(begin)) + gap * row
        none = len(begin) + gap * len(sizes_BT1)
        column, size, run = np.zeros((3, none + gap), np.int64)
        column[place], size[place] = column_of, size_of
        # The last word of each run of words without a special token in between.
        is_last = np.ones(len(begin), bool)
        is_last[:-1] = begin[1:] != (begin + size_of)[:-1]  # rows are apart by a column without words
        last = np.flatnonzero(is_last)
        run[place] = np.repeat(last, np.diff(last, prepend=-1)) - np.arange(len(begin)) + 1
        rank = np.full(sizes_BT1.shape, none)
        rank.reshape(-1)[begin] = place
        return cls(longest, begin, place, rank, column, size, np.cumsum(size) - size, run, none)


def spread_over_words(values_BT1: np.ndarray, sizes_BT1: np.ndarray) -> np.ndarray:
    """Gives all pieces of a word the value at its first one, and the other positions 0: [B, T].

    Args:
      values_BT1: 0 where no word begins.
      sizes_BT1: see `word_sizes`.
    """
    begins = np.flatnonzero(values_BT1 != 0)
    sizes = sizes_BT1.reshape(-1)[begins]
    spread = np.zeros(values_BT1.size, values_BT1.dtype)
    spread[ranges(begins, sizes)] = np.repeat(values_BT1.reshape(-1)[begins], sizes)
    return spread.reshape(values_BT1.shape)[:, :-1]

"""Whole-word and span masking. A false alarm of a statistical test is rarer than 1 in a million: bounds come from
Hoeffding's or Bernstein's inequality at that level, and seeds are fixed."""

import dataclasses

import numpy as np
import pytest

from tests.data.bounds import share_bound
from tests.data.pretraining.test_masking import MASK, SPECIALS, VOCAB, masking
from tx_jax.data.pretraining.masking import corrupt
from tx_jax.data.pretraining.words import choose_spans, choose_words, span_lengths, word_sizes
from tx_jax.data.rng import RowRandom, keys

KINDS = ("wordpiece", "byte-level BPE", "SentencePiece")


def continuation(kind):
    """Which ids continue a word. In the three kinds other shares of the vocabulary do, and in byte-level BPE those are
    the unmarked ones, the special tokens excepted."""
    table = np.zeros(VOCAB, bool)
    table[5:] = np.arange(5, VOCAB) % 10 < {"wordpiece": 3, "byte-level BPE": 6, "SentencePiece": 8}[kind]
    return table


def examples(rows, length=128, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(5, VOCAB, (rows, length)).astype(np.int32)
    tokens[rng.random(tokens.shape) < 0.03] = 3  # separators anywhere, also right before a continuation
    lengths = rng.integers(8, length + 1, rows)
    valid = np.arange(length)[None] < lengths[:, None]
    tokens[:, 0] = 2
    tokens[~valid] = 0
    return tokens, valid


def words_of(tokens, valid, is_continuation):
    """Lists of positions, a token at a time."""
    words = []
    for t in range(len(tokens)):
        if not valid[t] or tokens[t] in SPECIALS:
            continue
        if is_continuation[tokens[t]] and words and words[-1][-1] == t - 1:
            words[-1].append(t)
        else:
            words.append([t])
    return words


def random(rows, seed=0):
    return RowRandom(keys(seed, np.arange(rows)))


def chosen_by(unit, tokens, valid, table, seed=0, **changes):
    rng = random(len(tokens), seed)
    if unit == "whole_word":
        return choose_words(tokens, valid, masking(**changes), table, rng)
    return choose_spans(tokens, valid, masking(**changes), table, rng, probability=0.2, max_words=10)


@pytest.mark.parametrize("kind", KINDS)
def test_words_are_what_a_loop_over_tokens_finds(kind):
    tokens, valid = examples(200)
    table = continuation(kind)
    sizes = word_sizes(tokens, valid & ~np.isin(tokens, SPECIALS), table)
    for row in range(len(tokens)):
        expected = {word[0]: len(word) for word in words_of(tokens[row], valid[row], table)}
        assert {t: sizes[row, t] for t in np.flatnonzero(sizes[row]).tolist()} == expected


@pytest.mark.parametrize("unit", ["whole_word", "span"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.15, 0.8])
def test_a_word_is_never_split_and_the_rate_never_exceeded(unit, kind, rate):
    tokens, valid = examples(300)
    table = continuation(kind)
    choice = chosen_by(unit, tokens, valid, table, rate=rate, max_predictions=110)
    wanted = np.maximum(np.rint(rate * valid.sum(axis=1)), 1)
    got = choice.chosen_BT.sum(axis=1)
    assert (got <= wanted).all()
    assert got.sum() > 0.9 * np.minimum(wanted, 110).sum()
    for row in range(len(tokens)):
        words = words_of(tokens[row], valid[row], table)
        for word in words:
            assert choice.chosen_BT[row, word].all() or not choice.chosen_BT[row, word].any()
        assert choice.chosen_BT[row].sum() == sum(choice.chosen_BT[row, word].sum() for word in words)
        if unit == "whole_word":  # as google-research/bert: a word left out would have exceeded what was wanted
            left_out = [len(word) for word in words if not choice.chosen_BT[row, word].any()]
            assert all(got[row] + size > min(wanted[row], 110) for size in left_out)


def test_with_words_of_one_piece_the_number_is_exact():
    tokens, valid = examples(300)
    choice = chosen_by("whole_word", tokens, valid, np.zeros(VOCAB, bool))
    np.testing.assert_array_equal(choice.chosen_BT.sum(axis=1), np.clip(np.rint(0.15 * valid.sum(axis=1)), 1, 20))
    assert not choice.dropped_B.any()


def test_what_there_is_no_room_for_is_counted():
    tokens, valid = examples(300)
    choice = chosen_by("whole_word", tokens, valid, continuation("wordpiece"), max_predictions=7)
    assert choice.chosen_BT.sum(axis=1).max() == 7
    np.testing.assert_array_equal(choice.dropped_B, np.maximum(np.rint(0.15 * valid.sum(axis=1)) - 7, 0))


def test_every_word_is_equally_likely_whatever_its_place():
    rows, table = 20_000, np.zeros(VOCAB, bool)
    table[500:] = True
    tokens = np.tile(np.where(np.arange(32) % 2, 600, 7).astype(np.int32), (rows, 1))  # 16 words of two pieces
    choice = chosen_by("whole_word", tokens, np.ones_like(tokens, bool), table, rate=0.25)
    shares = choice.chosen_BT[:, ::2].mean(axis=0)
    assert (np.abs(shares - 0.25) < share_bound(0.25, rows, tests=16)).all()


def test_span_lengths_are_geometric_cut_at_the_longest():
    n = 200_000
    lengths = span_lengths(np.random.default_rng(0).random(n), 0.2, 10)
    expected = 0.2 * 0.8 ** np.arange(10)
    expected /= expected.sum()
    shares = np.bincount(lengths, minlength=11)[1:] / n
    assert (np.abs(shares - expected) < [share_bound(p, n, tests=10) for p in expected]).all()
    assert expected @ np.arange(1, 11) == pytest.approx(3.797, abs=1e-3)  # the paper's mean of 3.8


def first_spans(length, rows, rate):
    """Length in words and start of the first span of rows of one-piece words."""
    tokens = np.full((rows, length), 7, np.int32)
    choice = chosen_by("span", tokens, np.ones_like(tokens, bool), np.zeros(VOCAB, bool), rate=rate)
    first = choice.group_BT.copy()
    numbers = np.where(first > 0, first, 10_000).min(axis=1)
    at = first == numbers[:, None]
    return at.sum(axis=1), at.argmax(axis=1)


def test_spans_in_text_follow_the_distribution_and_begin_anywhere():
    rows, length = 6_000, 600
    words, begins = first_spans(length, rows, rate=20 / 600)  # 20 words wanted: the first span is never cut by that
    inside = begins < length - 10  # nor by the end
    n = int(inside.sum())
    expected = 0.2 * 0.8 ** np.arange(10)
    expected /= expected.sum()
    shares = np.bincount(words[inside], minlength=11)[1:] / n
    assert (np.abs(shares - expected) < [share_bound(p, n, tests=10) for p in expected]).all()
    counts = np.histogram(begins, bins=20, range=(0, length))[0] / rows
    assert (np.abs(counts - 0.05) < share_bound(0.05, rows, tests=20)).all()


def test_a_span_ends_at_a_special_token():
    tokens = np.full((500, 64), 7, np.int32)
    tokens[:, ::4] = 3
    choice = chosen_by("span", tokens, np.ones_like(tokens, bool), np.zeros(VOCAB, bool), rate=0.5, max_predictions=64)
    assert not choice.chosen_BT[:, ::4].any()
    for group in choice.group_BT:
        for number in np.unique(group[group > 0]):
            assert np.ptp(np.flatnonzero(group == number)) <= 2
    assert (choice.chosen_BT.sum(axis=1) == 32).all()


def test_a_span_is_replaced_as_one_and_a_word_piece_by_piece():
    tokens, valid = examples(3000)
    table = continuation("wordpiece")
    settings = masking(max_predictions=30)
    rows = np.arange(len(tokens))[:, None]
    together = {}
    for unit in ("span", "whole_word"):
        choice = chosen_by(unit, tokens, valid, table, max_predictions=30)
        group = choice.group_BT
        if group is None:
            group = np.cumsum(word_sizes(tokens, valid & ~np.isin(tokens, SPECIALS), table)[:, :-1] > 0, axis=1)
        out = corrupt(tokens, choice, settings, random(len(tokens), 1))
        used = out["masked_weights"] == 1
        positions = out["masked_positions"]
        masked = out["tokens"][rows, positions] == MASK
        both = used[:, 1:] & used[:, :-1] & (np.diff(positions, axis=1) == 1)
        both &= np.diff(group[rows, positions], axis=1) == 0
        together[unit] = (masked[:, 1:] == masked[:, :-1])[both].mean(), int(both.sum())
        share, n = masked[used].mean(), len(np.unique(np.nonzero(used)[0]))
        assert abs(share - 0.8) < share_bound(0.8, n)
    assert together["span"][0] == 1
    share, n = together["whole_word"]
    assert n > 1000
    assert abs(share - (0.8**2 + 0.2**2)) < share_bound(0.68, n // 2)


def test_a_row_does_not_depend_on_its_neighbours():
    tokens, valid = examples(64)
    table = continuation("byte-level BPE")
    for unit in ("whole_word", "span"):
        whole = chosen_by(unit, tokens, valid, table, rate=0.4, max_predictions=60).chosen_BT
        settings = masking(rate=0.4, max_predictions=60)
        for row in range(0, 64, 9):
            rng = RowRandom(keys(0, np.array([row])))
            part = tokens[row : row + 1], valid[row : row + 1]
            if unit == "whole_word":
                alone = choose_words(*part, settings, table, rng)
            else:
                alone = choose_spans(*part, settings, table, rng, probability=0.2, max_words=10)
            np.testing.assert_array_equal(alone.chosen_BT[0], whole[row])


def test_rows_of_specials_alone_predict_nothing():
    tokens, table = np.full((3, 8), 2, np.int32), np.zeros(VOCAB, bool)
    for unit in ("whole_word", "span"):
        assert not chosen_by(unit, tokens, np.ones_like(tokens, bool), table).chosen_BT.any()


def test_the_settings_of_a_masking_may_change_with_the_step():
    assert dataclasses.replace(masking(), rate=0.3).is_special is masking().is_special

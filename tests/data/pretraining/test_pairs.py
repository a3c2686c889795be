"""Sentence pairs: the statistics of google-research/bert, on splits whose tokens tell where they stand."""

import numpy as np
import pytest

from tests.data.bounds import share_bound
from tests.data.synthetic import SyntheticSplit, random_split
from tx_jax.data.pretraining.pairs import SentencePairs, truncate_pair
from tx_jax.data.rng import RowRandom, keys
from tx_jax.errors import InputError

PAD, CLS, SEP = 0, 1, 2


def pairs_of(split, *, length=64, short=0.1):
    return SentencePairs(
        split, sequence_length=length, short_sequence_probability=short, pad_id=PAD, cls_id=CLS, sep_id=SEP
    )


def build(pairs, epochs=1, seed=0):
    index = np.tile(np.arange(len(pairs)), epochs)
    epoch = np.repeat(np.arange(epochs), len(pairs))
    return index, pairs.rows(index, RowRandom(keys(seed, epoch, index)))


def segments_of(row_tokens, row_segments, row_valid, split):
    """Token positions in the split of A and of B, specials removed."""
    ordinary = row_valid & (row_tokens >= split.first_id)
    return tuple(row_tokens[ordinary & (row_segments == k)] - split.first_id for k in (0, 1))


@pytest.fixture(scope="module")
def split():
    return random_split(0, 60)


@pytest.fixture(scope="module")
def built(split):
    pairs = pairs_of(split)
    return pairs, *build(pairs, epochs=20)


def test_layout_is_cls_a_sep_b_sep(built, split):
    _, _, batch = built
    for tokens, segments, valid in zip(batch["tokens"], batch["segments"], batch["valid"], strict=True):
        a, b = segments_of(tokens, segments, valid, split)
        assert len(a) >= 1
        assert len(b) >= 1
        expected = [CLS, *(a + split.first_id), SEP, *(b + split.first_id), SEP]
        assert valid.sum() == len(expected) <= 64
        np.testing.assert_array_equal(tokens[valid], expected)
        assert (tokens[~valid] == PAD).all()
        np.testing.assert_array_equal(segments, [0] * (len(a) + 2) + [1] * (len(b) + 1) + [0] * (64 - valid.sum()))
        for part in (a, b):  # contiguous, inside one document
            np.testing.assert_array_equal(np.diff(part), 1)
            assert len(set(split.document_of(part))) == 1


def test_next_follows_in_the_document_and_random_next_never_comes_from_it(built, split):
    _, _, batch = built
    for i, label in enumerate(batch["next_sentence_labels"]):
        a, b = segments_of(batch["tokens"][i], batch["segments"][i], batch["valid"][i], split)
        same = split.document_of(a[:1]) == split.document_of(b[:1])
        assert same == (label == 0)
        if label == 0:
            assert a[-1] < b[0]


def test_a_true_pair_that_needs_no_truncation_is_seamless():
    split = SyntheticSplit([[10] * 6] * 40)
    _, batch = build(pairs_of(split, short=0.0), epochs=5)
    for i in np.flatnonzero(batch["next_sentence_labels"] == 0):
        a, b = segments_of(batch["tokens"][i], batch["segments"][i], batch["valid"][i], split)
        np.testing.assert_array_equal(np.concatenate([a, b]), np.arange(a[0], a[0] + 60))


def test_labels_are_balanced(built):
    labels = built[2]["next_sentence_labels"]
    assert abs(labels.mean() - 0.5) < 4 * 0.5 / np.sqrt(len(labels))


def test_random_next_reaches_every_other_eligible_document(split):
    pairs = pairs_of(split)
    index = np.zeros(20_000, np.int64)
    batch = pairs.rows(index, RowRandom(keys(5, np.arange(20_000))))
    chosen = batch["next_sentence_labels"] == 1
    first_of_b = (batch["segments"] == 1).argmax(axis=1)
    positions = batch["tokens"][np.arange(len(index)), first_of_b] - split.first_id
    documents = np.bincount(split.document_of(positions[chosen]), minlength=split.num_documents)
    eligible = np.diff(split.document_offsets) >= 2
    own = pairs.spans.documents[0]
    assert documents[own] == 0
    assert (documents[~eligible] == 0).all()
    expected = chosen.sum() / (eligible.sum() - 1)
    others = np.flatnonzero(eligible)
    others = others[others != own]
    assert (np.abs(documents[others] - expected) < 6 * np.sqrt(expected)).all()


def test_spans_cover_every_sentence_of_eligible_documents_once(split):
    spans = pairs_of(split).spans
    covered = np.concatenate([np.arange(s, s + n) for s, n in zip(spans.starts, spans.counts, strict=True)])
    expected = np.concatenate(
        [
            np.arange(a, b)
            for a, b in zip(split.document_offsets[:-1], split.document_offsets[1:], strict=True)
            if b - a >= 2
        ]
    )
    np.testing.assert_array_equal(covered, expected)
    assert (spans.counts >= 2).all()


def test_spans_close_with_the_sentence_that_reaches_the_target():
    split = SyntheticSplit([[30, 20, 15, 5, 40, 30, 1], [10, 10]])
    spans = pairs_of(split, length=64).spans  # target 61
    assert list(zip(spans.starts, spans.counts, strict=True)) == [(0, 3), (3, 4), (7, 2)]


def test_what_a_random_next_leaves_unused_is_the_head_as_often_as_the_tail():
    pairs = pairs_of(SyntheticSplit([[10] * 6] * 40), short=0.0)
    _, batch = build(pairs, epochs=200)
    seen = batch["tokens"][batch["valid"] & (batch["segments"] == 0) & (batch["tokens"] >= 10)] - 10
    by_sentence = np.bincount(seen // 10 % 6, minlength=6)
    assert by_sentence[0] > by_sentence[-1]  # A is the front part of a true pair
    random_rows = batch["next_sentence_labels"] == 1
    part = batch["tokens"][random_rows]
    in_a = batch["valid"][random_rows] & (batch["segments"][random_rows] == 0) & (part >= 10)
    counts = np.bincount((part[in_a] - 10) // 10 % 6, minlength=6)
    np.testing.assert_allclose(counts, counts[::-1], rtol=0.08)


def test_short_sequences_have_their_probability():
    split = SyntheticSplit([[1] * 400] * 5)
    for probability in (0.0, 0.1, 0.5):
        pairs = pairs_of(split, short=probability)
        index = np.zeros(20_000, np.int64)
        batch = pairs.rows(index, RowRandom(keys(1, np.arange(20_000))))
        # True pairs only: a random next near its document's end is short whatever the target.
        lengths = batch["valid"].sum(axis=1)[batch["next_sentence_labels"] == 0]
        # 60 targets from 2 to 61, of which one is the full length; a random start inside the span also shortens it.
        expected = probability * (1 - 1 / 60 / 60)
        assert abs((lengths < 64).mean() - expected) < 4 * np.sqrt(0.25 / len(lengths)) + 1e-9
    assert lengths.min() == 5
    assert lengths.max() == 64


def reference_truncation(a, b, max_tokens, rng):
    """The loop of google-research/bert's truncate_seq_pair, restated."""
    a, b = list(a), list(b)
    while len(a) + len(b) > max_tokens:
        longer = a if len(a) > len(b) else b
        del longer[0 if rng.random() < 0.5 else -1]
    return a, b


def test_truncation_equals_the_token_by_token_loop():
    rng = np.random.default_rng(0)
    a_length, b_length = rng.integers(1, 150, (2, 4000))
    zeros = np.zeros_like(a_length)
    for max_tokens in (61, 62):
        stream = RowRandom(keys(0, np.arange(4000)))
        a0, a1, b0, b1 = truncate_pair(zeros, a_length, zeros, b_length, max_tokens, stream)
        reference = [
            reference_truncation(range(a), range(b), max_tokens, rng) for a, b in zip(a_length, b_length, strict=True)
        ]
        np.testing.assert_array_equal(a1 - a0, [len(a) for a, _ in reference])
        np.testing.assert_array_equal(b1 - b0, [len(b) for _, b in reference])
        # Lost at the front: the same distribution, compared by mean and spread.
        for ours, theirs in ((a0, [a[0] for a, _ in reference]), (b0, [b[0] for _, b in reference])):
            assert abs(ours.mean() - np.mean(theirs)) < 4 * np.std(theirs) * np.sqrt(2 / 4000)
            assert abs(ours.std() / np.std(theirs) - 1) < 0.1


def test_a_row_does_not_depend_on_the_rest_of_the_batch(split):
    pairs = pairs_of(split)
    index = np.arange(len(pairs))
    whole = pairs.rows(index, RowRandom(keys(0, index)))
    part = pairs.rows(index[7:9], RowRandom(keys(0, index[7:9])))
    for key, value in part.items():
        np.testing.assert_array_equal(value, whole[key][7:9])


@pytest.mark.parametrize("documents", [[[5]] * 50, [[5, 5, 5]], [[5, 5]] + [[7]] * 9])
def test_next_sentence_impossible_is_an_error_that_names_the_remedy(documents):
    with pytest.raises(InputError, match=r"doc_sentences.*masked_lm"):
        pairs_of(SyntheticSplit(documents))


def test_two_documents_are_enough_and_sentences_longer_than_the_sequence_fit():
    split = SyntheticSplit([[500, 3], [1, 900]])
    _, batch = build(pairs_of(split, length=16), epochs=50)
    assert (batch["valid"].sum(axis=1) <= 16).all()
    assert (batch["segments"] * batch["valid"]).any(axis=1).all()


def sentence_of(split, part):
    """The sentence that a part is, and that it is exactly one."""
    first = np.searchsorted(split.sentence_offsets, part[0], side="right") - 1
    assert [part[0], part[-1] + 1] == split.sentence_offsets[first : first + 2].tolist()
    return first


def test_sentence_pairs_are_two_single_sentences_neighbours_or_of_other_documents(split):
    pairs = SentencePairs(
        split,
        sequence_length=90,
        short_sequence_probability=0.5,  # has no effect
        pad_id=PAD,
        cls_id=CLS,
        sep_id=SEP,
        single_sentences=True,
    )
    index, batch = build(pairs, epochs=30)
    seen = np.zeros(split.num_sentences, int)
    for i, label in enumerate(batch["next_sentence_labels"]):
        a, b = segments_of(batch["tokens"][i], batch["segments"][i], batch["valid"][i], split)
        first, second = sentence_of(split, a), sentence_of(split, b)
        seen[first] += 1
        assert (second == first + 1) if label == 0 else split.document_of(a[:1]) != split.document_of(b[:1])
    share, n = batch["next_sentence_labels"].mean(), len(index)
    assert abs(share - 0.5) < share_bound(0.5, n)
    sizes = np.diff(split.document_offsets)
    assert len(pairs) == (sizes // 2).sum()  # sentences in twos, in threes at the end of a document of an odd number
    eligible = np.repeat(sizes >= 2, sizes)
    assert seen[eligible].min() > 0
    assert seen[~eligible].sum() == 0


def test_roberta_has_two_separators_between_the_parts(split):
    pairs = SentencePairs(
        split,
        sequence_length=64,
        short_sequence_probability=0.1,
        pad_id=PAD,
        cls_id=CLS,
        sep_id=SEP,
        num_separators=2,
    )
    _, batch = build(pairs)
    for tokens, segments, valid in zip(batch["tokens"], batch["segments"], batch["valid"], strict=True):
        a, b = segments_of(tokens, segments, valid, split)
        assert tokens[valid].tolist() == [CLS, *(a + split.first_id), SEP, SEP, *(b + split.first_id), SEP]
        assert segments.sum() == len(b) + 1
    assert batch["valid"].all(axis=1).any()


def test_a_sequence_shorter_than_its_special_tokens_is_an_error(split):
    with pytest.raises(
        InputError, match=r"sequence_length=4 leaves no room for text: .* 3 special tokens and at least 2"
    ):
        pairs_of(split, length=4)
    assert build(pairs_of(split, length=5))[1]["valid"].all()

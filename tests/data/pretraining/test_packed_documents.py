"""Packed documents: nothing lost, nothing interleaved, hardly any padding."""

import numpy as np
import pytest

from tests.data.synthetic import OneSentenceDocuments, SyntheticSplit, random_split
from tx_jax.data.pretraining.best_fit import best_fit as in_blocks
from tx_jax.data.pretraining.best_fit import pack_histogram
from tx_jax.data.pretraining.packed_documents import PackedDocuments
from tx_jax.data.rng import RowRandom, keys
from tx_jax.errors import InputError

PAD, BEGIN, END = 0, 1, 2


def packed(split, length, causal):
    begin = END if causal else BEGIN
    return PackedDocuments(split, sequence_length=length, pad_id=PAD, begin_id=begin, end_id=END, causal=causal)


def best_fit(lengths, capacity):
    """The items row after row, and where each row begins."""
    blocks = [(np.empty(0, np.int64), np.empty(0, np.int64)), *in_blocks(lengths, capacity)]
    order, sizes = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return order, np.concatenate([[0], np.cumsum(sizes)])


def rows_of(examples, index=None):
    index = np.arange(len(examples)) if index is None else index
    return examples.rows(index, RowRandom(keys(0, index)))


def one_by_one(lengths, capacity):
    """Best-fit decreasing as the textbook has it: the room left in each row."""
    rooms = []
    for length in sorted(lengths, reverse=True):
        fitting = [room for room in rooms if room >= length]
        if fitting:
            rooms[rooms.index(min(fitting))] -= length
        else:
            rooms.append(capacity - length)
    return sorted(rooms)


@pytest.mark.parametrize("seed", range(20))
def test_the_histogram_is_packed_as_one_item_after_the_other_would_be(seed):
    rng = np.random.default_rng(seed)
    capacity = int(rng.integers(5, 60))
    lengths = rng.integers(1, 1 + rng.integers(1, capacity + 1), rng.integers(1, 300))
    order, begins = best_fit(lengths, capacity)
    np.testing.assert_array_equal(np.sort(order), np.arange(len(lengths)))
    rooms = capacity - np.add.reduceat(lengths[order], begins[:-1])
    assert sorted(rooms) == one_by_one(lengths, capacity)


def test_items_that_cannot_be_packed_are_refused():
    with pytest.raises(ValueError, match="longer than"):
        pack_histogram(np.array([0, 1, 0, 1]), 2)
    with pytest.raises(ValueError, match="length 0"):
        pack_histogram(np.array([1, 1]), 2)
    order, begins = best_fit(np.zeros(0, np.int64), 4)
    assert (len(order), begins.tolist()) == (0, [0])


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [8, 64, 2000])
def test_documents_are_whole_or_cut_into_runs_and_every_token_comes_once(length, causal):
    split = random_split(6, 80, max_sentences=8)
    batch = rows_of(packed(split, length, causal))
    text = batch["targets" if causal else "tokens"]
    ordinary = text >= split.first_id
    assert (ordinary <= batch["valid"]).all()
    np.testing.assert_array_equal(np.sort(text[ordinary]) - split.first_id, np.arange(split.num_tokens))
    if causal:
        assert (text[batch["valid"]] == END).sum() == split.num_documents
    for row in range(len(text)):
        for number in range(1, batch["documents"][row].max() + 1):
            at = np.flatnonzero(batch["documents"][row] == number)
            np.testing.assert_array_equal(np.diff(at), 1)  # never interleaved
            np.testing.assert_array_equal(batch["positions"][row, at], np.arange(len(at)))
            here = text[row, at][text[row, at] >= split.first_id] - split.first_id
            np.testing.assert_array_equal(np.diff(here), 1)
            assert len(set(split.document_of(here))) <= 1  # 0: an end alone, after a document that fills a row
    np.testing.assert_array_equal(batch["documents"] > 0, batch["valid"])
    assert (batch["positions"][~batch["valid"]] == 0).all()
    assert (batch["tokens"][~batch["valid"]] == PAD).all()


def test_the_two_layouts():
    split = SyntheticSplit([[3], [2, 2]])
    masked = rows_of(packed(split, 12, causal=False))
    assert masked["tokens"].tolist() == [[1, 13, 14, 15, 16, 2, 1, 10, 11, 12, 2, 0]]
    assert masked["documents"].tolist() == [[1] * 6 + [2] * 5 + [0]]
    assert masked["positions"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 0]]
    causal = rows_of(packed(split, 10, causal=True))
    assert causal["tokens"].tolist() == [[2, 13, 14, 15, 16, 2, 10, 11, 12, 0]]
    assert causal["targets"].tolist() == [[13, 14, 15, 16, 2, 10, 11, 12, 2, 0]]
    assert causal["positions"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3, 0]]


def test_a_long_document_is_cut_into_full_rows_and_a_remainder():
    split = SyntheticSplit([[23], [4]])
    batch = rows_of(packed(split, 10, causal=True))
    assert sorted(batch["valid"].sum(axis=1)) == [9, 10, 10]
    masked = rows_of(packed(split, 10, causal=False))
    assert sorted(masked["valid"].sum(axis=1)) == [6, 9, 10, 10]
    only_full = packed(SyntheticSplit([[16]]), 10, causal=False)  # no remainder, so no packed row at all
    assert rows_of(only_full)["tokens"].tolist() == [[1, *range(10, 18), 2], [1, *range(18, 26), 2]]


LENGTHS = {
    "log-normal, most of them short": lambda rng, n: np.exp(rng.normal(4.2, 0.9, n)),  # median 67 tokens
    "encyclopedia": lambda rng, n: np.exp(rng.normal(5.7, 1.2, n)),  # median 300, a tenth above 1400
    "messages": lambda rng, n: rng.geometric(1 / 22, n),
}


@pytest.mark.parametrize("name", LENGTHS)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("length", [128, 512, 1024])
def test_less_than_two_percent_is_padding(name, causal, length):
    lengths = np.maximum(LENGTHS[name](np.random.default_rng(0), 8000), 1).astype(np.int64)
    examples = packed(OneSentenceDocuments(lengths), length, causal)
    assert examples.padding < 0.02
    valid = rows_of(examples)["valid"]
    assert examples.padding == pytest.approx(1 - valid.mean())


def test_a_million_documents_of_one_word_are_packed_in_seconds():
    split = OneSentenceDocuments(np.ones(1_000_000, np.int64))
    examples = packed(split, 128, causal=False)
    assert examples.padding < 0.02
    assert examples.nbytes < 5 * split.num_documents
    batch = rows_of(examples, np.array([0, len(examples) // 2]))
    assert batch["documents"].max(axis=1).tolist() == [42, 42]
    assert (batch["tokens"][:, 0:126:3] == BEGIN).all()


def test_what_cannot_be_packed_is_refused():
    with pytest.raises(InputError, match="no sentences in"):
        packed(SyntheticSplit([]), 12, causal=True)
    with pytest.raises(InputError, match="sequence_length=2 leaves no room"):
        packed(SyntheticSplit([[4]]), 2, causal=False)

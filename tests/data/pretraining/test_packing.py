import numpy as np
import pytest

from tests.data.synthetic import SyntheticSplit, random_split
from tx_jax.data.pretraining import packing
from tx_jax.data.pretraining.packing import DocSentences, FullSentences
from tx_jax.data.rng import RowRandom, keys
from tx_jax.errors import InputError


def examples_of(split, length):
    return DocSentences(split, sequence_length=length, pad_id=0, cls_id=1, sep_id=2)


def rows_of(examples, seed=0):
    index = np.arange(len(examples))
    return examples.rows(index, RowRandom(keys(seed, index)))


def test_whole_sentences_of_one_document_as_many_as_fit():
    split = SyntheticSplit([[4, 4, 4], [8], [3, 6, 1]])
    tokens = rows_of(examples_of(split, 10))["tokens"]  # 8 tokens and two specials
    lengths = (tokens >= split.first_id).sum(axis=1)
    np.testing.assert_array_equal(lengths, [8, 4, 8, 3, 7])


def test_all_tokens_appear_exactly_once_where_sentences_fit():
    split = random_split(1, 40, max_length=30)
    batch = rows_of(examples_of(split, 40))
    ordinary = batch["tokens"] >= split.first_id
    assert (ordinary <= batch["valid"]).all()
    seen = batch["tokens"][ordinary] - split.first_id
    np.testing.assert_array_equal(np.sort(seen), np.arange(split.sentence_offsets[-1]))
    assert not batch["segments"].any()


def test_a_sentence_that_is_too_long_is_cut_at_changing_places():
    split = SyntheticSplit([[100]])
    examples = examples_of(split, 12)
    starts = {int(rows_of(examples, seed)["tokens"][0, 1]) for seed in range(60)}
    assert len(starts) > 30
    assert min(starts) >= split.first_id
    assert max(starts) <= split.first_id + 90


def test_an_empty_split_is_an_error():
    with pytest.raises(InputError, match=r"no sentences in .*validation_fraction"):
        examples_of(SyntheticSplit([]), 12)


def full_sentences_of(split, length):
    return FullSentences(split, sequence_length=length, pad_id=0, cls_id=1, sep_id=2)


def expected_rows(split, length):
    """FULL-SENTENCES as the paper words it, a sentence at a time."""
    rows, row, last = [], [], None
    for document in range(split.num_documents):
        for sentence in range(*split.document_offsets[document : document + 2]):
            tokens = list(range(*split.sentence_offsets[sentence : sentence + 2] + split.first_id))
            separator = [2] if row and document != last else []
            if row and len(row) + len(separator) + len(tokens) > length - 2:
                rows.append([1, *row, 2])
                row, separator = [], []
            row, last = row + separator + tokens, document
    return [*rows, [1, *row, 2]]


@pytest.mark.parametrize("block", [7, 1 << 20])
@pytest.mark.parametrize("length", [40, 64, 300])
def test_full_sentences_cross_documents_with_a_separator(monkeypatch, block, length):
    monkeypatch.setattr(packing, "_BLOCK", block)
    split = random_split(4, 60, max_sentences=6, max_length=30)
    batch = rows_of(full_sentences_of(split, length))
    rows = [tokens[valid].tolist() for tokens, valid in zip(batch["tokens"], batch["valid"], strict=True)]
    assert rows == expected_rows(split, length)
    assert (batch["tokens"][~batch["valid"]] == 0).all()
    assert (batch["tokens"] == 2).sum() > len(rows) + 10  # else no row crossed documents


def test_full_sentences_cut_what_is_longer_than_a_row():
    split = SyntheticSplit([[3], [100], [5, 2]])
    examples = full_sentences_of(split, 12)
    assert examples.starts.tolist() == [0, 1, 2, 4]
    starts = {int(rows_of(examples, seed)["tokens"][1, 1]) for seed in range(60)}
    assert len(starts) > 30
    assert (rows_of(examples)["tokens"][1] > 0).all()


def test_an_empty_split_and_a_sequence_without_room_are_errors():
    with pytest.raises(InputError, match=r"no sentences in .*validation_fraction"):
        full_sentences_of(SyntheticSplit([]), 12)
    for make in (examples_of, full_sentences_of):
        with pytest.raises(InputError, match=r"sequence_length=2 leaves no room for text"):
            make(SyntheticSplit([[5]]), 2)
        assert (rows_of(make(SyntheticSplit([[5]]), 3))["tokens"][:, [0, 2]] == [1, 2]).all()

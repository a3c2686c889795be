import numpy as np
import pytest

from tests.data.synthetic import SyntheticSplit, random_split
from tx_jax.data.packing import DocSentences
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

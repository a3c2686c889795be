"""GPT's concatenate-and-chunk, on splits whose tokens tell where they stand."""

import numpy as np
import pytest

from tests.data.synthetic import OneSentenceDocuments, SyntheticSplit, random_split
from tx_jax.data.pretraining.chunks import Chunks
from tx_jax.data.rng import RowRandom, keys
from tx_jax.errors import InputError

PAD, END = 0, 1


def chunks_of(split, length):
    return Chunks(split, sequence_length=length, pad_id=PAD, end_id=END)


def rows_of(examples, index=None):
    index = np.arange(len(examples)) if index is None else index
    return examples.rows(index, RowRandom(keys(0, index)))


def stream_of(split):
    """E d1 E d2 … dn E, a token at a time."""
    stream = [END]
    for document in range(split.num_documents):
        first, last = split.sentence_offsets[split.document_offsets[document : document + 2]]
        stream += [*range(first + split.first_id, last + split.first_id), END]
    return np.array(stream)


@pytest.mark.parametrize("length", [8, 64, 100_000])
def test_the_rows_are_the_stream(length):
    split = random_split(2, 50)
    batch, stream = rows_of(chunks_of(split, length)), stream_of(split)
    np.testing.assert_array_equal(batch["tokens"][batch["valid"]], stream[:-1])
    np.testing.assert_array_equal(batch["targets"][batch["valid"]], stream[1:])
    assert batch["valid"][:-1].all()
    assert (batch["tokens"][~batch["valid"]] == PAD).all()


def test_every_token_is_predicted_exactly_once_and_so_is_every_end():
    split = random_split(5, 40)
    batch = rows_of(chunks_of(split, 37))
    targets = batch["targets"][batch["valid"]]
    np.testing.assert_array_equal(np.sort(targets[targets != END]) - split.first_id, np.arange(split.num_tokens))
    assert (targets == END).sum() == split.num_documents


def test_the_stream_may_end_with_a_chunk():
    split = SyntheticSplit([[3], [3]])  # E 3 E 3 E: eight targets
    assert rows_of(chunks_of(split, 8))["valid"].shape == (1, 8)
    assert rows_of(chunks_of(split, 4))["valid"].all()
    assert rows_of(chunks_of(split, 7))["valid"].sum(axis=1).tolist() == [7, 1]


def test_a_million_documents_of_one_word():
    split = OneSentenceDocuments(np.ones(1_000_000, np.int64))
    examples = chunks_of(split, 512)
    assert len(examples) == -(-2_000_000 // 512)
    assert examples.nbytes < 9 * split.num_documents
    batch = rows_of(examples, np.array([0, 1000, len(examples) - 1]))
    np.testing.assert_array_equal(batch["targets"][1, ::2], np.arange(256_000, 256_256) + split.first_id)
    assert (batch["tokens"][1, ::2] == END).all()


def test_an_empty_split_is_an_error():
    with pytest.raises(InputError, match="no sentences in"):
        chunks_of(SyntheticSplit([]), 8)

import json
import shutil

import numpy as np
import pytest

from tx_jax import text
from tx_jax.data.corpus import token_store
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.corpus.token_store import TokenStore, token_dtype
from tx_jax.data.corpus.writer import GrowingArray, SplitWriter, TokenBlock
from tx_jax.errors import InputError

VOCAB = 50


def random_blocks(seed=0, blocks=6, documents=20):
    rng = np.random.default_rng(seed)
    for _ in range(blocks):
        document_lengths = rng.integers(1, 6, documents)
        sentence_lengths = rng.integers(1, 9, document_lengths.sum())
        tokens = rng.integers(0, VOCAB, sentence_lengths.sum()).astype(np.uint16)
        yield TokenBlock(tokens, sentence_lengths, document_lengths)


def write(folder, blocks, shard_tokens=100, state=None):
    writer = SplitWriter(folder, "train", vocab_size=VOCAB, shard_tokens=shard_tokens, state=state)
    for block in blocks:
        writer.append(block)
    return writer


def contents(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def split(tmp_path):
    """(blocks, Split of them in shards of at most 100 tokens)."""
    blocks = list(random_blocks())
    meta = write(tmp_path, blocks).finish()
    return blocks, token_store.Split(tmp_path, "train", meta, VOCAB)


def test_what_was_written_is_read(split):
    blocks, split = split
    tokens = np.concatenate([block.tokens for block in blocks])
    sentence_lengths = np.concatenate([block.sentence_lengths for block in blocks])
    document_lengths = np.concatenate([block.document_lengths for block in blocks])
    assert (split.num_tokens, split.num_sentences, split.num_documents) == (
        len(tokens),
        len(sentence_lengths),
        len(document_lengths),
    )
    np.testing.assert_array_equal(split.sentence_offsets, np.cumsum([0, *sentence_lengths]))
    np.testing.assert_array_equal(split.document_offsets, np.cumsum([0, *document_lengths]))
    np.testing.assert_array_equal(split.unigram, np.bincount(tokens, minlength=VOCAB))
    found = split.read(split.sentence_offsets[:-1], split.sentence_offsets[1:])
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, tokens)


def test_ranges_are_read_in_the_order_given(split):
    blocks, split = split
    tokens = np.concatenate([block.tokens for block in blocks])
    sentences = np.random.default_rng(1).permutation(split.num_sentences)
    starts, ends = split.sentence_offsets[sentences], split.sentence_offsets[sentences + 1]
    expected = np.concatenate([tokens[start:end] for start, end in zip(starts, ends, strict=True)])
    np.testing.assert_array_equal(split.read(starts, ends), expected)
    assert split.read([], []).shape == (0,)
    assert split.read([split.num_tokens], [split.num_tokens]).shape == (0,)


def test_documents_never_straddle_shards(split):
    _, split = split
    bounds = split.sentence_offsets[split.document_offsets]
    shard_starts = split._bounds
    assert len(shard_starts) > 10
    assert np.isin(shard_starts, bounds).all()
    assert (np.diff(shard_starts) <= 100).all()
    assert (np.diff(shard_starts)[:-1] > 50).all()  # and shards are filled


def test_a_document_longer_than_a_shard_gets_its_own(tmp_path):
    lengths = [np.array([3, 4]), np.array([60, 60, 60]), np.array([5])]
    blocks = [
        TokenBlock(np.arange(7, dtype=np.uint16), lengths[0], np.array([1, 1])),
        TokenBlock(np.full(180, 9, np.uint16), lengths[1], np.array([3])),
        TokenBlock(np.arange(5, dtype=np.uint16), lengths[2], np.array([1])),
    ]
    meta = write(tmp_path, blocks).finish()
    assert [shard["tokens"] for shard in meta["shards"]] == [7, 180, 5]
    assert meta["single_sentence_documents"] == 3


def test_ranges_outside_are_refused(split):
    _, split = split
    boundary = int(split._bounds[1])
    for start, end in ((-1, 1), (5, 4), (boundary - 1, boundary + 1), (split.num_tokens, split.num_tokens + 1)):
        with pytest.raises(ValueError, match="token range"):
            split.read([start], [end])


def test_an_id_outside_the_vocabulary_names_the_shard(split):
    _, split = split
    path = split._paths[1]
    np.load(path, mmap_mode="r+")[3] = VOCAB
    first = int(split._bounds[1])
    with pytest.raises(InputError, match=r"tokens-00001.npy holds token id 50, outside the vocabulary of 50"):
        split.read([0, first], [2, first + 9])
    split.read([0, first + 4], [2, first + 9])


def test_wide_vocabularies_are_stored_in_four_bytes(tmp_path):
    assert token_dtype(65_536) == np.uint16
    assert token_dtype(65_537) == np.uint32
    writer = SplitWriter(tmp_path, "train", vocab_size=70_000, shard_tokens=100)
    writer.append(TokenBlock(np.array([69_999, 1], np.uint32), np.array([2]), np.array([1])))
    split = token_store.Split(tmp_path, "train", writer.finish(), 70_000)
    assert split.read([0], [2]).tolist() == [69_999, 1]
    np.load(split._paths[0], mmap_mode="r+")[0] = 2**32 - 1  # as an int32 this would be -1
    with pytest.raises(InputError, match="token id 4294967295"):
        split.read([0], [2])


@pytest.mark.parametrize("kept", [0, 1, 3, 6])
def test_a_writer_goes_back_to_its_recorded_state(tmp_path, kept):
    blocks = list(random_blocks())
    write(tmp_path / "whole", blocks).finish()
    writer = write(tmp_path / "cut", blocks[:kept])
    state = json.loads(json.dumps(writer.state()))
    for block in random_blocks(seed=5, blocks=4):  # lost in the interruption, in part already on the disk
        writer.append(block)
    writer.close()
    write(tmp_path / "cut", blocks[kept:], state=state).finish()
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")


def test_a_growing_array_is_a_plain_npy_file(tmp_path):
    array = GrowingArray(tmp_path / "a.npy", np.int64)
    array.append(np.arange(3))
    array.append(np.arange(0, 8, 2))  # not contiguous
    array.finish()
    assert np.load(tmp_path / "a.npy").tolist() == [0, 1, 2, 0, 2, 4, 6]
    with pytest.raises(InputError, match=r"a.npy is shorter than its journal"):
        GrowingArray(tmp_path / "a.npy", np.int64, length=8)
    with pytest.raises(InputError, match=r"b.npy is shorter than its journal"):
        GrowingArray(tmp_path / "b.npy", np.int64, length=1)


LINES = [f"sentence {word} of the document says {word} ." for word in ("one", "two", "three", "four", "five", "six")]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A prepared store of four documents whose text survives encoding and decoding."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "a.txt").write_text("\n\n".join("\n".join(LINES[i:]) for i in range(4)))
    source = SourceConfig((str(folder / "a.txt"),))
    prepare(
        PrepareConfig(folder / "store", source, vocab_size=120, validation_fraction=0.0, sentences="line", workers=1)
    )
    return folder / "store"


@pytest.fixture
def store(made, tmp_path):
    return shutil.copytree(made, tmp_path / "store")


def test_the_text_comes_back(store):
    opened = TokenStore.open(store)
    split, tokenizer = opened.split("train"), opened.tokenizer()
    assert isinstance(tokenizer, text.Tokenizer)
    assert tokenizer.vocab_size == opened.vocab_size
    assert tokenizer.fingerprint == opened.meta["tokenizer_fingerprint"]
    offsets = split.sentence_offsets
    found = [
        tokenizer.decode(split.read(offsets[i : i + 1], offsets[i + 1 : i + 2])) for i in range(split.num_sentences)
    ]
    assert found == [line.replace(" .", ".") for i in range(4) for line in LINES[i:]]
    assert np.diff(split.document_offsets).tolist() == [6, 5, 4, 3]
    empty = opened.split("validation")
    assert (empty.num_documents, empty.num_tokens, empty.read([], []).size) == (0, 0, 0)
    assert empty.sentence_offsets.tolist() == [0]
    opened.verify()


def test_damage_is_named(store):
    shard = store / "train" / "tokens-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"has damaged files: train/tokens-00000.npy; prepare it again"):
        TokenStore.open(store).verify()
    shard.write_bytes(data[:-2])
    (store / "tokenizer" / "vocab.txt").unlink()
    with pytest.raises(
        InputError, match=r"tokenizer/vocab.txt is missing, train/tokens-00000.npy has \d+ bytes instead of"
    ):
        TokenStore.open(store)


def test_what_is_no_store_is_refused_with_the_remedy(store, tmp_path):
    with pytest.raises(InputError, match=r"no token store at .*nowhere: make one with python -m experiments.prepare"):
        TokenStore.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"unknown split 'test'"):
        TokenStore.open(store).split("test")
    meta = json.loads((store / "meta.json").read_text())
    (store / "meta.json").write_text(json.dumps(meta | {"format": 99}))
    with pytest.raises(InputError, match="has format 99, this version reads 1"):
        TokenStore.open(store)
    (store / "meta.json").rename(store / "journal.json")
    with pytest.raises(InputError, match=r"is unfinished: run the same python -m experiments.prepare command again"):
        TokenStore.open(store)


def test_a_scheme_that_is_not_supported_is_refused():
    with pytest.raises(InputError, match=r"data.store=ftp://bucket/b: paths that begin with ftp:// are not supported"):
        Stores.open("ftp://bucket/b")

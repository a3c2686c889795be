"""Stores of pairs: what was put in comes out, and what is damaged is found."""

import numpy as np
import pytest

from tests.data.translation import pairs
from tx_jax import text
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.translation.sources import PairSource
from tx_jax.data.translation.store import PairStore, prepare
from tx_jax.errors import InputError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return pairs.store(tmp_path_factory.mktemp("pairs"))


def test_texts_come_back(store):
    split, tokenizer = store.split("validation"), store.tokenizer()
    assert split.texts() == pairs.made(20, 1)
    for name, side in (("source", 0), ("target", 1)):
        ends = getattr(split, f"{name}_ends")
        found = [tokenizer.decode(ids) for ids in np.split(getattr(split, name), ends[:-1])]
        assert found == [pair[side] for pair in split.texts()]
    assert split.sizes.tolist() == [[len(b.encode()), len(b.split())] for _, b in split.texts()]
    assert store.splits == ("train", "validation", "test")
    assert not (store.path / "train" / "texts.jsonl").exists()


def test_empty_sides_are_left_out_and_counted(tmp_path):
    made = [("eins", "one"), ("", "two"), ("drei", ""), ("", ""), ("vier", "four")] * 5
    source = {name: PairSource(pairs.write(tmp_path, name, made)) for name in ("train", "validation")}
    store = prepare(tmp_path / "store", source, kind="byte_bpe", vocab_size=280)
    assert store.meta["splits"]["train"]["empty"] == 15
    assert len(store.split("train")) == 10
    with pytest.raises(InputError, match="exists: give another --store, or --overwrite"):
        prepare(tmp_path / "store", source)
    again = prepare(tmp_path / "store", source, kind="byte_bpe", vocab_size=280, overwrite=True)
    assert again.fingerprint == store.fingerprint


def test_the_fingerprint_is_that_of_tokenizer_and_pairs(store, tmp_path):
    same = pairs.store(tmp_path / "a", tokenizer=store.tokenizer())
    assert same.fingerprint == store.fingerprint
    assert pairs.store(tmp_path / "b", 201, tokenizer=store.tokenizer()).fingerprint != store.fingerprint


def test_what_cannot_be_opened(store, tmp_path, tiny_store):
    with pytest.raises(
        InputError, match=r"no store of pairs at .*: make one with python -m experiments\.prepare_pairs"
    ):
        PairStore.open(tmp_path / "nothing")
    with pytest.raises(InputError, match="is not of a store of pairs"):
        PairStore.open(tiny_store.path)
    with pytest.raises(InputError, match="has format pairs 1"):
        Stores.open(store.path)
    with pytest.raises(InputError, match="has no dev split, but train, validation, test"):
        store.split("dev")
    damaged = pairs.store(tmp_path / "damaged")
    (damaged.path / "train" / "source.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"is damaged: train/source\.npy is missing or has another size"):
        PairStore.open(damaged.path)


def test_after_an_error_all_is_as_before(tmp_path):
    specs = {name: pairs.write(tmp_path, name, pairs.made(20)) for name in ("train", "validation")}
    sources = {name: PairSource(spec) for name, spec in specs.items()}
    broken = {**sources, "validation": PairSource(f"{tmp_path}/train.de,{tmp_path}/missing.en")}
    options = {"kind": "unigram", "vocab_size": 40}
    with pytest.raises(InputError, match="is not a file of pairs"):
        prepare(tmp_path / "store", broken, **options)
    assert not list(tmp_path.glob("*store*"))
    before = prepare(tmp_path / "store", sources, **options)
    with pytest.raises(InputError, match="is not a file of pairs"):
        prepare(tmp_path / "store", broken, overwrite=True, **options)
    assert PairStore.open(tmp_path / "store").fingerprint == before.fingerprint
    with pytest.raises(InputError, match="store exists: give another --store, or --overwrite"):
        prepare(tmp_path / "store", sources, **options)
    more = {"train": PairSource(pairs.write(tmp_path, "more", pairs.made(30, 3))), "validation": sources["validation"]}
    assert prepare(tmp_path / "store", more, overwrite=True, **options).fingerprint != before.fingerprint
    assert sorted(path.name for path in tmp_path.glob("*store*")) == ["store"]


def test_a_tokenizer_without_a_begin_or_an_end(tmp_path):
    words = [word for pair in pairs.made(30) for word in pair]
    t5 = text.train("t5_unigram", iter(words), vocab_size=160)
    if t5.bos_id is None:
        with pytest.raises(InputError, match="no bos"):
            pairs.store(tmp_path / "t5", tokenizer=t5)
    with pytest.raises(InputError, match="has no pairs"):
        prepare(
            tmp_path / "empty",
            {"train": PairSource(pairs.write(tmp_path, "e", [("", "x")]))},
            tokenizer=pairs.store(tmp_path / "c").tokenizer(),
        )

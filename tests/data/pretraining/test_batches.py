"""From a configuration to batches: every packing and corruption, alike on any number of hosts."""

import dataclasses
import shutil

import numpy as np
import pytest

from tests.conftest import write_corpus
from tx_jax import text
from tx_jax.config import DataConfig
from tx_jax.data.corpus import index
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import Source, SourceConfig
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.pretraining import best_fit, chunks, packed_documents, packing, selective, spans
from tx_jax.data.pretraining.batches import (
    causal_lm_batches,
    data_fingerprint,
    masked_lm_batches,
    words_that_never_occur,
)
from tx_jax.data.pretraining.byte_lengths import byte_lengths
from tx_jax.data.pretraining.targets import MaskedTargets
from tx_jax.data.pretraining.word_counts import WordCounts
from tx_jax.errors import InputError, InputWarning
from tx_jax.text import bpe

CONFIG = DataConfig(
    store="somewhere",
    sequence_length=48,
    packing="full_sentences",
    short_sequence_probability=0.1,
    mask_rate=0.15,
    max_predictions=8,
    replace_with_mask=0.8,
    replace_with_random=0.1,
    masking="dynamic",
    dupe_factor=10,
    read_ahead=2,
)
MASKED_FORMATS = {
    "segment pairs": {"packing": "pairs"},
    "RoBERTa's separators": {"packing": "pairs", "pair_separators": 2},
    "sentence pairs": {"packing": "sentence_pairs"},
    "full sentences": {},
    "document sentences": {"packing": "doc_sentences"},
    "packed documents": {"packing": "packed_documents"},
    "static": {"masking": "static", "dupe_factor": 2},
    "whole words": {"mask_unit": "whole_word"},
    "spans": {"mask_unit": "span"},
    "rising rate": {"mask_rate_end": 0.3, "mask_rate_steps": 10, "max_predictions": 15},
    "selective": {"selective_words": "words.txt"},
    "selective, of tokens": {"selective_words": "words.txt", "selective_rate_of": "tokens"},
    "selective, mixed with spans": {"selective_words": "words.txt", "selective_share": 0.5, "mask_unit": "span"},
}
CAUSAL_FORMATS = {"chunks": {"packing": "chunks"}, "packed documents": {"packing": "packed_documents"}}


@pytest.fixture(scope="module")
def stores(tmp_path_factory):
    """Two stores of different sizes with one byte-level tokenizer, and a third with another."""
    folder = tmp_path_factory.mktemp("stores")
    for name, documents, seed in (("large", 120, 0), ("small", 40, 1)):
        write_corpus(folder / f"{name}.txt", documents=documents, seed=seed)
    tokenizers = {"bpe": "byte_bpe", "other": "gpt2_bpe"}
    for name, kind in tokenizers.items():
        documents = iter(Source(SourceConfig((str(folder / "large.txt"),))))
        text.train(kind, documents, vocab_size=400).save(folder / name)
    for store, source, tokenizer in (("large", "large", "bpe"), ("small", "small", "bpe"), ("gpt", "small", "other")):
        prepare(
            PrepareConfig(
                store=folder / store,
                source=SourceConfig((str(folder / f"{source}.txt"),)),
                tokenizer=str(folder / tokenizer),
                sentences="line",
                validation_fraction=0.2,
                workers=1,
            )
        )
    return folder


@pytest.fixture
def one(stores, monkeypatch):
    monkeypatch.chdir(stores)
    tokens = Stores.open("large").tokenizer()
    words = (stores / "large.txt").read_text().replace(".", " ").split()
    (stores / "words.txt").write_text("\n".join(sorted(set(words))[::3]))
    assert tokens.mask_id is not None
    return Stores.open("large")


def make(maker, store, changes, batch_size=16, seed=0, repeat=True, split="train", **processes):
    config = dataclasses.replace(CONFIG, **changes)
    return maker(store, split, config, batch_size=batch_size, seed=seed, repeat=repeat, **processes)


ALL_FORMATS = [
    *(pytest.param(masked_lm_batches, changes, id=f"masked, {name}") for name, changes in MASKED_FORMATS.items()),
    *(pytest.param(causal_lm_batches, changes, id=f"causal, {name}") for name, changes in CAUSAL_FORMATS.items()),
]


@pytest.mark.parametrize(("maker", "changes"), ALL_FORMATS)
@pytest.mark.parametrize("names", ["large", "large,small"])
def test_batches_depend_on_seed_and_step_alone(one, maker, changes, names):
    store = Stores.open(names)
    made = make(maker, store, changes)
    whole = made.batch_at(7)
    for hosts in (2, 4):
        parts = [make(maker, store, changes, process=p, num_processes=hosts).batch_at(7) for p in range(hosts)]
        assert whole.keys() == parts[0].keys()
        for key in whole:
            np.testing.assert_array_equal(np.concatenate([part[key] for part in parts]), whole[key], err_msg=key)
    again = make(maker, store, changes)  # as after a restart
    for step in (9, 7):
        batch = again.batch_at(step)
    assert all(np.array_equal(batch[key], whole[key]) for key in whole)
    assert not np.array_equal(make(maker, store, changes, seed=1).batch_at(7)["tokens"], whole["tokens"])
    assert not np.array_equal(made.batch_at(8)["tokens"], whole["tokens"])


@pytest.fixture
def with_indexes(one, tmp_path, monkeypatch):
    """A copy of the store `one` with indexes although it is small, made in blocks that are small as well."""
    store = shutil.copytree(one.stores[0].path, tmp_path / "large")
    monkeypatch.setattr(index, "SMALL", 0)
    for module, block in ((spans, 900), (chunks, 900), (packed_documents, 900), (best_fit, 7), (packing, 50)):
        monkeypatch.setattr(module, "_BLOCK", block)
    return Stores.open(store)


@pytest.mark.parametrize(("maker", "changes"), ALL_FORMATS)
@pytest.mark.parametrize("split", ["train", "validation"])
def test_examples_that_are_kept_beside_the_store_are_those_that_are_made_anew(
    one, with_indexes, monkeypatch, maker, changes, split
):
    with monkeypatch.context() as plain:
        plain.setattr(index, "SMALL", 1 << 62)
        for module in (spans, chunks, packed_documents, best_fit, packing):
            plain.setattr(module, "_BLOCK", 1 << 25)
        fresh = make(maker, one, changes, split=split)
    assert fresh.corpora[0].nbytes > 0
    expected = [fresh.batch_at(step) for step in (0, 7)]
    for start in ("first", "second"):
        if start == "second":
            monkeypatch.setattr(index, "_write", lambda *_: pytest.fail("made again"))
        kept = make(maker, with_indexes, changes, split=split)
        assert kept.num_examples == fresh.num_examples
        assert kept.corpora[0].nbytes == 0
        for step, batch in zip((0, 7), expected, strict=True):
            got = kept.batch_at(step)
            assert {key: value.dtype for key, value in got.items()} == {k: v.dtype for k, v in batch.items()}
            for key, value in batch.items():
                np.testing.assert_array_equal(got[key], value, err_msg=key)
        del kept


def test_phases_of_one_length_share_their_examples(with_indexes):
    one, other = (make(masked_lm_batches, with_indexes, {"packing": "pairs"}, seed=seed) for seed in (0, 1))
    assert one.corpora[0].spans.starts is other.corpora[0].spans.starts
    longer = make(masked_lm_batches, with_indexes, {"packing": "pairs", "sequence_length": 40})
    assert longer.corpora[0].eligible is one.corpora[0].eligible


def test_a_store_that_cannot_be_written_is_trained_on_all_the_same(one, with_indexes, tmp_path, monkeypatch):
    folder = with_indexes.stores[0].path
    (folder / "index").write_text("in the way")
    monkeypatch.setenv("HOME", str(tmp_path / "index"))
    expected = make(masked_lm_batches, one, {}, split="validation").batch_at(3)
    with pytest.warns(InputWarning, match="large/index cannot be written"):
        got = make(masked_lm_batches, with_indexes, {}, split="validation").batch_at(3)
    assert all(np.array_equal(got[key], expected[key]) for key in expected)


@pytest.mark.parametrize(("maker", "changes"), ALL_FORMATS)
def test_keys_types_and_shapes(one, maker, changes):
    made = make(maker, one, changes)
    batch = made.batch_at(3)
    size, length, predictions = 16, 48, made.targets.masking.max_predictions if maker is masked_lm_batches else 0
    kinds = {
        "tokens": ((size, length), np.int32),
        "segments": ((size, length), np.int32),
        "valid": ((size, length), np.bool_),
        "documents": ((size, length), np.int32),
        "positions": ((size, length), np.int32),
        "example_weights": ((size,), np.float32),
        "masked_positions": ((size, predictions), np.int32),
        "masked_targets": ((size, predictions), np.int32),
        "masked_weights": ((size, predictions), np.float32),
        "masked_dropped": ((size,), np.float32),
        "next_sentence_labels": ((size,), np.int32),
        "targets": ((size, length), np.int32),
        "target_weights": ((size, length), np.float32),
        "target_bytes": ((size,), np.float32),
        "target_words": ((size,), np.float32),
    }
    assert {key: (value.shape, value.dtype) for key, value in batch.items()} == {key: kinds[key] for key in batch}
    packed = changes.get("packing") == "packed_documents"
    assert ({"documents", "positions"} <= batch.keys()) == packed
    assert ("next_sentence_labels" in batch) == ("pairs" in changes.get("packing", ""))
    if maker is causal_lm_batches:
        assert {"tokens", "targets", "target_weights", "target_bytes", "target_words", "valid"} <= batch.keys()
    else:
        assert batch["masked_weights"].sum() > 0
        assert batch["masked_dropped"].sum() == 0


@pytest.mark.parametrize(("maker", "changes"), ALL_FORMATS)
def test_one_pass_is_complete_and_its_filling_weighs_nothing(one, maker, changes):
    made = make(maker, one, changes, repeat=False, split="validation", batch_size=23)
    parts = [made.batch_at(step) for step in range(len(made))]
    out = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    assert out["example_weights"].sum() == made.num_examples < len(out["example_weights"])
    for key in out.keys() & {"masked_weights", "masked_dropped", "target_weights", "target_bytes", "target_words"}:
        assert not out[key][out["example_weights"] == 0].any(), key
    if maker is causal_lm_batches:
        validation = one.stores[0].split("validation")
        assert out["target_weights"].sum() == validation.num_tokens + validation.num_documents
        eos = one.tokenizer().eos_id
        targets = out["targets"][out["target_weights"] == 1]
        counts = np.bincount(targets[targets != eos], minlength=one.vocab_size)
        np.testing.assert_array_equal(counts, validation.unigram)


def test_epochs_come_in_another_order(one):
    for maker, changes in ((masked_lm_batches, {}), (causal_lm_batches, CAUSAL_FORMATS["chunks"])):
        made = make(maker, one, changes, batch_size=1)
        n = len(made)

        def epoch(number, made=made, n=n):
            return [made.batch_at(number * n + step)["valid"].sum() for step in range(n)], [
                made.batch_at(number * n + step).get("targets", made.batch_at(number * n + step)["tokens"]).tobytes()
                for step in range(n)
            ]

        first, second = epoch(0), epoch(1)
        assert first[1] != second[1]
        assert sorted(first[0]) == sorted(second[0])
        if maker is causal_lm_batches:
            assert sorted(first[1]) == sorted(second[1])


def test_the_rate_follows_its_schedule_and_evaluation_does_not(one):
    changes = {"mask_rate_end": 0.45, "mask_rate_steps": 10, "max_predictions": 22}
    made = make(masked_lm_batches, one, changes)
    for step, rate in ((0, 0.15), (5, 0.3), (10, 0.45), (1000, 0.45)):
        batch = made.batch_at(step)
        expected = np.maximum(np.rint(rate * batch["valid"].sum(axis=1)), 1)
        np.testing.assert_array_equal(batch["masked_weights"].sum(axis=1), expected)
    once = make(masked_lm_batches, one, changes, repeat=False).batch_at(3)
    np.testing.assert_array_equal(once["masked_weights"].sum(axis=1), np.rint(0.15 * once["valid"].sum(axis=1)))


def test_the_bytes_of_the_targets_are_those_of_the_text(one):
    """Byte-level BPE: exact, with the space that each sentence was given in front."""
    made = make(causal_lm_batches, one, CAUSAL_FORMATS["chunks"], repeat=False)
    counted = sum(made.batch_at(step)["target_bytes"].sum() for step in range(len(made)))
    split, tokenizer = one.stores[0].split("train"), one.tokenizer()
    batch = made.batch_at(0)
    for targets, weights, number in zip(batch["targets"], batch["target_weights"], batch["target_bytes"], strict=True):
        plain = targets[(weights == 1) & ~np.isin(targets, tokenizer.special_ids)]
        assert number == len(tokenizer._engine.decode(plain.tolist()).encode())
    offsets = split.sentence_offsets
    tokens = split.read(offsets[:-1], offsets[1:])
    lengths = np.diff(offsets)
    sentences = [tokenizer.decode(part) for part in np.split(tokens, np.cumsum(lengths)[:-1])]
    assert counted == sum(len(f" {sentence}".encode()) for sentence in sentences)


def test_the_words_of_the_targets_are_those_of_the_text(one):
    """However the text is cut into rows."""
    split, tokenizer = one.stores[0].split("train"), one.tokenizer()
    offsets = split.sentence_offsets
    tokens = split.read(offsets[:-1], offsets[1:])
    sentences = [tokenizer.decode(part) for part in np.split(tokens, np.cumsum(np.diff(offsets))[:-1])]
    words = sum(len(sentence.split()) for sentence in sentences)
    for changes in CAUSAL_FORMATS.values():
        made = make(causal_lm_batches, one, changes, repeat=False)
        assert sum(made.batch_at(step)["target_words"].sum() for step in range(len(made))) == words


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("byte_bpe", "El niño comió 3 piñas — ¡qué día! 日本"),
        ("gpt2_bpe", "El niño\ncomió\n\n  3 piñas:\tx"),
        ("no prefix", "El niño\ncomió  3 piñas."),
        ("unigram", "el niño comió piñas"),
        ("wordpiece", "el niño comió piñas"),
    ],
)
def test_word_counts_add_up(kind, line):
    options = {"strip_accents": False} if kind == "wordpiece" else {}
    if kind == "no prefix":
        tokenizer = bpe.train([line] * 50, vocab_size=330, family="gpt2", add_prefix_space=False)
    else:
        tokenizer = text.train(kind, [line] * 50, vocab_size=330 if "bpe" in kind else 60, **options)
    ids = np.array([[tokenizer.eos_id, *tokenizer.encode(line), tokenizer.eos_id, *tokenizer.encode(line)]])
    counts = WordCounts(tokenizer)(ids[:, :-1], ids[:, 1:])
    assert counts.sum() == 2 * len(line.split())
    assert not counts[np.isin(ids[:, 1:], tokenizer.special_ids)].any()


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("byte_bpe", "El niño comió 3 piñas — ¡qué día! 日本"),
        ("unigram", "el niño comió piñas"),
        ("sentencepiece_bpe", "el niño comió piñas"),
        ("wordpiece", "el niño comió piñas"),
    ],
)
def test_byte_lengths_add_up(kind, line):
    options = {"strip_accents": False} if kind == "wordpiece" else {}
    tokenizer = text.train(kind, [line] * 50, vocab_size=330 if kind == "byte_bpe" else 60, **options)
    table = byte_lengths(tokenizer)
    assert table[tokenizer.encode(line)].sum() == len(f" {line}".encode())
    assert (table[list(tokenizer.special_ids)] == 0).all()


def test_mixing_needs_one_tokenizer_and_names_that_differ(stores, monkeypatch):
    monkeypatch.chdir(stores)
    mixed = Stores.open("large, small")
    assert mixed.fingerprint != Stores.open("small,large").fingerprint
    assert Stores.open("large").fingerprint == mixed.stores[0].fingerprint
    with pytest.raises(InputError, match=r"large and gpt were made with different tokenizers: prepare one of them"):
        Stores.open("large,gpt")
    for names in ("large,large", "large,", ""):
        with pytest.raises(InputError, match="expected different folders, comma-separated"):
            Stores.open(names)


def test_mixtures_follow_weights_or_sizes(stores, monkeypatch):
    monkeypatch.chdir(stores)
    store = Stores.open("large,small")
    sizes = np.array([len(part) for part in make(masked_lm_batches, store, {}).corpora])
    for changes, expected in (
        ({"mixture_weights": (1.0, 3.0)}, [0.25, 0.75]),
        ({}, sizes / sizes.sum()),
        ({"mixture_alpha": 0.3}, sizes**0.3 / (sizes**0.3).sum()),
    ):
        made = make(masked_lm_batches, store, {"store": "large,small", **changes})
        np.testing.assert_allclose(made.mixture.shares, expected)


def test_damage_in_one_of_several_stores_is_named(stores, monkeypatch, tmp_path):
    import shutil

    monkeypatch.chdir(tmp_path)
    for name in ("large", "small"):
        shutil.copytree(stores / name, name)
    shard = tmp_path / "small" / "train" / "tokens-00000.npy"
    data = bytearray(shard.read_bytes())
    data[-1] ^= 1
    shard.write_bytes(data)
    with pytest.raises(InputError, match=r"the token store at small has damaged files: train/tokens-00000.npy"):
        Stores.open("large,small").verify()
    shard.write_bytes(data[:-2])
    with pytest.raises(InputError, match=r"small is damaged: train/tokens-00000.npy has \d+ bytes instead of"):
        Stores.open("large,small")


def test_a_missing_special_token_is_an_error(stores, monkeypatch):
    monkeypatch.chdir(stores)
    gpt = Stores.open("gpt")
    with pytest.raises(InputError, match=r"no pad and no cls and no sep and no mask token"):
        make(masked_lm_batches, gpt, {})
    batch = make(causal_lm_batches, gpt, CAUSAL_FORMATS["packed documents"]).batch_at(0)
    assert (batch["tokens"][~batch["valid"]] == gpt.tokenizer().eos_id).all()


def test_a_packing_for_the_other_kind_of_model_is_an_error(one):
    with pytest.raises(InputError, match=r"data.packing='chunks' is for causal models: choose one of pairs"):
        make(masked_lm_batches, one, {"packing": "chunks"})
    with pytest.raises(InputError, match=r"data.packing='pairs' is for masked models: choose one of chunks"):
        make(causal_lm_batches, one, {"packing": "pairs"})
    with pytest.raises(InputError, match=r"data.mask_rate=0 leaves a masked LM nothing to predict"):
        make(masked_lm_batches, one, {"packing": "packed_documents", "mask_rate": 0.0})


def test_listed_words_that_never_occur_are_told(one, stores):
    config = dataclasses.replace(CONFIG, selective_words="words.txt")
    assert words_that_never_occur(one, config) == []
    listed = (stores / "words.txt").read_text()
    (stores / "words.txt").write_text(f"unicorn\n{listed}\nUnicorns")
    assert words_that_never_occur(Stores.open("large,small"), config) == ["unicorn", "Unicorns"]


def test_listed_words_are_counted_once(with_indexes, stores, monkeypatch):
    config = dataclasses.replace(CONFIG, selective_words="words.txt")
    (stores / "words.txt").write_text("unicorn\nthe")
    absent = words_that_never_occur(with_indexes, config)
    monkeypatch.setattr(selective, "count_occurrences", lambda *_: pytest.fail("counted again"))
    assert words_that_never_occur(with_indexes, config) == absent
    assert "unicorn" in absent
    counted = []
    monkeypatch.setattr(selective, "count_occurrences", lambda _, words: counted.append(words) or np.zeros(2, int))
    (stores / "words.txt").write_text("unicorns\nthe")
    assert words_that_never_occur(with_indexes, config) == ["unicorns", "the"]
    assert len(counted) == 1


def test_the_list_of_words_is_part_of_the_data(one, stores):
    config = dataclasses.replace(CONFIG, selective_words="words.txt")
    assert data_fingerprint(one, CONFIG) == one.fingerprint
    before = data_fingerprint(one, config)
    (stores / "words.txt").write_text("other")
    assert data_fingerprint(one, config) not in (before, one.fingerprint)


def test_an_unknown_unit_of_masking_is_refused():
    with pytest.raises(InputError, match=r"data.mask_unit='spam' is not one of token, .* Did you mean 'span'"):
        MaskedTargets(masking=None, rate=None, unit="spam")

"""What transformers makes of texts, by what is stored in tests/golden/rows.json (tests/parity/rows.py)."""

import csv
import dataclasses
import functools
import json
import pathlib

import numpy as np
import pytest
from tokenizers import Tokenizer as Engine

from tests.convert import folders
from tests.golden import tokenizers
from tests.parity import cases, rows
from tx_jax import text
from tx_jax.convert import from_hf, generation, rows_of_text, to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model
from tx_jax.text import bpe

SHARED = pathlib.Path(__file__).parents[3] / "shared/cases/gpt2_classifier_export"


@functools.cache
def golden() -> dict:
    return json.loads(rows.GOLDEN.read_text(encoding="utf-8"))


def encode(folder: pathlib.Path, kind: str, parts, length: int = rows.LENGTH) -> list[list[int]]:
    """The rows that a tokenizer.json makes, by the library that runs it in transformers too."""
    engine = Engine.from_file(str(folder / "tokenizer.json"))
    engine.enable_truncation(length)
    inputs = parts[0] if len(parts) == 1 else list(zip(*parts, strict=True))
    return [encoding.ids for encoding in engine.encode_batch(inputs, is_pretokenized=kind == "words")]


@pytest.mark.parametrize("name", rows.CASES)
def test_an_export_makes_of_texts_what_the_training_made(name, tmp_path):
    model, stored = rows.model_of(name), dict(golden()[name])
    to_hf.write(model, tmp_path / "a", length=rows.LENGTH)
    assert rows.settings_of(tmp_path / "a") == stored.pop("settings")
    assert set(stored) == set(rows.inputs_of(model))
    computed = rows.compute(model)
    for kind, expected in stored.items():
        found, logits = computed[kind]
        assert found == expected["rows"]
        assert encode(tmp_path / "a", kind, rows.inputs_of(model)[kind]) == expected["rows"]
        np.testing.assert_allclose(logits, expected["logits"], atol=rows.MAX_LOGITS, rtol=0)


@pytest.mark.parametrize("name", rows.CASES)
def test_an_export_that_is_read_again_gives_the_same(name, tmp_path):
    model = rows.model_of(name)
    to_hf.write(model, tmp_path / "a", length=rows.LENGTH)
    back, _ = from_hf.read(tmp_path / "a")
    padded = rows_of_text.with_padding(model)
    assert back.config == dataclasses.replace(padded.config, remat=back.config.remat)
    assert back.tokenizer.pad_id == padded.tokenizer.pad_id is not None
    assert all(x.tobytes() == back.params[path].tobytes() for path, x in padded.params.items())
    for kind, parts in rows.inputs_of(model).items():
        before, after = rows.batch_of(padded, kind, parts), rows.batch_of(back, kind, parts)
        assert all((before[key] == after[key]).all() for key in before.keys() | after.keys())
    to_hf.write(back, tmp_path / "b", length=rows.LENGTH)
    one, other = folders.tensors(tmp_path / "a"), folders.tensors(tmp_path / "b")
    assert all(one[key].tobytes() == other[key].tobytes() for key in one.keys() | other.keys())
    for file in ("tokenizer_config.json", "config.json"):
        assert json.loads((tmp_path / "a" / file).read_text()) == json.loads((tmp_path / "b" / file).read_text())
    assert text.load(tmp_path / "b").fingerprint == back.tokenizer.fingerprint


def gpt2(*heads: str, names: dict = bpe.GPT2) -> Model:
    stored = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))["gpt2_bpe"]
    merges = [tuple(pair) for pair in stored["merges"]]
    tokenizer = bpe.ByteLevelBPE.from_merges(stored["vocabulary"], merges, names=names)
    config = dataclasses.replace(cases.GPT2, heads=heads, vocab_size=tokenizer.vocab_size)
    return Model(config, cases.draw_params(shapes_of(config), 0), tokenizer, None)


@pytest.mark.parametrize("names", [bpe.GPT2, bpe.GPT2 | {"pad": "<|endoftext|>"}], ids=["no padding", "end token"])
@pytest.mark.parametrize("head", ["sequence_classification", "token_classification"])
def test_gpt2_gets_a_padding_token_that_is_not_its_end_token(head, names, tmp_path):
    """transformers' classifier reads the last token that is no padding: it must be the end token, as here."""
    model = gpt2(head, names=names)
    (warning,) = to_hf.warnings(model)
    assert f"'<|pad|>' is added, token {model.config.vocab_size}" in warning
    to_hf.write(model, tmp_path / "a")
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert config["vocab_size"] == model.config.vocab_size + 1
    assert config["pad_token_id"] == model.config.vocab_size != config["eos_token_id"] == model.tokenizer.eos_id
    table = folders.tensors(tmp_path / "a")["transformer.wte.weight"]
    np.testing.assert_array_equal(table[:-1], model.params["embeddings/token/embedding"])
    assert not table[-1].any()
    tokenizer = text.load(tmp_path / "a")
    assert (tokenizer.pad_id, tokenizer.eos_id) == (model.config.vocab_size, model.tokenizer.eos_id)
    assert tokenizer.pad_id not in tokenizer.encode("<|pad|>")  # no text can forge it
    assert tokenizer.with_pad() is tokenizer
    back, _ = from_hf.read(tmp_path / "a")
    assert to_hf.warnings(back) == []


def test_where_the_model_has_rows_to_spare_padding_takes_the_first(tmp_path):
    model = gpt2("sequence_classification")
    config = dataclasses.replace(model.config, vocab_size=model.config.vocab_size + 3)
    model = dataclasses.replace(model, config=config, params=cases.draw_params(shapes_of(config), 0))
    padded = rows_of_text.with_padding(model)
    assert padded.config == config
    assert padded.tokenizer.pad_id == model.tokenizer.vocab_size
    assert all(x is model.params[path] for path, x in padded.params.items())


@pytest.mark.parametrize("heads", [("causal_lm",), ()])
def test_a_language_model_keeps_its_tokens(heads, tmp_path):
    model = gpt2(*heads)
    to_hf.write(model, tmp_path / "a", length=8)
    model.tokenizer.save(tmp_path / "b")
    for file in ("tokenizer.json", "vocab.json", "merges.txt", "special_tokens_map.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
    settings = json.loads((tmp_path / "b/tokenizer_config.json").read_text()) | {"model_max_length": 20}
    assert json.loads((tmp_path / "a/tokenizer_config.json").read_text()) == settings
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert (config["vocab_size"], config["pad_token_id"]) == (model.config.vocab_size, None)


@pytest.mark.parametrize("separators", [None, 1, 2])
def test_pairs_of_pretraining_have_their_separators_and_segments(separators, tmp_path):
    """As data.pair_separators says, whatever the tokenizer's own way is, which is 2 here."""
    model = rows.model_of("BERT shape, RoBERTa's tokens")
    config = dataclasses.replace(model.config, heads=("masked_lm", "next_sentence"))
    model = dataclasses.replace(model, config=config, params=cases.draw_params(shapes_of(config), 0))
    to_hf.write(model, tmp_path / "a", separators=separators)
    (a, b), tokenizer = model.tokenizer.encode_batch(["a", "b"]), model.tokenizer
    first = [tokenizer.cls_id, *a, *[tokenizer.sep_id] * (separators or 2)]
    found = Engine.from_file(str(tmp_path / "a/tokenizer.json")).encode("a", "b")
    assert found.ids == [*first, *b, tokenizer.sep_id]
    assert found.type_ids == [0] * len(first) + [1] * (len(b) + 1)


@pytest.mark.skipif(not SHARED.is_dir(), reason="no ../shared/cases")
def test_the_shared_gpt2_as_a_classifier(tmp_path):
    model, _ = from_hf.read(SHARED / "model", heads=["sequence_classification"])
    assert model.source.hf_config["pad_token_id"] is None
    to_hf.write(model, tmp_path / "a", length=16)
    with (SHARED / "new.csv").open() as file:
        texts = [row["text"] for row in csv.DictReader(file)]
    expected = [[*ids, 299] for ids in model.tokenizer.encode_batch(texts)]
    assert encode(tmp_path / "a", "texts", (texts,)) == expected
    config = json.loads((tmp_path / "a/config.json").read_text())
    assert (config["vocab_size"], config["pad_token_id"], config["eos_token_id"]) == (301, 300, 299)


def test_what_gpt2_is_told_of_generation_goes_back(tmp_path):
    to_hf.write(gpt2("causal_lm"), tmp_path / "a")
    said = {"do_sample": True, "top_k": 50, "transformers_version": "5.0"}
    (tmp_path / "a/generation_config.json").write_text(json.dumps(said))
    back, _ = from_hf.read(tmp_path / "a")
    to_hf.write(back, tmp_path / "b")
    assert json.loads((tmp_path / "b/generation_config.json").read_text()) == {"do_sample": True, "top_k": 50}
    assert generation.suggested(back.source.hf_config) == {"top_k": 50}

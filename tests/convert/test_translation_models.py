"""Marian, BART and mBART: what their checkpoints may lack, what is refused by name, and what transformers is told."""

import dataclasses
import json

import numpy as np
import pytest

from tests.convert import folders
from tests.golden import pair_tokenizers
from tests.parity.cases import SEQ2SEQ, draw_params
from tx_jax import text
from tx_jax.convert import families, from_hf, model_dir, to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model, Source
from tx_jax.errors import InputError

TOKENIZERS = {"Marian": "marian", "BART": "bart", "mBART": "mbart50"}


def write(path, name, tokenizer=None, **base):
    model_type, config = SEQ2SEQ[name]
    if tokenizer is not None:
        config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
    source = Source("", None, model_type, "float32", {"pad_token_id": 1, **base})
    to_hf.write(Model(config, draw_params(shapes_of(config), 0), tokenizer, source), path)
    return config


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_a_bias_that_is_not_there_is_zero(name, tmp_path):
    write(tmp_path, name)
    before = from_hf.read(tmp_path)[0].params
    folders.change(tmp_path, lambda x: {key: value for key, value in x.items() if key != "final_logits_bias"})
    model, report = from_hf.read(tmp_path)
    assert (report.initialised, report.warnings) == ((), ())
    assert report.heads_read == model.config.heads == ("causal_lm",)
    assert not model.params["causal_lm/bias"].any()
    assert all((model.params[path] == x).all() for path, x in before.items() if path != "causal_lm/bias")


def test_the_body_of_a_bart_gets_its_head(tmp_path):
    """facebook/bart-large is a BartModel, whose output layer is the table of tokens."""
    write(tmp_path, "BART")
    whole = from_hf.read(tmp_path)[0].params
    edit = {key: value for key, value in folders.tensors(tmp_path).items() if key != "final_logits_bias"}
    folders.change(tmp_path, lambda x: {key.removeprefix("model."): value for key, value in edit.items()})
    folders.configure(tmp_path, architectures=["BartModel"])
    model, report = from_hf.read(tmp_path, heads=["causal_lm"])
    assert (model.config.heads, report.initialised, model.untrained) == (("causal_lm",), (), ())
    assert not model.params["causal_lm/bias"].any()
    assert all((model.params[path] == x).all() for path, x in whole.items() if path != "causal_lm/bias")


def test_copies_of_the_table_must_be_copies(tmp_path):
    """Older files hold it under each of its names."""
    write(tmp_path, "BART")
    names = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
    folders.change(tmp_path, lambda x: x | dict.fromkeys(names, x["model.shared.weight"]))
    assert set(from_hf.read(tmp_path)[1].ignored) == set(names)
    folders.change(tmp_path, lambda x: x | {names[2]: x["model.shared.weight"] + 1})
    with pytest.raises(InputError, match=r"model\.decoder\.embed_tokens\.weight differs from model\.shared\.weight"):
        from_hf.read(tmp_path)


def test_stored_sinusoids_are_ignored_and_named(tmp_path):
    config = write(tmp_path, "Marian")
    table = np.zeros((config.max_length, config.dim), np.float32)
    name = "model.encoder.embed_positions.weight"
    folders.change(tmp_path, lambda x: x | {name: table})
    assert from_hf.read(tmp_path)[1].ignored == (name,)


@pytest.mark.parametrize(
    ("name", "values", "said"),
    [
        ("Marian", {"decoder_vocab_size": 98}, "decoder_vocab_size=98 is not supported: only vocab_size=97"),
        ("Marian", {"share_encoder_decoder_embeddings": False}, "share_encoder_decoder_embeddings=False is not"),
        ("Marian", {"normalize_embedding": True}, "normalize_embedding=True is not supported: only False"),
        ("BART", {"encoder_attention_heads": 2}, "encoder_attention_heads=2 and decoder_attention_heads=4 is not supp"),
        ("BART", {"decoder_ffn_dim": 7}, "encoder_ffn_dim=112 and decoder_ffn_dim=7 is not supported"),
        ("BART", {"tie_word_embeddings": False}, "tie_word_embeddings=False is not supported"),
        ("mBART", {"normalize_before": False}, "normalize_before=False is not supported: only True"),
        ("mBART", {"activation_function": "mish"}, "activation_function='mish' is not supported: only 'gelu'"),
        ("mBART", {"is_encoder_decoder": False}, "is_encoder_decoder=False is not supported"),
    ],
)
def test_what_our_model_cannot_be_is_refused_by_name(name, values, said, tmp_path):
    write(tmp_path, name)
    folders.configure(tmp_path, **values)
    with pytest.raises(InputError, match=said):
        from_hf.read(tmp_path)


def test_other_classes_are_named(tmp_path):
    write(tmp_path, "BART")
    folders.configure(tmp_path, architectures=["BartForSequenceClassification"])
    folders.change(tmp_path, lambda x: x | {"classification_head.dense.bias": np.zeros(48, np.float32)})
    with pytest.raises(InputError, match="names BartForSequenceClassification, which is not supported: supported are"):
        from_hf.read(tmp_path)


def test_a_transformer_of_our_own_is_no_marian():
    config = dataclasses.replace(SEQ2SEQ["Marian"][1], num_heads=3)
    assert families.of_config(config)[1] == "marian"
    for change in ({"position_embedding": "sinusoidal"}, {"output_bias": False}):
        ((key, value),) = change.items()
        with pytest.raises(InputError, match=f"the nearest, marian, has no {key}={value!r}"):
            families.of_config(dataclasses.replace(config, **change))


@pytest.mark.parametrize("name", SEQ2SEQ)
def test_transformers_is_told_what_a_target_begins_with(name, tmp_path):
    pair_tokenizers.write(TOKENIZERS[name], tmp_path / "tokenizer")
    tokenizer = text.load(tmp_path / "tokenizer")
    write(tmp_path / "a", name, tokenizer, generation_config={"num_beams": 6, "max_length": 200})
    tokens = tokenizer.pair_tokens
    for model in (from_hf.read(tmp_path / "a")[0], *saved(tmp_path)):
        to_hf.write(model, tmp_path / "b" / str(len(list(tmp_path.iterdir()))))
    for folder in (tmp_path / "a", *(tmp_path / "b").iterdir()):
        config, generation = (json.loads((folder / f).read_text()) for f in ("config.json", "generation_config.json"))
        for values in (config, generation):
            assert values["decoder_start_token_id"] == tokens.start
            assert values["forced_bos_token_id"] == (tokens.first[0] if tokens.first else None)
            assert (values["pad_token_id"], values["eos_token_id"]) == (tokenizer.pad_id, tokenizer.eos_id)
        assert (generation["num_beams"], generation["max_length"]) == (6, 200)
        assert generation.get("bad_words_ids") == ([[tokenizer.pad_id]] if name == "Marian" else None)
        assert "generation_config" not in config
        assert text.load(folder).pair_form == tokenizer.pair_form
        assert not list(folder.glob("README*"))


def saved(tmp_path):
    """The model after it was converted and saved."""
    model, report = from_hf.read(tmp_path / "a")
    assert report.warnings == ()
    model_dir.save(model, tmp_path / "ours")
    yield model_dir.load(tmp_path / "ours")


def test_a_tokenizer_without_a_chosen_language_cannot_be_written(tmp_path):
    pair_tokenizers.write("mbart50", tmp_path / "tokenizer")
    settings = tmp_path / "tokenizer/tokenizer_config.json"
    settings.write_text(json.dumps({"tokenizer_class": "MBart50Tokenizer"}))
    with pytest.raises(InputError, match="no source and no target language is chosen"):
        write(tmp_path / "a", "mBART", text.load(tmp_path / "tokenizer"))
    assert not (tmp_path / "a").exists()

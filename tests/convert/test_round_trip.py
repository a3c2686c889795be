"""What comes in goes out as it was: tensors bit by bit, config.json, the tokenizer."""

import dataclasses
import json

import ml_dtypes
import numpy as np
import pytest

from tests.convert import folders
from tx_jax import tree
from tx_jax.convert import from_hf, hf_folder, model_dir, to_hf
from tx_jax.errors import InputError
from tx_jax.models import registry

CLASSES = {
    "BertForPreTraining": ("masked_lm", "next_sentence"),
    "BertForMaskedLM": ("masked_lm",),
    "BertForNextSentencePrediction": ("next_sentence",),
    "BertForSequenceClassification": ("sequence_classification",),
    "BertForTokenClassification": ("token_classification",),
    "BertForQuestionAnswering": ("question_answering",),
    "BertForMultipleChoice": ("multiple_choice",),
    "BertModel": ("pooled",),
}


def read_config(path):
    return json.loads((path / "config.json").read_text())


@pytest.mark.parametrize("name", CLASSES)
def test_every_class_of_bert_there_and_back(name, tmp_path):
    first = folders.write(tmp_path / "a", heads=CLASSES[name], num_labels=5 if "Classification" in name else 2)
    assert read_config(first)["architectures"] == [name]
    model, report = from_hf.read(first)
    assert model.config == folders.model(heads=model.config.heads, num_labels=model.config.num_labels).config
    assert model.config.heads == report.heads_read == CLASSES[name]
    assert (report.initialised, report.ignored, report.left_out, report.warnings) == ((), (), (), ())
    assert to_hf.write(model, tmp_path / "b") == name
    assert read_config(tmp_path / "b") == read_config(first)
    one, other = folders.tensors(first), folders.tensors(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(one[key].tobytes() == other[key].tobytes() for key in one)


def test_no_parameter_is_lost_or_doubled():
    model = folders.model()
    _, tensors = to_hf.convert(model)
    assert registry.num_params(model.config) == sum(x.size for x in tensors.values())


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_half_precision_comes_back_bit_by_bit(name, tmp_path):
    dtype = hf_folder.DTYPES[name]
    path = folders.change(folders.write(tmp_path / "a"), lambda x: {k: v.astype(dtype) for k, v in x.items()})
    model, _ = from_hf.read(path)
    assert {x.dtype for x in model.params.values()} == {np.dtype(np.float32)}
    assert model.source.dtype == name
    to_hf.write(model, tmp_path / "b")
    one, other = folders.tensors(path), folders.tensors(tmp_path / "b")
    assert all(other[key].dtype == dtype and one[key].tobytes() == other[key].tobytes() for key in one)
    assert read_config(tmp_path / "b")["dtype"] == name
    to_hf.write(model, tmp_path / "c", dtype="float32")
    assert {x.dtype for x in folders.tensors(tmp_path / "c").values()} == {np.dtype(np.float32)}


def test_float64_is_rounded_and_says_so(tmp_path):
    path = folders.change(folders.write(tmp_path / "a"), lambda x: {k: v.astype(np.float64) for k, v in x.items()})
    model, report = from_hf.read(path)
    assert report.warnings == ("46 float64 tensors were rounded to float32",)
    assert model.source.dtype == "float32"


def test_mixed_precision_comes_back_as_the_wider(tmp_path):
    path = folders.change(
        folders.write(tmp_path / "a"),
        lambda x: {k: v.astype(ml_dtypes.bfloat16 if "LayerNorm" in k else np.float16) for k, v in x.items()},
    )
    assert from_hf.read(path)[0].source.dtype == "float32"


def test_values_too_large_for_half_precision_are_refused(tmp_path):
    model = folders.model()
    model.params["pooler/bias"][3] = 1e6
    with pytest.raises(InputError, match=r"pooler\.dense\.bias has values up to 1e\+06, more than float16 holds"):
        to_hf.write(model, tmp_path / "a", dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_nan_and_infinity_are_named(tmp_path):
    def spoil(x):
        x["bert.pooler.dense.bias"][0] = np.nan
        x["bert.encoder.layer.1.output.dense.weight"][0, 0] = -np.inf

    path = folders.change(folders.write(tmp_path / "a"), spoil)
    model, report = from_hf.read(path)
    assert report.warnings == ("NaN or infinity in bert.encoder.layer.1.output.dense.weight, bert.pooler.dense.bias",)
    assert np.isnan(model.params["pooler/bias"][0])


def test_what_we_have_no_field_for_is_kept(tmp_path):
    path = folders.configure(
        folders.write(tmp_path / "a", heads=("token_classification",), num_labels=3, activation="gelu_tanh"),
        id2label={"0": "O", "1": "B", "2": "I"},
        hidden_act="gelu_pytorch_tanh",
        classifier_dropout=0.2,
        transformers_version="4.1",
        _name_or_path="/home/someone/model",
        torch_dtype="float32",
    )
    model, _ = from_hf.read(path)
    assert (model.config.num_labels, model.config.activation) == (3, "gelu_tanh")
    to_hf.write(model, tmp_path / "b")
    written = read_config(tmp_path / "b")
    assert written["id2label"] == {"0": "O", "1": "B", "2": "I"}
    assert (written["hidden_act"], written["classifier_dropout"]) == ("gelu_pytorch_tanh", 0.2)
    assert not {"transformers_version", "_name_or_path", "torch_dtype"} & set(written)


def test_labels_of_fine_tuning_go_along(tmp_path):
    path = folders.write(tmp_path / "a", heads=("sequence_classification",), num_labels=3)
    model = dataclasses.replace(from_hf.read(path)[0], labels=("bad", "fair", "good"))
    model_dir.save(model, tmp_path / "ours")
    to_hf.write(model_dir.load(tmp_path / "ours"), tmp_path / "b")
    written = read_config(tmp_path / "b")
    assert written["id2label"] == {"0": "bad", "1": "fair", "2": "good"}
    assert written["label2id"] == {"bad": 0, "fair": 1, "good": 2}


def test_a_tokenizer_comes_along(tmp_path):
    tokenizer = folders.wordpiece()
    path = folders.write(tmp_path / "a", tokenizer)
    model, report = from_hf.read(path)
    assert model.tokenizer.fingerprint == tokenizer.fingerprint
    assert report.warnings == ()
    to_hf.write(model, tmp_path / "b")
    assert json.loads((tmp_path / "b/tokenizer_config.json").read_text())["model_max_length"] == 24
    assert read_config(tmp_path / "b")["pad_token_id"] == 0


def test_a_vocabulary_that_does_not_fit(tmp_path):
    few = folders.write(tmp_path / "few", folders.wordpiece(50))
    model, report = from_hf.read(few)
    assert report.warnings == ("the tokenizer has 50 tokens, the model embeddings for 53: the rest is never used",)
    assert model.tokenizer.vocab_size == 50
    many = folders.write(tmp_path / "many", folders.wordpiece(54))
    with pytest.raises(InputError, match="the tokenizer has 54 tokens, the model embeddings for 53"):
        from_hf.read(many)


def test_a_token_that_the_vocabulary_holds_twice_is_named(tmp_path):
    path = folders.write(tmp_path / "a", folders.wordpiece(53))
    lines = (path / "vocab.txt").read_text().splitlines()
    lines[9] = lines[20] = lines[7]
    (path / "vocab.txt").write_text("\n".join(lines) + "\n")
    definition = json.loads((path / "tokenizer.json").read_text())
    definition["model"]["vocab"] = {token: index for index, token in enumerate(lines)}
    (path / "tokenizer.json").write_text(json.dumps(definition))
    _, report = from_hf.read(path)
    assert report.warnings == (
        "the vocabulary holds 'word2' 3 times, first as token 7 (1 such in all): the last of them is used",
    )


def test_a_tokenizer_that_cannot_be_read_is_left_behind(tmp_path):
    path = folders.write(tmp_path / "a")
    (path / "vocab.txt").write_text("a\nb\n")
    model, report = from_hf.read(path)
    assert model.tokenizer is None
    assert len(report.warnings) == 1
    assert report.warnings[0].startswith("the tokenizer is left behind: ")


def test_shards(tmp_path):
    whole = folders.write(tmp_path / "a")
    parts = folders.shard(folders.write(tmp_path / "b"), 3)
    assert len(list(parts.glob("model-0000?-of-0000?.safetensors"))) >= 3
    one, other = from_hf.read(whole)[0].params, from_hf.read(parts)[0].params
    assert one.keys() == other.keys()
    assert all((one[path] == other[path]).all() for path in one)


def test_an_untied_output_layer_is_a_parameter_of_its_own(tmp_path):
    path = folders.write(tmp_path / "a", tie_embeddings=False)
    assert read_config(path)["tie_word_embeddings"] is False
    assert "cls.predictions.decoder.weight" in folders.tensors(path)
    model, _ = from_hf.read(path)
    assert model.config.tie_embeddings is False
    np.testing.assert_array_equal(
        model.params["masked_lm/output/embedding"], folders.tensors(path)["cls.predictions.decoder.weight"]
    )


def test_params_are_those_of_the_registry():
    model = folders.model(heads=("pooled",))
    assert tree.flatten(model.tree).keys() == tree.flatten(registry.param_shapes(model.config)).keys()

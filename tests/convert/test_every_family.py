"""Every family and head that is compared with transformers: there and back bit by bit, and config.json under attack."""

import dataclasses
import json

import numpy as np
import pytest

from tests.convert import folders
from tests.parity import cases
from tests.parity.cases import draw_params
from tx_jax.config import TransformerConfig
from tx_jax.convert import families, from_hf, to_hf
from tx_jax.convert.family import OF_TRAINING
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model, Source
from tx_jax.errors import InputError

CASES = cases.CASES | cases.SEQ2SEQ


def write(path, name):
    model_type, config = CASES[name]
    source = Source("", None, model_type, "float32", {})
    to_hf.write(Model(config, draw_params(shapes_of(config), 0), None, source), path)
    return config


def without_training(config: TransformerConfig) -> dict:
    return {key: value for key, value in dataclasses.asdict(config).items() if key not in OF_TRAINING}


@pytest.mark.parametrize("name", CASES)
def test_there_and_back(name, tmp_path):
    config = write(tmp_path / "a", name)
    model, report = from_hf.read(tmp_path / "a")
    assert without_training(model.config) == without_training(config)
    assert (report.initialised, report.left_out, report.warnings) == ((), (), ())
    assert report.heads_read == config.heads
    to_hf.write(model, tmp_path / "b")
    one, other = folders.tensors(tmp_path / "a"), folders.tensors(tmp_path / "b")
    assert one.keys() == other.keys()
    assert all(one[key].tobytes() == other[key].tobytes() and one[key].shape == other[key].shape for key in one)
    assert json.loads((tmp_path / "a/config.json").read_text()) == json.loads((tmp_path / "b/config.json").read_text())


MISSING = object()
SPOILT = [MISSING, None, "x", "", -1, 0, 1, 1.5, True, [], ["x"], [3], {}, {"x": 1}, 10**12, float("nan")]
MORE = ("id2label", "num_labels", "layer_types", "rope_parameters", "n_inner", "embedding_size", "summary_type")


@pytest.mark.parametrize("name", CASES)
def test_whatever_config_json_says_it_is_understood_or_refused(name):
    """Any value at any key gives a configuration, or an error that a user can read; never anything else."""
    model_type, config = CASES[name]
    family = families.OF_MODEL_TYPE[model_type]
    whole = family.write_config(config, model_type, {})
    for key in (*whole, *MORE):
        for value in SPOILT:
            values = {k: v for k, v in (whole | {key: value}).items() if v is not MISSING}
            try:
                family.read_config(values, heads=config.heads)
            except InputError:
                continue
            except Exception as error:
                raise AssertionError(f"{key}={value!r} gave {type(error).__name__}: {error}") from error


ONE_OF_EACH = {model_type: name for name, (model_type, _) in reversed(CASES.items())}


@pytest.mark.parametrize("model_type", ONE_OF_EACH)
def test_sizes_beyond_the_file_are_refused_before_anything_is_made_of_them(model_type, tmp_path):
    write(tmp_path / "a", ONE_OF_EACH[model_type])
    config = json.loads((tmp_path / "a/config.json").read_text())
    for key in [key for key, value in config.items() if type(value) is int]:
        (tmp_path / "a/config.json").write_text(json.dumps(config | {key: 10**12}))
        with pytest.raises(InputError):
            from_hf.read(tmp_path / "a")


LIVE, DEAD = {"roberta": "lm_head.decoder.bias"}, {"roberta": "lm_head.bias"}


@pytest.mark.parametrize("name", ["BERT masked LM, untied", "RoBERTa masked LM", "DeBERTa masked LM"])
def test_the_bias_of_an_untied_masked_lm_is_that_of_its_output_layer(name, tmp_path):
    """transformers computes with decoder.bias; the other bias is there, but nothing reads it."""
    model_type, config = CASES[name]
    live = LIVE.get(model_type, "cls.predictions.decoder.bias")
    dead = DEAD.get(model_type, "cls.predictions.bias")
    config = dataclasses.replace(config, tie_embeddings=False)
    model = Model(
        config, draw_params(shapes_of(config), 0), None, Source("", None, model_type, "float32", {"pad_token_id": 1})
    )
    to_hf.write(model, tmp_path / "a")
    folders.change(tmp_path / "a", lambda x: x | {dead: x[live] + 1})
    read, report = from_hf.read(tmp_path / "a")
    np.testing.assert_array_equal(read.params["masked_lm/bias"], model.params["masked_lm/bias"])
    assert report.ignored == (dead,)
    to_hf.write(read, tmp_path / "b")
    written = folders.tensors(tmp_path / "b")
    assert all((written[key] == model.params["masked_lm/bias"]).all() for key in (live, dead))


@pytest.mark.parametrize("prefix", ["deberta.", ""])
@pytest.mark.parametrize("name", ["DeBERTa masked LM", "DeBERTa-v3 masked LM"])
def test_what_published_debertas_hold_beside_the_model_is_ignored_and_named(name, prefix, tmp_path):
    config = write(tmp_path / "a", name)
    positions, delta = (
        f"{prefix}embeddings.{kind}" for kind in ("position_embeddings.weight", "word_embeddings._weight")
    )

    def edit(x):
        head = "lm_predictions.lm_head."
        x = {key.replace("cls.predictions.transform.", head): value for key, value in x.items()}
        x[f"{head}bias"] = x.pop("cls.predictions.bias")
        table = np.zeros((config.max_length, config.dim), np.float32)
        return x | {positions: table, delta: table, "mask_predictions.dense.weight": table}

    before = from_hf.read(tmp_path / "a")[0].params
    folders.configure(folders.change(tmp_path / "a", edit), architectures=None)
    model, report = from_hf.read(tmp_path / "a")
    assert model.config == dataclasses.replace(config, remat=model.config.remat)
    assert all((model.params[path] == x).all() for path, x in before.items())
    assert set(report.ignored) == {positions, delta, "mask_predictions.dense.weight"}
    folders.change(tmp_path / "a", lambda x: {k: v for k, v in x.items() if "word_embeddings.weight" not in k})
    with pytest.raises(InputError, match=r"missing: deberta\.embeddings\.word_embeddings\.weight"):
        from_hf.read(tmp_path / "a")


def test_the_positions_of_a_deberta_that_adds_them_to_its_input_are_parameters(tmp_path):
    write(tmp_path / "a", "DeBERTa c2p, positions, segments")
    model, report = from_hf.read(tmp_path / "a")
    assert "embeddings/position/embedding" in model.params
    assert report.ignored == ()


FOREIGN = {
    "GPT-2 base": ("GPT2ForQuestionAnswering", ("qa_outputs.weight", "qa_outputs.bias")),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_class_that_is_not_supported_is_named_first_and_its_body_can_be_taken(name, tmp_path):
    config = write(tmp_path / "a", name)
    model_type, _ = CASES[name]
    family = families.OF_MODEL_TYPE[model_type]
    architecture, more = FOREIGN[name]
    body = from_hf.read(tmp_path / "a")[0].params

    def edit(x):
        head = {key: np.zeros((config.dim, config.dim), np.float32)[: 2 if "bias" in key else None] for key in more}
        return {f"{family.prefix}{key}": value for key, value in x.items()} | head

    folders.configure(folders.change(tmp_path / "a", edit), architectures=[architecture])
    with pytest.raises(InputError) as caught:
        from_hf.read(tmp_path / "a")
    first, *_ = str(caught.value).splitlines()
    stem = family.model_types[model_type]
    assert first.startswith(f"config.json names {architecture}, which is not supported: supported are {stem}")
    folders.configure(tmp_path / "a", architectures=[f"{stem}DoubleHeadsModel"])
    with pytest.raises(InputError, match=f"names {stem}DoubleHeadsModel, which is not supported"):
        from_hf.read(tmp_path / "a")
    model, report = from_hf.read(tmp_path / "a", heads=[])
    assert model.config.heads == ()
    assert set(report.left_out) == set(more)
    assert all((model.params[path] == x).all() for path, x in body.items())


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_what_belongs_to_the_body_is_never_left_out(prefix, tmp_path):
    write(tmp_path / "a", "BERT pooled")
    more = {f"{prefix}encoder.layer.7.output.dense.bias": np.zeros(3, np.float32)}
    folders.change(tmp_path / "a", lambda x: {f"{prefix}{key}": value for key, value in x.items()} | more)
    with pytest.raises(InputError, match=r"unused: .*encoder\.layer\.7\.output\.dense\.bias"):
        from_hf.read(tmp_path / "a", heads=["masked_lm"])


@pytest.mark.parametrize("model_type", ONE_OF_EACH)
def test_null_in_config_json_is_as_if_absent(model_type):
    config = CASES[ONE_OF_EACH[model_type]][1]
    family = families.OF_MODEL_TYPE[model_type]
    whole = family.write_config(config, model_type, {})
    for key in whole:
        absent = {k: v for k, v in whole.items() if k != key}
        results = []
        for values in (absent, absent | {key: None}):
            try:
                results.append(family.read_config(values, heads=config.heads))
            except InputError as error:
                results.append(str(error))
        assert results[0] == results[1], key


@pytest.mark.parametrize(
    ("model_type", "size"), [("roberta", 50265), ("xlm-roberta", 30522), ("camembert", 30522), ("bert", 30522)]
)
def test_the_size_of_a_vocabulary_that_is_not_given(model_type, size):
    values = {"model_type": model_type}
    assert families.OF_MODEL_TYPE[model_type].read_config(values, heads=()).vocab_size == size


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("gelu_python", "gelu"),
        ("gelu_python_tanh", "gelu_tanh"),
        ("gelu_fast", "gelu_tanh"),
        ("gelu_accurate", "gelu_tanh"),
    ],
)
def test_other_names_of_activations_are_kept(theirs, ours):
    family = families.OF_MODEL_TYPE["bert"]
    config = family.read_config({"hidden_act": theirs}, heads=())
    assert config.activation == ours
    assert family.write_config(config, "bert", {"hidden_act": theirs})["hidden_act"] == theirs
    assert family.write_config(config, "bert", {})["hidden_act"] in ("gelu", "gelu_new")


@pytest.mark.parametrize("own", [True, False], ids=["prediction head", "as before"])
def test_a_modernbert_without_classifiers_is_written_whatever_its_pooler_would_be(own):
    """Models from before there were ModernBERT's classifiers say nothing of their head, which no weight depends on."""
    config = dataclasses.replace(CASES["ModernBERT base"][1], classifier_transform=own, pooler="tanh")
    assert families.of_config(config)[1] == "modernbert"
    config = dataclasses.replace(config, heads=("masked_lm",), classifier_transform=False)
    assert families.of_config(config)[1] == "modernbert"


def test_a_classifier_of_modernbert_must_have_its_prediction_head():
    config = dataclasses.replace(CASES["ModernBERT sequences"][1], classifier_transform=False)
    with pytest.raises(InputError, match="classifier_transform=False"):
        families.of_config(config, "modernbert")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("classifier_bias", True),
        ("norm_bias", True),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("decoder_bias", False),
        ("classifier_pooling", "max"),
        ("classifier_activation", "silu"),
    ],
)
def test_what_a_modernbert_can_be_and_ours_cannot_is_refused(key, value):
    with pytest.raises(InputError, match=key):
        families.OF_MODEL_TYPE["modernbert"].read_config({key: value}, heads=("sequence_classification",))


def test_fields_of_modernberts_head_are_read_and_written():
    family = families.OF_MODEL_TYPE["modernbert"]
    given = {
        "classifier_pooling": "mean",
        "classifier_activation": "relu",
        "classifier_dropout": 0.3,
        "mlp_dropout": 0.1,
    }
    config = family.read_config(given, heads=("sequence_classification",))
    assert (config.classifier_pooling, config.pooler, config.activation) == ("mean", "relu", "gelu")
    assert (config.dropout, config.dropout_of_classifiers) == (0.1, 0.3)
    written = family.write_config(config, "modernbert", {})
    assert {key: written[key] for key in given} == given


def test_a_classifier_that_starts_from_modernberts_masked_lm_has_its_head(tmp_path):
    """As in transformers, where both are called head.dense and head.norm."""
    write(tmp_path / "a", "ModernBERT masked LM")
    whole = from_hf.read(tmp_path / "a")[0].params
    model, report = from_hf.read(tmp_path / "a", heads=["sequence_classification"])
    assert report.initialised == ("sequence_classification",)
    for ours, of_masked_lm in {"kernel": "transform/kernel", "norm/scale": "norm/scale"}.items():
        np.testing.assert_array_equal(model.params[f"pooler/{ours}"], whole[f"masked_lm/{of_masked_lm}"])

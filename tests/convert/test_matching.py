"""Names of other times and other classes, heads that are there, missing or not wanted."""

import numpy as np
import pytest

from tests.convert import folders
from tx_jax.convert import from_hf
from tx_jax.convert.heads import detect
from tx_jax.convert.rules import ADVICE
from tx_jax.errors import InputError

EMBEDDING = "bert.embeddings.word_embeddings.weight"


def same(one, other):
    assert one.keys() == other.keys()
    assert all((one[path] == other[path]).all() for path in one)


def rename(old, new):
    return lambda x: {name.replace(old, new): value for name, value in x.items()}


@pytest.mark.parametrize(
    "edit",
    [
        rename("LayerNorm.weight", "LayerNorm.gamma"),
        rename("LayerNorm.bias", "LayerNorm.beta"),
        rename("bert.", ""),
        lambda x: x | {"bert.embeddings.position_ids": np.arange(24)[None]},
        lambda x: x | {"cls.predictions.decoder.weight": x[EMBEDDING]},
        lambda x: x | {"cls.predictions.decoder.bias": x["cls.predictions.bias"]},
        rename("cls.predictions.bias", "cls.predictions.decoder.bias"),
    ],
    ids=["gamma", "beta", "no prefix", "position_ids", "tied weight", "tied bias", "only the copy"],
)
def test_the_same_model_under_other_names(edit, tmp_path):
    expected = from_hf.read(folders.write(tmp_path / "a"))[0]
    model, report = from_hf.read(folders.change(folders.write(tmp_path / "b"), edit))
    assert model.config == expected.config
    same(model.params, expected.params)
    assert report.warnings == ()


def test_ignored_tensors_are_named(tmp_path):
    path = folders.change(
        folders.write(tmp_path / "a"),
        lambda x: x | {"embeddings.position_ids": np.arange(24), "cls.predictions.decoder.weight": x[EMBEDDING]},
    )
    assert from_hf.read(path)[1].ignored == ("cls.predictions.decoder.weight", "embeddings.position_ids")


def test_a_base_model_may_have_the_prefix(tmp_path):
    path = folders.write(tmp_path / "a", heads=("pooled",))
    assert "pooler.dense.weight" in folders.tensors(path)
    expected = from_hf.read(path)[0]
    folders.change(path, lambda x: {f"bert.{name}": value for name, value in x.items()})
    same(from_hf.read(path)[0].params, expected.params)


def test_a_base_model_without_pooler(tmp_path):
    model, report = from_hf.read(folders.write(tmp_path / "a", heads=()))
    assert model.config.heads == ()
    assert report.warnings == ()


@pytest.mark.parametrize(
    ("copy", "source", "said"),
    [
        ("cls.predictions.decoder.weight", EMBEDDING, r'ties them \(.*"tie_word_embeddings": false'),
        ("cls.predictions.decoder.bias", "cls.predictions.bias", r"ties them$"),
    ],
)
def test_a_tied_copy_that_differs_is_no_copy(copy, source, said, tmp_path):
    path = folders.change(folders.write(tmp_path / "a"), lambda x: x | {copy: x[source] + 1})
    with pytest.raises(InputError, match=f"{copy} differs from {source}, though config.json {said}"):
        from_hf.read(path)


def test_one_parameter_under_two_names(tmp_path):
    path = folders.change(
        folders.write(tmp_path / "a"), lambda x: x | {"embeddings.word_embeddings.weight": x[EMBEDDING]}
    )
    with pytest.raises(InputError, match=r"are the same parameter, bert\.embeddings\.word"):
        from_hf.read(path)


def test_missing_unused_and_misshapen_tensors_are_told_together(tmp_path):
    def spoil(x):
        del x["bert.encoder.layer.1.attention.self.key.bias"]
        x["bert.encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
        x["bert.pooler.dense.weight"] = x["bert.pooler.dense.weight"][:8]
        x["cls.seq_relationship.bias"] = x["cls.seq_relationship.bias"][:1]

    with pytest.raises(InputError) as caught:
        from_hf.read(folders.change(folders.write(tmp_path / "a"), spoil))
    summary, *lines = str(caught.value).splitlines()
    assert summary.endswith("1 missing, 1 unused, 2 misshapen")
    assert lines == [
        "- missing: bert.encoder.layer.1.attention.self.key.bias (32,) for encoder/layer_1/attention/key/bias",
        "+ unused: bert.encoder.layer.2.output.dense.bias (32,)",
        "~ bert.pooler.dense.weight: shape (8, 32), expected (32, 32)",
        "~ cls.seq_relationship.bias: shape (1,), expected (2,)",
        ADVICE,
    ]


def test_part_of_a_head_is_a_head_with_something_missing(tmp_path):
    def spoil(x):
        del x["cls.predictions.transform.dense.bias"]

    with pytest.raises(InputError, match=r"- missing: cls\.predictions\.transform\.dense\.bias"):
        from_hf.read(folders.change(folders.write(tmp_path / "a"), spoil))


def test_a_missing_head_is_initialised_and_named(tmp_path):
    path = folders.write(tmp_path / "a", heads=("pooled",))
    model, report = from_hf.read(path, heads=["masked_lm", "sequence_classification"], num_labels=4)
    assert model.config.heads == ("masked_lm", "sequence_classification")
    assert model.config.num_labels == 4
    assert report.heads_read == ()
    assert sorted(report.initialised) == ["masked_lm", "sequence_classification"]
    kernel = model.params["sequence_classification/kernel"]
    assert kernel.shape == (32, 4)
    assert 0 < np.abs(kernel).max() <= 2 * model.config.init_stddev
    np.testing.assert_array_equal(model.params["pooler/bias"], folders.tensors(path)["pooler.dense.bias"])
    same(from_hf.read(path, heads=["masked_lm", "sequence_classification"], num_labels=4)[0].params, model.params)
    other = from_hf.read(path, heads=["sequence_classification"], num_labels=4, seed=1)[0]
    assert (other.params["sequence_classification/kernel"] != kernel).any()


def test_a_pooler_that_only_a_missing_head_needs_is_initialised_with_it(tmp_path):
    path = folders.write(tmp_path / "a", heads=("masked_lm",))
    _, report = from_hf.read(path, heads=["masked_lm", "next_sentence"])
    assert report.heads_read == ("masked_lm",)
    assert sorted(report.initialised) == ["next_sentence", "pooler"]


def test_a_pooler_that_a_head_of_the_checkpoint_needs_must_be_there(tmp_path):
    path = folders.change(folders.write(tmp_path / "a"), lambda x: {k: v for k, v in x.items() if "pooler" not in k})
    with pytest.raises(InputError, match="2 missing") as caught:
        from_hf.read(path)
    assert "bert.pooler.dense.weight (32, 32) for pooler/kernel" in str(caught.value)


def test_a_head_that_is_not_wanted_is_left_out_and_named(tmp_path):
    path = folders.change(folders.write(tmp_path / "a"), lambda x: x | {"cls.predictions.decoder.weight": x[EMBEDDING]})
    model, report = from_hf.read(path, heads=["next_sentence"])
    assert model.config.heads == report.heads_read == ("next_sentence",)
    assert not any(name.startswith("masked_lm") for name in model.params)
    assert "cls.predictions.bias" in report.left_out
    assert not any("pooler" in name for name in report.left_out)


def test_config_json_may_promise_more_than_there_is(tmp_path):
    path = folders.configure(folders.write(tmp_path / "a", heads=()), architectures=["BertForMaskedLM"])
    model, report = from_hf.read(path)
    assert model.config.heads == ()
    assert report.warnings == ("config.json names BertForMaskedLM, but the files lack masked_lm",)


def test_heads_with_the_same_tensors_are_told_apart_by_config_json_or_the_user(tmp_path):
    path = folders.write(tmp_path / "a", heads=("multiple_choice",))
    folders.configure(path, num_labels=1, architectures=None)
    with pytest.raises(InputError, match=r"may be of the head sequence_classification or .* choose with --heads"):
        from_hf.read(path)
    assert from_hf.read(path, heads=["multiple_choice"])[0].config.heads == ("multiple_choice",)
    assert from_hf.read(path, heads=["sequence_classification"])[0].config.heads == ("sequence_classification",)


def test_a_head_without_tensors_of_its_own_is_there_if_config_json_says_so():
    names = {"causal_lm": set(), "token_classification": {"a"}}
    assert detect({"b"}, names, [()]) == ()
    assert detect({"b"}, names, [(), ("causal_lm",)]) == ()
    assert detect({"b"}, names, [("causal_lm",), ()]) == ("causal_lm",)


def test_a_head_of_the_same_names_is_not_taken_for_another(tmp_path):
    """A tagger fine-tuned into a classifier of sentences: its last layer is not that of the new head."""
    path = folders.write(tmp_path / "a", heads=("token_classification",))
    model, report = from_hf.read(path, heads=["sequence_classification"])
    assert report.left_out == ("classifier.bias", "classifier.weight")
    assert sorted(report.initialised) == ["pooler", "sequence_classification"]
    tagger = folders.tensors(path)["classifier.weight"]
    assert (model.params["sequence_classification/kernel"] != tagger.T).all()


def test_a_head_that_there_is_not(tmp_path):
    with pytest.raises(InputError, match=r"no head 'masked_l' here.*Did you mean 'masked_lm'"):
        from_hf.read(folders.write(tmp_path / "a"), heads=["masked_l"])


@pytest.mark.parametrize("head", ["sequence_classification", "token_classification"])
def test_a_classifier_of_another_number_of_labels_is_initialised(head, tmp_path):
    path = folders.write(tmp_path / "a", heads=(head,), num_labels=3)
    model, report = from_hf.read(path, num_labels=5)
    assert model.params[f"{head}/kernel"].shape == (32, 5)
    assert (report.heads_read, report.initialised) == ((), (head,))
    assert report.left_out == ("classifier.bias", "classifier.weight")
    same_number, report = from_hf.read(path, num_labels=3)
    assert (report.heads_read, report.initialised) == ((head,), ())
    same(same_number.params, from_hf.read(path)[0].params)
    folders.configure(path, id2label=None, num_labels=5)
    with pytest.raises(InputError, match="2 misshapen"):
        from_hf.read(path)

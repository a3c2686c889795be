"""Starting from a model that is there: what is taken, what stays fresh, what is refused."""

import dataclasses

import jax
import numpy as np
import pytest

from tests.models import small
from tx_jax import text, tree
from tx_jax.config import from_config_dict
from tx_jax.config.further import FURTHER_KEYS
from tx_jax.config.starting import check_start
from tx_jax.convert import model_dir, to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.start import Start, open_start
from tx_jax.training.optimizer import Optimizer

OWN = {"heads": ("sequence_classification",), "num_labels": 3, "dropout": 0.0, "dtype": "float32"}
LABELS = ("no", "perhaps", "yes")


@pytest.fixture(scope="module")
def tokenizer():
    return text.train("wordpiece", iter(["The red cat sleeps under the tree."] * 20), vocab_size=60)


@pytest.fixture(scope="module")
def model(tokenizer):
    config = small.config(vocab_size=tokenizer.vocab_size)
    return Model(
        config, {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}, tokenizer, None
    )


def values(name, **more):
    return {"start_from": str(name), "model": dict(OWN)} | more


def fresh(config):
    return registry.init_params(config, jax.random.key(0))


@pytest.fixture(params=["converted", "hugging_face"])
def folder(request, model, tmp_path):
    path = tmp_path / "model"
    model_dir.save(model, path) if request.param == "converted" else to_hf.write(model, path)
    return path


def test_the_shape_the_tokenizer_and_the_body_are_taken_and_the_new_head_is_fresh(folder, model, tmp_path):
    filled, opened = open_start(values(folder), tmp_path / "run")
    config = small.config(**{**dataclasses.asdict(model.config), **OWN})
    assert filled["model"] == dataclasses.asdict(config)
    assert opened.tokenizer.fingerprint == model.tokenizer.fingerprint
    params, stay = opened.fill(fresh(config), labels=LABELS)
    assert stay == ("sequence_classification",)
    for path, x in tree.flatten(params).items():
        expected = (
            fresh(config)["sequence_classification"][path.split("/")[1]] if stay[0] in path else model.params[path]
        )
        np.testing.assert_array_equal(x, expected, err_msg=path)


def test_a_classifier_of_other_labels_is_fresh(model, tmp_path):
    model_dir.save(model, tmp_path / "model")
    _, opened = open_start(values(tmp_path / "model"), tmp_path / "run")
    config = dataclasses.replace(opened.model, **OWN)
    two = {"sequence_classification/kernel": np.zeros((32, 2)), "sequence_classification/bias": np.zeros(2)}
    opened = dataclasses.replace(opened, params=dict(opened.params) | two)
    assert opened.fill(fresh(config), labels=LABELS)[1] == ("sequence_classification",)


CARRY = {"heads": ("masked_lm", "pooled"), "dropout": 0.0, "dtype": "float32"}


def test_a_pooler_is_carried_along_and_never_changes(folder, model, tmp_path):
    """Further pretraining: no loss trains it, and weight decay must not shrink it."""
    from configs import further_pretrain

    c = further_pretrain.get_config("smoke")
    c.start_from, c.data.sequence_length, c.data.max_predictions = str(folder), 24, 4
    given = c.to_dict()
    check_start({key: value for key, value in given.items() if key not in FURTHER_KEYS})
    filled, opened = open_start(given, tmp_path / "run")
    assert filled["model"]["heads"] == ("masked_lm", "pooled")
    config = from_config_dict(filled)
    params, stay = opened.fill(fresh(config.model), labels=())
    assert stay == ()
    flat = tree.flatten(params)
    for path in ("pooler/kernel", "pooler/bias"):
        np.testing.assert_array_equal(flat[path], model.params[path])
    assert set(flat) - set(Optimizer(config).rates(params)) == {"pooler/kernel", "pooler/bias"}


@pytest.mark.parametrize("form", ["converted", "hugging_face"])
@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_where_there_is_no_pooler_none_is_made_up(form, family, model, tmp_path):
    shape = {"num_segments": 0} if family == "distilbert" else {}
    config = dataclasses.replace(model.config, heads=("masked_lm",), **shape)
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    start = Model(config, params, model.tokenizer, None)
    model_dir.save(start, tmp_path / "a") if form == "converted" else to_hf.write(
        start, tmp_path / "a", model_type=family
    )
    filled, opened = open_start(values(tmp_path / "a", model=dict(CARRY)), tmp_path / "run")
    assert filled["model"]["heads"] == ("masked_lm",)
    assert not any(path.startswith("pooler") for path in opened.params)


def test_where_only_the_shape_is_taken_there_is_no_pooler_to_carry(folder, tmp_path):
    filled, _ = open_start(values(folder, model=dict(CARRY), start_fresh=True), tmp_path / "run")
    assert filled["model"]["heads"] == ("masked_lm",)


def test_classifiers_of_a_modernbert_begin_with_the_head_of_its_masked_lm(tokenizer, tmp_path):
    """As in transformers, where the two are one module."""
    config = small.config(vocab_size=tokenizer.vocab_size, heads=("masked_lm",), **small.MODERNBERT)
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    start = Model(config, params, tokenizer, None)
    model_dir.save(start, tmp_path / "a")
    to_hf.write(start, tmp_path / "b")
    for name in "ab":
        filled, opened = open_start(values(tmp_path / name), tmp_path / "run")
        begun, stay = opened.fill(fresh(small.config(**filled["model"])), labels=LABELS)
        assert stay == ("sequence_classification",)
        np.testing.assert_array_equal(begun["pooler"]["kernel"], params["masked_lm/transform/kernel"])
        np.testing.assert_array_equal(begun["pooler"]["norm"]["scale"], params["masked_lm/norm/scale"])


def test_only_the_shape(model, tmp_path):
    model_dir.save(model, tmp_path / "model")
    _, opened = open_start(values(tmp_path / "model", start_fresh=True), tmp_path / "run")
    config = dataclasses.replace(opened.model, **OWN)
    params, _ = opened.fill(fresh(config), labels=LABELS)
    jax.tree.map(np.testing.assert_array_equal, params, fresh(config))


def test_how_a_new_model_begins_is_its_own(folder, tmp_path):
    """Of a model whose parameters are taken it says nothing any more."""
    asked = {**CARRY, "initial_attention": ("previous", "next")}
    filled, _ = open_start(values(folder, model=asked, start_fresh=True), tmp_path / "run", ["initial_attention"])
    assert filled["model"]["initial_attention"] == ("previous", "next")
    filled, _ = open_start(values(folder, model=asked), tmp_path / "run")
    assert filled["model"]["initial_attention"] == ()


def test_a_body_that_does_not_fit_is_refused(model, tmp_path):
    model_dir.save(model, tmp_path / "model")
    _, opened = open_start(values(tmp_path / "model"), tmp_path / "run")
    deeper = dataclasses.replace(opened.model, num_layers=3, **OWN)
    with pytest.raises(InputError, match=r"encoder/layer_2/.* is missing there"):
        opened.fill(fresh(deeper), labels=LABELS)
    wider = dataclasses.replace(opened.model, vocab_size=100, **OWN)
    with pytest.raises(InputError, match=r"embeddings/token/embedding of shape \(100, 32\) has shape \(47, 32\) there"):
        opened.fill(fresh(wider), labels=LABELS)


def test_what_was_given_holds_or_is_refused(model, tmp_path):
    model_dir.save(model, tmp_path / "model")
    layers, width = model.config.num_layers, model.config.dim
    asked = dataclasses.asdict(model.config) | {"dropout": 0.3, "remat": "block", "init_stddev": 0.1}
    given = [*asked]
    filled, _ = open_start({"start_from": str(tmp_path / "model"), "model": asked}, tmp_path / "run", given)
    assert filled["model"] == asked
    other = {"start_from": str(tmp_path / "model"), "model": asked | {"num_layers": layers + 1, "dim": width * 2}}
    open_start(other, tmp_path / "run", ["dropout"])  # the rest is what the configuration file says of another model
    refused = rf"leave out model.dim={width * 2} \(there {width}\), model.num_layers={layers + 1} \(there {layers}\)$"
    with pytest.raises(InputError, match=refused):
        open_start(other, tmp_path / "run", given)


def test_parameters_are_there_or_it_is_said_that_only_the_shape_is_taken(model):
    with pytest.raises(ValueError, match="'parameters' with 0 parameters"):
        Start("model", model.config, model.tokenizer, {})
    with pytest.raises(ValueError, match="'shape' with 1 parameters"):
        Start("model", model.config, model.tokenizer, {"pooler/bias": np.zeros(1)}, gives="shape")


def test_a_run_that_has_begun_needs_its_start_no_more(smoke_config, tiny_store, tmp_path):
    config = from_config_dict(smoke_config)
    RunDir(tmp_path).begin(config, tiny_store.tokenizer(), "a")
    (tmp_path / "checkpoints/5").mkdir(parents=True)
    filled, opened = open_start({"start_from": "gone", "model": {"heads": config.model.heads}}, tmp_path)
    assert filled["model"] == dataclasses.asdict(config.model)
    assert opened.tokenizer.fingerprint == tiny_store.tokenizer().fingerprint
    with pytest.raises(InputError, match="its checkpoints are gone"):  # and never random parameters in their place
        opened.fill(fresh(opened.model), labels=())
    with pytest.raises(InputError, match="gone"):
        open_start({"start_from": "gone", "model": {}}, tmp_path / "other")


def test_without_a_start_nothing_changes(tmp_path):
    given = {"model": {"dim": 3}}
    assert open_start(given, tmp_path) == (given, None)

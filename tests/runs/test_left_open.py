"""What a configuration leaves open: the vocabulary of the token store, and what a run that goes on had at first."""

import json

import pytest

from tests.test_configs import get_config
from tx_jax.config import from_config_dict, to_dict
from tx_jax.runs.left_open import fill_in


@pytest.fixture
def values(smoke_config):
    """For a store of 200 tokens."""
    return smoke_config.to_dict()


@pytest.mark.parametrize(
    ("size", "tensor", "expected"), [(2048, 1, 200), (100, 1, 200), (200, 1, 200), (256, 1, 256), (257, 3, 201)]
)
def test_the_vocabulary_is_that_of_the_store(values, size, tensor, expected):
    """But where it is rounded up; parts of it on several devices are of one size."""
    values["model"]["vocab_size"] = size
    values["mesh"]["tensor"] = tensor
    filled, said = fill_in(values)
    assert filled["model"]["vocab_size"] == expected
    assert values["model"]["vocab_size"] == size, "a new dict"
    store = values["data"]["store"]
    line = f"model.vocab_size={expected}, that of the tokenizer of {store} (the configuration has {size})"
    assert said == ([line] if expected != size else [])


def test_what_was_given_holds_and_so_does_the_shape_of_a_model_to_start_from(values):
    values["model"]["vocab_size"] = 2048
    for filled, said in (
        fill_in(values, ["model.vocab_size"]),
        fill_in(values | {"start_from": "models/bert"}),
        fill_in(values | {"data": values["data"] | {"store": "nowhere"}}),
    ):
        assert filled["model"]["vocab_size"] == 2048
        assert said == []


def begun(tmp_path, values):
    (tmp_path / "config.json").write_text(json.dumps(to_dict(from_config_dict(values))))
    return tmp_path


def test_a_run_that_goes_on_keeps_its_vocabulary(values, tmp_path):
    """As one of a former version, which had that of the configuration."""
    run = begun(tmp_path, values | {"model": values["model"] | {"vocab_size": 2048}})
    filled, said = fill_in(values | {"model": values["model"] | {"vocab_size": 512}}, begun=run)
    assert filled["model"]["vocab_size"] == 2048
    assert said == [f"model.vocab_size=2048, that of {run} (the configuration has 512)"]


def test_a_run_that_goes_on_keeps_the_metric_that_decides(tmp_path):
    values = get_config("tagging").to_dict()
    assert (values["data"]["metrics"], values["training"]["best_metric"]) == ((), "auto")
    before = values | {
        "data": values["data"] | {"metrics": ("accuracy",)},
        "training": values["training"] | {"best_metric": "accuracy"},
    }
    filled, _ = fill_in(values, begun=begun(tmp_path, before))
    assert filled == before
    chosen = values | {"data": values["data"] | {"metrics": ("entity_f1",)}}
    assert fill_in(chosen, begun=tmp_path)[0]["data"]["metrics"] == ("entity_f1",)

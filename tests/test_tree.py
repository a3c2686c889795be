import re

import jax.numpy as jnp
import pytest

from tests.models import small
from tx_jax import tree
from tx_jax.models import registry
from tx_jax.training.state import TrainState

NESTED = {"b": {"kernel": 1, "bias": 2}, "a": [3, (4,)]}


def test_flatten_joins_keys_indices_and_fields():
    assert tree.flatten(NESTED) == {"a/0": 3, "a/1/0": 4, "b/bias": 2, "b/kernel": 1}
    state = TrainState(step=0, params=NESTED, opt_state=())
    assert list(tree.flatten(state)) == ["step", "params/a/0", "params/a/1/0", "params/b/bias", "params/b/kernel"]


def test_flatten_of_a_model():
    paths = set(tree.flatten(registry.param_shapes(small.CONFIG)))
    assert "encoder/layer_1/attention/query/kernel" in paths
    # Roles, not the positions that Linen makes up for unnamed modules.
    assert not [path for path in paths if re.search(r"[A-Z]|Dense_|LayerNorm_", path)]


def test_map_with_path_keeps_the_structure():
    mapped = tree.map_with_path(lambda path, x, y: f"{path}={x + y}", NESTED, NESTED)
    assert mapped == {"b": {"kernel": "b/kernel=2", "bias": "b/bias=4"}, "a": ["a/0=6", ("a/1/0=8",)]}
    with pytest.raises(ValueError):
        tree.map_with_path(lambda path, x, y: None, NESTED, {"b": 1})


def test_split_and_join():
    params = {"a": {"kernel": 1, "bias": 2}, "b": {"kernel": 3}, "c": {"d": {"scale": 4}}}
    chosen, others = tree.split(params, {"a/kernel", "b/kernel"})
    assert (chosen, others) == ({"a": {"kernel": 1}, "b": {"kernel": 3}}, {"a": {"bias": 2}, "c": {"d": {"scale": 4}}})
    assert tree.join(chosen, others) == tree.join(others, chosen) == tree.nest(tree.flatten(params)) == params
    assert tree.split(params, ()) == ({}, params)


def test_matches():
    assert tree.matches("encoder/layer_3/mlp/wi/bias", [r"norm/", r"/bias$"])
    assert not tree.matches("encoder/layer_3/mlp/wi/kernel", [r"norm/", r"/bias$"])
    assert not tree.matches("encoder/layer_3/mlp/wi/kernel", [])


def test_lookup_takes_the_first_row_and_passes_over_nothing():
    table = ((r"/bias$", 1), (r"^masked_lm/", 2))
    assert tree.lookup("masked_lm/bias", table) == 1
    assert tree.lookup("masked_lm/transform/kernel", table) == 2
    with pytest.raises(KeyError, match="no rule covers the parameter 'pooler/kernel'"):
        tree.lookup("pooler/kernel", table)


def test_paths_of_values_that_are_falsy_are_found():
    assert tree.lookup("x", ((r"x", None),)) is None
    assert tree.flatten({"x": jnp.zeros(())}).keys() == {"x"}

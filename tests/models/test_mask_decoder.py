"""DeBERTa, whole, with its enhanced mask decoder: against NumPy in float64."""

import functools

import jax
import numpy as np
import pytest

from tests.models import small
from tests.nn import disentangled
from tx_jax import tree
from tx_jax.models import registry

CONFIG = small.config(
    num_segments=0,
    position_embedding="none",
    layer_norm_eps=1e-5,
    relative_attention=("c2p", "p2c"),
    relative_distance=10,
    relative_buckets=6,
    enhanced_mask_decoder=True,
    heads=("masked_lm",),
)
CASES = {
    "both, own projections": {},
    "c2p": {"relative_attention": ("c2p",), "key_bias": False},
    "p2c": {"relative_attention": ("p2c",), "relative_buckets": 0, "relative_distance": 5},
    "both, shared, normalized, convolution": {
        "share_relative_projections": True,
        "relative_norm": True,
        "conv_kernel": 3,
    },
}


def config(**changes):
    return small.config(**(vars(CONFIG) | changes))


def params(cfg):
    """Attention sharp enough for positions to show."""
    return tree.map_with_path(
        lambda path, x: x * (3 if "query/kernel" in path or "relative/embedding" in path else 1), small.params(cfg)
    )


@functools.partial(jax.jit, static_argnums=0)
def run(cfg, variables, inputs):
    return small.apply(cfg, variables, inputs)


def batch():
    """Two rows of 12 and 8 tokens: distances reach beyond the buckets on both sides."""
    return {name: small.batch()[name][:2] for name in ("tokens_BT", "valid_BT")}


@pytest.mark.parametrize("name", CASES)
def test_against_numpy(name):
    cfg, inputs = config(**CASES[name]), batch()
    variables = params(cfg)
    valid = np.asarray(inputs["valid_BT"])
    assert not valid.all()
    hidden, logits = disentangled.encoder(
        jax.tree.map(np.float64, variables), cfg, np.asarray(inputs["tokens_BT"]), valid
    )
    actual = run(cfg, variables, inputs)
    np.testing.assert_allclose(actual.hidden[valid], hidden[valid], atol=1e-5 * np.abs(hidden).max(), rtol=0)
    np.testing.assert_allclose(
        actual.logits["masked_lm"][valid], logits[valid], atol=1e-5 * np.abs(logits).max(), rtol=0
    )


@pytest.mark.parametrize("name", CASES)
def test_parameters_of_the_projections(name):
    """Positions of their own only where they are not shared, and only of the terms there are."""
    cfg = config(**CASES[name])
    attention = registry.param_shapes(cfg)["encoder"]["layer_0"]["attention"]
    own = {"c2p": "relative_key", "p2c": "relative_query"}
    expected = set() if cfg.share_relative_projections else {own[term] for term in cfg.relative_attention}
    assert {path for path in attention if path.startswith("relative")} == expected
    for key in {"key", "relative_key"} & set(attention):
        assert ("bias" in attention[key]) == cfg.key_bias


def test_it_is_the_masked_lm_that_asks_with_positions():
    """The absolute positions reach the logits, and nothing else; the last layer's parameters serve both."""
    inputs, variables = batch(), params(CONFIG)
    moved = variables | {"mask_decoder_position": jax.tree.map(lambda x: -x, variables["mask_decoder_position"])}
    a, b = run(CONFIG, variables, inputs), run(CONFIG, moved, inputs)
    np.testing.assert_array_equal(a.hidden, b.hidden)
    assert np.abs(a.logits["masked_lm"] - b.logits["masked_lm"]).max() > 0.1
    without = small.config(**(vars(CONFIG) | {"enhanced_mask_decoder": False}))
    assert set(tree.flatten(registry.param_shapes(CONFIG))) - set(tree.flatten(registry.param_shapes(without))) == {
        "mask_decoder_position/embedding"
    }

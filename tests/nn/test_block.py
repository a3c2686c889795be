import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn import reference
from tx_jax.nn.block import Block, Context
from tx_jax.nn.masks import padding_mask
from tx_jax.nn.stack import Stack


def inputs(cfg):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 7, cfg.dim)), jnp.float32)
    valid = jnp.asarray(np.arange(7)[None] < np.array([7, 4, 1])[:, None])
    return x, valid


def noisy(params):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + jnp.asarray(rng.normal(scale=0.2, size=p.shape), jnp.float32), params)


@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "relu"])
@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_block_against_numpy(norm_position, activation):
    cfg = small.config(norm_position=norm_position, activation=activation, layer_norm_eps=1e-2)
    x, valid = inputs(cfg)
    module = Block(cfg, deterministic=True)
    params = noisy(module.init(jax.random.key(0), x, Context(padding_mask(valid)))["params"])
    expected = reference.block(jax.tree.map(np.float64, params), np.float64(x), cfg, np.asarray(valid))
    actual = module.apply({"params": params}, x, Context(padding_mask(valid)))
    np.testing.assert_allclose(actual, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_stack_is_its_blocks_in_order(norm_position):
    cfg = small.config(norm_position=norm_position, num_layers=3, embedding_norm=False)
    x, valid = inputs(cfg)
    module = Stack(cfg, cfg.num_layers)
    call = {
        "context": Context(padding_mask(valid)),
        "positions_BT": jnp.broadcast_to(jnp.arange(7)[None], (3, 7)),
        "valid_BT": valid,
        "deterministic": True,
    }
    params = noisy(module.init(jax.random.key(0), x, **call)["params"])
    (y, _), sown = module.apply({"params": params}, x, **call, mutable=["intermediates"])
    p = jax.tree.map(np.float64, params)
    expected = np.float64(x)
    np.testing.assert_array_equal(sown["intermediates"]["hidden"][0], x)
    for i, hidden in enumerate(sown["intermediates"]["hidden"][1:]):
        expected = reference.block(p[f"layer_{i}"], expected, cfg, np.asarray(valid))
        np.testing.assert_allclose(hidden, expected, atol=5e-6 * np.abs(expected).max(), rtol=0)
    assert i == 2
    assert ("final_norm" in params) == (norm_position == "pre")
    if norm_position == "pre":
        expected = reference.layer_norm(p["final_norm"], expected, cfg.layer_norm_eps)
    np.testing.assert_allclose(y, expected, atol=5e-6 * np.abs(expected).max(), rtol=0)


def test_the_two_residual_dropouts_of_a_block_differ():
    """Attention and MLP contribute a constant each; where both are dropped alike, the sum has only two values."""
    cfg = small.config(norm_position="pre", dropout=0.5, attention_dropout=0.0, activation="relu")
    x, _ = inputs(cfg)
    module = Block(cfg, deterministic=False)
    params = module.init({"params": jax.random.key(0), "dropout": jax.random.key(1)}, x, Context())["params"]
    params = jax.tree.map(jnp.zeros_like, params)
    params["attention"]["out"]["bias"] += 1.0
    params["mlp"]["wo"]["bias"] += 10.0
    y = module.apply({"params": params}, jnp.zeros_like(x), Context(), rngs={"dropout": jax.random.key(2)})
    assert set(np.unique(y)) == {0.0, 2.0, 20.0, 22.0}

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from tests.models import small
from tests.nn import reference
from tx_jax.nn.attention.layer import MultiHeadAttention
from tx_jax.nn.dropout import dropout_key
from tx_jax.nn.masks import Mask


def layer(**changes):
    """A layer with noise on its parameters, an input, and a mask that hides some keys from all queries."""
    cfg = small.config(**changes)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(3, 9, cfg.dim)), jnp.float32)
    valid = jnp.asarray(np.arange(9)[None] < np.array([9, 6, 2])[:, None])
    module = MultiHeadAttention(cfg)
    params = module.init(jax.random.key(0), x, x, mask=Mask(), deterministic=True)["params"]
    params = jax.tree.map(lambda p: p + jnp.asarray(rng.normal(scale=0.3, size=p.shape), jnp.float32), params)
    return module, params, x, valid


def test_layer_against_numpy():
    module, params, x, valid = layer()
    actual = module.apply({"params": params}, x, x, mask=Mask(valid), deterministic=True)
    p, y = jax.tree.map(np.float64, params), np.float64(x)
    expected = reference.attention(p, y, y, module.config.num_heads, np.asarray(valid)[:, None])
    np.testing.assert_allclose(actual, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


def test_layer_against_flax():
    module, params, x, valid = layer()
    cfg = module.config
    theirs = nn.MultiHeadDotProductAttention(num_heads=cfg.num_heads, qkv_features=cfg.dim, deterministic=True)

    def fold(name, p):
        if name == "out":
            return {"kernel": p["kernel"].reshape(cfg.num_heads, cfg.head_dim, cfg.dim), "bias": p["bias"]}
        kernel = p["kernel"].reshape(cfg.dim, cfg.num_heads, cfg.head_dim)
        return {"kernel": kernel, "bias": p["bias"].reshape(cfg.num_heads, cfg.head_dim)}

    folded = {name: fold(name, p) for name, p in params.items()}
    weights = jnp.asarray(np.random.default_rng(4).normal(size=x.shape), jnp.float32)

    def ours_sum(x):
        return (module.apply({"params": params}, x, x, mask=Mask(valid), deterministic=True) * weights).sum()

    def theirs_sum(x):
        # Linen broadcasts its biases without stating it.
        with jax.numpy_rank_promotion("allow"):
            return (theirs.apply({"params": folded}, x, mask=valid[:, None, None]) * weights).sum()

    for ours, other in zip(jax.value_and_grad(ours_sum)(x), jax.value_and_grad(theirs_sum)(x), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-5 * np.abs(other).max(), rtol=0)


def test_layer_sows_its_probabilities():
    module, params, x, valid = layer()
    _, sown = module.apply({"params": params}, x, x, mask=Mask(valid), deterministic=True, mutable=["intermediates"])
    (probabilities,) = sown["intermediates"]["probabilities"]
    assert probabilities.shape == (3, module.config.num_heads, 9, 9)
    np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    assert (np.asarray(probabilities)[2, :, :, 2:] == 0).all()


def test_attention_dropout_drops_probabilities_at_its_rate():
    """With the identity as values, the output before the last product would be the dropped probabilities."""
    module, params, x, _ = layer(attention_dropout=0.4, num_heads=1)
    rng = np.random.default_rng(5)
    x = jnp.asarray(rng.normal(size=(40, module.config.dim, module.config.dim)), jnp.float32)
    eye = {"kernel": jnp.eye(module.config.dim), "bias": jnp.zeros(module.config.dim)}
    zero = {"kernel": jnp.zeros_like(eye["kernel"]), "bias": eye["bias"]}
    # Uniform attention over as many keys as there are features; values are one-hot; `out` is the identity.
    params = {"query": zero, "key": zero, "value": eye, "out": eye}
    x = jnp.broadcast_to(jnp.eye(module.config.dim)[None], x.shape)
    y = np.asarray(
        module.apply({"params": params}, x, x, mask=Mask(), deterministic=False, rngs={"dropout": dropout_key(0)})
    )
    kept = y != 0
    np.testing.assert_allclose(y[kept] * module.config.dim, 2**16 / (2**16 - 26214), rtol=1e-5)
    # 40960 draws: the standard error of the rate is 0.0024.
    assert abs(kept.mean() - 0.6) < 0.01

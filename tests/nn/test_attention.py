import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn import reference
from tx_jax.nn.attention import MultiHeadAttention, attention_probabilities
from tx_jax.nn.masks import padding_mask

B, T, S, H, K = 2, 5, 7, 3, 8


def queries_and_keys(dtype=np.float32):
    rng = np.random.default_rng(0)
    q, k = (rng.normal(size=(B, length, H, K)) for length in (T, S))
    return jnp.asarray(q, dtype), jnp.asarray(k, dtype)


def layer(**changes):
    """A layer with noise on its parameters, an input, and a mask that hides some keys from all queries."""
    cfg = small.config(**changes)
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(3, 9, cfg.dim)), jnp.float32)
    valid = jnp.asarray(np.arange(9)[None] < np.array([9, 6, 2])[:, None])
    module = MultiHeadAttention(cfg)
    params = module.init(jax.random.key(0), x, x, mask_BHTS=None, deterministic=True)["params"]
    params = jax.tree.map(lambda p: p + jnp.asarray(rng.normal(scale=0.3, size=p.shape), jnp.float32), params)
    return module, params, x, valid


def test_probabilities_against_numpy():
    q, k = queries_and_keys()
    mask = np.random.default_rng(2).random((B, H, T, S)) < 0.7
    mask[..., 0] = True
    scores = np.einsum("bthk,bshk->bhts", np.float64(q), np.float64(k)) / np.sqrt(K)
    np.testing.assert_allclose(attention_probabilities(q, k), reference.softmax(scores), rtol=1e-5)
    masked = attention_probabilities(q, k, mask_BHTS=jnp.asarray(mask))
    np.testing.assert_allclose(masked, reference.softmax(np.where(mask, scores, -np.inf)), rtol=1e-5)
    assert (np.asarray(masked)[~mask] == 0).all()


@pytest.mark.parametrize("shape", [(B, 1, 1, S), (1, 1, T, S), (1, H, 1, S)])
def test_the_mask_broadcasts_over_any_axis(shape):
    q, k = queries_and_keys()
    mask = np.random.default_rng(3).random(shape) < 0.5
    mask[..., -1] = True
    np.testing.assert_array_equal(
        attention_probabilities(q, k, mask_BHTS=jnp.asarray(mask)),
        attention_probabilities(q, k, mask_BHTS=jnp.asarray(np.broadcast_to(mask, (B, H, T, S)))),
    )


def test_softmax_is_float32_for_bfloat16_inputs():
    """Scores of bfloat16 inputs are exact products summed in float32: not rounded to 8 bits before the softmax."""
    q, k = queries_and_keys(jnp.bfloat16)
    probabilities = attention_probabilities(q, k)
    assert probabilities.dtype == jnp.float32
    scores = np.einsum("bthk,bshk->bhts", np.float64(q), np.float64(k)) / np.sqrt(K)
    np.testing.assert_allclose(probabilities, reference.softmax(scores), rtol=1e-5)


def test_a_row_that_may_attend_to_nothing_is_finite():
    q, k = queries_and_keys()
    mask = jnp.ones((B, 1, T, S), bool).at[0, 0, 1].set(False)

    def total(q):
        return (attention_probabilities(q, k, mask_BHTS=mask) * k[..., 0].transpose(0, 2, 1)[:, :, None]).sum()

    probabilities = attention_probabilities(q, k, mask_BHTS=mask)
    np.testing.assert_allclose(probabilities[0, :, 1], 1 / S, rtol=1e-6)
    gradient = jax.grad(total)(q)
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient[0, 1]) == 0).all()


def test_layer_against_numpy():
    module, params, x, valid = layer()
    actual = module.apply({"params": params}, x, x, mask_BHTS=padding_mask(valid), deterministic=True)
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
    mask = padding_mask(valid)
    weights = jnp.asarray(np.random.default_rng(4).normal(size=x.shape), jnp.float32)

    def ours_sum(x):
        return (module.apply({"params": params}, x, x, mask_BHTS=mask, deterministic=True) * weights).sum()

    def theirs_sum(x):
        # Linen broadcasts its biases without stating it.
        with jax.numpy_rank_promotion("allow"):
            return (theirs.apply({"params": folded}, x, mask=mask) * weights).sum()

    for ours, other in zip(jax.value_and_grad(ours_sum)(x), jax.value_and_grad(theirs_sum)(x), strict=True):
        np.testing.assert_allclose(ours, other, atol=1e-5 * np.abs(other).max(), rtol=0)


def test_layer_sows_its_probabilities():
    module, params, x, valid = layer()
    _, sown = module.apply(
        {"params": params}, x, x, mask_BHTS=padding_mask(valid), deterministic=True, mutable=["intermediates"]
    )
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
        module.apply({"params": params}, x, x, mask_BHTS=None, deterministic=False, rngs={"dropout": jax.random.key(0)})
    )
    kept = y != 0
    np.testing.assert_allclose(y[kept] * module.config.dim, 2**16 / (2**16 - 26214), rtol=1e-5)
    # 40960 draws: the standard error of the rate is 0.0024.
    assert abs(kept.mean() - 0.6) < 0.01

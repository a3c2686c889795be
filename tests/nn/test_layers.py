"""Dense, LayerNorm, the activations, the embeddings, the heads: each against NumPy in float64."""

import types

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.ad_checkpoint import print_saved_residuals

from tests.models import small
from tests.nn import reference
from tx_jax import sharding
from tx_jax.nn.dense import Dense, product_of_rows, project, truncated_normal
from tx_jax.nn.embed import Embedding, Embeddings
from tx_jax.nn.heads import Classifier, MaskedLMHead, Pooler, gather_positions
from tx_jax.nn.mlp import ACTIVATIONS
from tx_jax.nn.norm import LayerNorm
from tx_jax.nn.stack import SAVED_BY


def normal(*shape, seed=0, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(scale=scale, size=shape), jnp.float32)


def noisy(params, scale=0.3):
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda p: p + jnp.asarray(rng.normal(scale=scale, size=p.shape), jnp.float32), params)


def double(tree):
    return jax.tree.map(np.float64, tree)


@pytest.mark.parametrize("shape", [(6,), (4, 6), (2, 3, 6), (2, 3, 4, 6)])
def test_dense(shape):
    module = Dense(5, init_stddev=0.02, dtype=jnp.float32)
    x = normal(*shape)
    params = noisy(module.init(jax.random.key(0), x)["params"])
    y = module.apply({"params": params}, x)
    assert y.shape == (*shape[:-1], 5)
    np.testing.assert_allclose(y, reference.dense(double(params), np.float64(x)), atol=1e-6)


class TwoOfOneInput(nn.Module):
    @nn.compact
    def __call__(self, x):
        a, b = project(x, *(Dense(5, init_stddev=0.02, dtype=jnp.float32, name=name) for name in "ab"))
        return (jnp.sin(a) * b).sum()


@pytest.mark.parametrize("splits", [False, True])
def test_layers_of_one_input_split_over_devices_or_not(monkeypatch, capsys, splits):
    """The same values and gradients, and the same is kept where the others are computed again."""
    x, module = normal(3, 4, 6), TwoOfOneInput()
    params = noisy(module.init(jax.random.key(0), x)["params"])

    def apart(params, x):
        a, b = (x @ params[name]["kernel"] + params[name]["bias"][None, None] for name in "ab")
        return (jnp.sin(a) * b).sum()

    monkeypatch.setattr(sharding, "splits_kernels", lambda: splits)
    kept = jax.checkpoint(lambda params, x: module.apply({"params": params}, x), policy=SAVED_BY["dots"])
    expected, actual = (jax.value_and_grad(f, argnums=(0, 1))(params, x) for f in (apart, kept))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), actual, expected)
    print_saved_residuals(kept, params, x)
    assert capsys.readouterr().out.count("f32[12,5]") == 2


@pytest.mark.parametrize(("inputs", "features"), [(24, 8), (8, 24)])  # the taller result is transposed
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_the_gradients_of_a_product_are_those_of_autodiff(inputs, features, dtype):
    x, kernel, gradient = (normal(*shape).astype(dtype) for shape in ((64, inputs), (inputs, features), (64, features)))
    y, backward = jax.vjp(jax.jit(product_of_rows), x, kernel)
    expected_y, expected = jax.vjp(jnp.dot, x, kernel)
    assert all(a.dtype == dtype for a in backward(gradient))
    np.testing.assert_array_equal(y, expected_y)
    for a, b in zip(backward(gradient), expected(gradient), strict=True):
        scale = 1e-6 if dtype == jnp.float32 else 1e-2
        np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=scale, atol=scale * np.abs(np.float32(b)).max())


def test_only_on_a_cpu_is_a_matrix_transposed_for_a_tall_kernel_gradient():
    def gradient(x, kernel):
        return jax.grad(lambda kernel: product_of_rows(x, kernel).sum())(kernel)

    traced = jax.jit(gradient).trace(normal(64, 24), normal(24, 8))
    barriers = {
        platform: traced.lower(lowering_platforms=(platform,)).as_text().count("optimization_barrier")
        for platform in ("cpu", "tpu", "cuda")
    }
    assert barriers == {"cpu": 2, "tpu": 0, "cuda": 0}


def test_dense_computes_in_its_dtype_and_keeps_float32_parameters():
    module = Dense(5, init_stddev=0.02, dtype=jnp.bfloat16)
    params = module.init(jax.random.key(0), normal(2, 6))["params"]
    assert {p.dtype for p in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    assert module.apply({"params": params}, normal(2, 6)).dtype == jnp.bfloat16


def test_truncated_normal_is_cut_at_two_standard_deviations():
    x = np.asarray(truncated_normal(0.02)(jax.random.key(0), (1000, 1000), jnp.float32))
    assert 0.0399 < np.abs(x).max() <= 0.04
    # The standard deviation of a normal cut at +-2 is 0.8796 of its own; 10^6 draws give it to about 0.1%.
    assert abs(x.std() / 0.02 - 0.8796) < 0.003
    assert abs(x.mean()) < 1e-4


@pytest.mark.parametrize("eps", [1e-12, 1e-2])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_layer_norm(eps, offset):
    """An offset of 100 standard deviations costs the rounding of the mean, 8e-6 a step, and no more.

    The variance as E[x^2] - E[x]^2 would lose a thousandth.
    """
    x = normal(4, 5, 32) + offset
    module = LayerNorm(eps)
    params = noisy(module.init(jax.random.key(0), x)["params"])
    expected = reference.layer_norm(double(params), np.float64(x), eps)
    np.testing.assert_allclose(module.apply({"params": params}, x), expected, atol=6e-5 if offset else 2e-6)


def test_layer_norm_of_bfloat16_takes_its_statistics_in_float32():
    x = (normal(4, 256) + 3).astype(jnp.bfloat16)
    module = LayerNorm(1e-12)
    params = noisy(module.init(jax.random.key(0), x)["params"])
    y = module.apply({"params": params}, x)
    assert y.dtype == jnp.bfloat16
    expected = jnp.asarray(reference.layer_norm(double(params), np.float64(x), 1e-12)).astype(jnp.bfloat16)
    # Exact but for the last of 8 bits, where the float32 result lies on a rounding boundary.
    np.testing.assert_allclose(np.float32(y), np.float32(expected), rtol=2**-7)
    assert (np.asarray(y == expected)).mean() > 0.99


def test_layer_norm_of_a_constant_is_its_bias():
    module = LayerNorm(1e-12)
    params = noisy(module.init(jax.random.key(0), jnp.ones((1, 8)))["params"])
    y, gradient = jax.value_and_grad(lambda x: module.apply({"params": params}, x).sum())(jnp.ones((1, 8)))
    np.testing.assert_allclose(y, params["bias"].sum(), rtol=1e-6)
    assert np.isfinite(gradient).all()


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_and_their_gradients(name):
    x = np.linspace(-6, 6, 241) + 0.0125  # not at 0, where ReLU has no gradient
    f = reference.ACTIVATIONS[name]
    value, gradient = jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(value, f(np.float64(np.float32(x))), atol=1e-6, rtol=0)
    h = 1e-6
    # Near -5.5 float32's tanh is -1, and 3e-6 of the gradient is gone.
    np.testing.assert_allclose(gradient, (f(x + h) - f(x - h)) / (2 * h), atol=5e-6, rtol=0)


def test_there_is_a_reference_for_every_activation():
    assert set(ACTIVATIONS) == set(reference.ACTIVATIONS)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_activations_in_bfloat16(name):
    """Value and gradient keep the dtype and are right to its 8 bits."""
    x = jnp.linspace(-3, 3, 61).astype(jnp.bfloat16) + jnp.asarray(0.01, jnp.bfloat16)
    value, gradient = jax.vmap(jax.value_and_grad(ACTIVATIONS[name]))(x)
    assert value.dtype == gradient.dtype == jnp.bfloat16
    f, h, x = reference.ACTIVATIONS[name], 1e-6, np.float64(x)
    np.testing.assert_allclose(np.float64(value), f(x), atol=2**-7, rtol=2**-7)
    np.testing.assert_allclose(np.float64(gradient), (f(x + h) - f(x - h)) / (2 * h), atol=2**-8, rtol=2**-8)


@pytest.mark.parametrize("name", ["gelu", "gelu_tanh"])
def test_second_derivatives_of_activations(name):
    """Forward over reverse and reverse over reverse, as Hessian-vector products need them."""
    f, h, x = reference.ACTIVATIONS[name], 1e-4, np.linspace(-4, 4, 33)
    expected = (f(x + h) - 2 * f(x) + f(x - h)) / h**2
    once = jax.grad(lambda x: ACTIVATIONS[name](x).sum())
    x = jnp.asarray(x, jnp.float32)
    np.testing.assert_allclose(jax.jvp(once, (x,), (jnp.ones_like(x),))[1], expected, atol=1e-5)
    np.testing.assert_allclose(jax.grad(lambda x: once(x).sum())(x), expected, atol=1e-5)


def test_embeddings():
    cfg = small.config(dropout=0.0)
    module = Embeddings(cfg)
    batch = small.batch()
    tokens, segments = batch["tokens_BT"], batch["segments_BT"]
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1])[None], tokens.shape)
    call = {"segments_BT": segments, "positions_BT": positions, "deterministic": True}
    params = noisy(module.init(jax.random.key(0), tokens, **call)["params"])
    p = double(params)
    summed = (
        p["token"]["embedding"][np.asarray(tokens)]
        + p["segment"]["embedding"][np.asarray(segments)]
        + p["position"]["embedding"][np.arange(tokens.shape[1])]
    )
    y = module.apply({"params": params}, tokens, **call)
    np.testing.assert_allclose(y, reference.layer_norm(p["norm"], summed, cfg.layer_norm_eps), atol=3e-6)


def test_embedding_dropout():
    """At its rate, after the normalization, and with what is kept scaled up."""
    module = Embeddings(small.config(dropout=0.4))
    tokens = small.batch()["tokens_BT"]
    call = {"segments_BT": 0 * tokens, "positions_BT": 0 * tokens}
    variables = module.init(jax.random.key(0), tokens, **call, deterministic=True)
    plain = module.apply(variables, tokens, **call, deterministic=True)
    dropped = module.apply(variables, tokens, **call, deterministic=False, rngs={"dropout": jax.random.key(0)})
    kept, rate = np.asarray(dropped) != 0, 26214 / 2**16  # the nearest rate that 16 random bits can have
    np.testing.assert_allclose(np.asarray(dropped)[kept], np.asarray(plain)[kept] / (1 - rate), rtol=1e-5)
    # 1152 draws: the standard error of the rate is 0.014.
    assert abs(kept.mean() - 0.6) < 0.06


def test_embedding_gradient_adds_up_over_repeated_ids():
    module = Embedding(7, 4, init_stddev=0.02)
    ids = jnp.asarray([[1, 1, 3], [1, 6, 3]])
    params = module.init(jax.random.key(0), ids)["params"]
    gradient = jax.grad(lambda p: module.apply({"params": p}, ids).sum())(params)["embedding"]
    np.testing.assert_array_equal(gradient[:, 0], [0, 3, 0, 2, 0, 0, 1])


@pytest.mark.parametrize("size", [1, 2, 5])
def test_select_is_a_lookup_without_a_gather(size):
    module = Embedding(size, 4, init_stddev=0.02)
    ids = jnp.asarray(np.random.default_rng(0).integers(0, size, (3, 7)))
    params = noisy(module.init(jax.random.key(0), ids)["params"])
    weights = normal(3, 7, 4)
    found = [
        jax.value_and_grad(lambda p, method=method: (module.apply({"params": p}, ids, method=method) * weights).sum())(
            params
        )
        for method in ("__call__", "select")
    ]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), *found)


def test_gather_positions():
    x = normal(2, 5, 3)
    positions = jnp.asarray([[4, 0], [2, 2]])
    expected = np.stack([np.asarray(x)[b, np.asarray(positions)[b]] for b in range(2)])
    np.testing.assert_array_equal(gather_positions(x, positions), expected)


def test_heads():
    cfg = small.config()
    hidden = normal(2, 5, cfg.dim)
    table = normal(cfg.vocab_size, cfg.dim, seed=2)

    pooler = Pooler(cfg)
    params = noisy(pooler.init(jax.random.key(0), hidden)["params"])
    assert set(params) == {"kernel", "bias"}
    pooled = pooler.apply({"params": params}, hidden[:, 0])
    np.testing.assert_allclose(pooled, np.tanh(reference.dense(double(params), np.float64(hidden)[:, 0])), atol=1e-6)

    head = Classifier(cfg, 2, 0.5)
    params = noisy(head.init(jax.random.key(0), pooled, deterministic=True)["params"])
    logits = head.apply({"params": params}, pooled, deterministic=True)
    np.testing.assert_allclose(logits, reference.dense(double(params), np.float64(pooled)), atol=1e-6)

    head = MaskedLMHead(cfg)
    embedding = types.SimpleNamespace(table=table, shares=None)
    params = noisy(head.init(jax.random.key(0), hidden, table=embedding)["params"])
    p = double(params)
    h = reference.ACTIVATIONS[cfg.activation](reference.dense(p["transform"], np.float64(hidden)))
    expected = reference.layer_norm(p["norm"], h, cfg.layer_norm_eps) @ np.float64(table).T + p["bias"]
    layer = head.apply({"params": params}, hidden, table=embedding)
    np.testing.assert_allclose(layer.logits(), expected, atol=2e-5)

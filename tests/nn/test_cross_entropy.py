"""The output layer and its cross entropy, against the formula in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.nn import cross_entropy
from tx_jax.nn.cross_entropy import OutputLayer, num_chunks

B, T, E, V = 4, 6, 16, 50


def arrays(bias=True, dtype=jnp.float32, size=1.0):
    rng = np.random.default_rng(0)
    layer = OutputLayer(
        jnp.asarray(rng.normal(size=(B, T, E)), dtype),
        jnp.asarray(rng.normal(size=(V, E)) * size, jnp.float32),
        jnp.asarray(rng.normal(size=V), jnp.float32) if bias else None,
    )
    return layer, jnp.asarray(rng.integers(0, V, (B, T))), jnp.asarray(rng.integers(0, 3, (B, T)), jnp.float32)


def formula(layer, targets, weights):
    """Loss, share of correct ones and the loss's gradient, in float64."""
    rounded = layer.table.astype(layer.hidden.dtype)
    hidden, table = (np.float64(x.astype(jnp.float32)) for x in (layer.hidden, rounded))
    bias = 0 if layer.bias is None else np.float64(layer.bias)
    logits = hidden @ table.T + bias
    logits = logits - logits.max(-1, keepdims=True)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    p, one_hot = np.exp(log_p), np.eye(V)[np.asarray(targets)]
    losses = -(log_p * one_hot).sum(-1)
    correct = logits.argmax(-1) == np.asarray(targets)
    g = (p - one_hot) * np.float64(weights)[..., None]
    gradient = OutputLayer(g @ table, np.einsum("btv,bte->ve", g, hidden), g.sum((0, 1)))
    return (losses * np.float64(weights)).sum(), (correct * np.float64(weights)).sum(), gradient


def ours(layer, targets, weights):
    run = jax.value_and_grad(lambda layer: layer.cross_entropy(targets, weights), has_aux=True)
    (loss, correct), gradient = jax.jit(run)(layer)
    return loss, correct, gradient


@pytest.fixture(params=[1, 4, 24], ids="{} chunks".format)
def chunks(request, monkeypatch):
    monkeypatch.setattr(cross_entropy, "CHUNK", V * B * T // request.param)
    assert num_chunks(B * T, V) == request.param
    return request.param


@pytest.mark.parametrize("bias", [True, False])
def test_value_and_gradient_are_those_of_the_formula(chunks, bias):
    layer, targets, weights = arrays(bias)
    targets = targets.at[0].set(jnp.argmax(layer.logits()[0], axis=-1))  # some are right
    loss, correct, gradient = ours(layer, targets, weights)
    wanted, right, expected = formula(layer, targets, weights)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    assert correct == right > 0
    np.testing.assert_allclose(layer.cross_entropy(targets, weights), (loss, correct), rtol=1e-6)  # with no gradient
    for name in ("hidden", "table", *(["bias"] if bias else [])):
        np.testing.assert_allclose(getattr(gradient, name), getattr(expected, name), atol=1e-5, err_msg=name)


def test_in_bfloat16_the_loss_is_exact_and_the_gradient_rounded(chunks):
    """The products are accumulated in float32, and the loss is that of unrounded logits."""
    layer, targets, weights = arrays(dtype=jnp.bfloat16)
    loss, correct, gradient = ours(layer, targets, weights)
    wanted, right, expected = formula(layer, targets, weights)
    np.testing.assert_allclose(loss, wanted, rtol=1e-6)
    assert correct == right
    assert gradient.hidden.dtype == jnp.bfloat16
    assert gradient.table.dtype == gradient.bias.dtype == jnp.float32
    for name in ("hidden", "table", "bias"):
        actual, exact = np.float32(getattr(gradient, name)), getattr(expected, name)
        np.testing.assert_allclose(actual, exact, atol=0.02 * np.abs(exact).max(), err_msg=name)


def test_logits_far_from_zero_make_no_difference():
    """Published GPT-2 models have logits around -100."""
    layer, targets, weights = arrays()
    far = layer.replace(bias=layer.bias - 1e4)
    np.testing.assert_allclose(ours(far, targets, weights)[0], formula(layer, targets, weights)[0], rtol=1e-3)


def test_a_loss_without_bounds_stays_finite():
    layer, targets, weights = arrays(size=100.0)
    loss, _, gradient = ours(layer, targets, weights)
    assert formula(layer, targets, weights)[0] / weights.sum() > 2 * cross_entropy.LARGEST
    assert 10 * cross_entropy.LARGEST > loss / weights.sum() > cross_entropy.LARGEST / 2
    assert all(np.isfinite(each).all() for each in jax.tree.leaves(gradient))
    np.testing.assert_allclose(gradient.bias.sum(), 0, atol=1e-3)  # probabilities that add up to 1, less 1
    # Down this gradient the true loss falls.
    assert (np.asarray(gradient.hidden) * formula(layer, targets, weights)[2].hidden).sum() > 0


def test_the_logits_are_a_product_accumulated_in_float32():
    layer, _, _ = arrays(dtype=jnp.bfloat16)
    assert layer.logits().dtype == jnp.float32
    rounded = np.float64(layer.table.astype(jnp.bfloat16).astype(jnp.float32))
    expected = np.float64(layer.hidden.astype(jnp.float32)) @ rounded.T + np.float64(layer.bias)
    np.testing.assert_allclose(layer.logits(), expected, atol=1e-5)


@pytest.mark.parametrize(("rows", "vocabulary", "expected"), [(1280, 30522, 1), (8192, 50257, 4), (7, 2**28, 7)])
def test_as_few_chunks_as_keep_the_logits_small(rows, vocabulary, expected):
    assert num_chunks(rows, vocabulary) == expected


def test_no_array_of_all_logits_exists(monkeypatch):
    """Read from the traced program: with chunks, nothing has as many elements as the logits."""
    monkeypatch.setattr(cross_entropy, "CHUNK", V * B * T // 4)
    layer, targets, weights = arrays()
    traced = jax.make_jaxpr(jax.grad(lambda layer: layer.cross_entropy(targets, weights)[0]))(layer)
    sizes = [v.aval.size for eqn in equations(traced.jaxpr) for v in eqn.outvars]
    assert V * B * T // 4 in sizes
    assert max(sizes) < V * B * T


def equations(jaxpr):
    for eqn in jaxpr.eqns:
        yield eqn
        for value in jax.tree.leaves(eqn.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")):
            if hasattr(value, "eqns") or hasattr(value, "jaxpr"):
                yield from equations(getattr(value, "jaxpr", value))

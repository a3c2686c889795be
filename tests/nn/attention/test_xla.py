"""XLA's attention against the formula: values, gradients, dropout; and what it keeps for the backward pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn.attention import cases, formula
from tx_jax.nn.attention import xla
from tx_jax.nn.dropout import dropout_key
from tx_jax.nn.masks import Mask
from tx_jax.nn.relative import key_scores, query_scores

LENGTH = 12


def value_and_gradients(attend, q, k, v, *args, **kwargs):
    weights = jnp.asarray(np.random.default_rng(9).normal(size=q.shape), jnp.float32)

    def loss(q, k, v):
        y = attend(q, k, v, *args, **kwargs)
        return (y.astype(jnp.float32) * weights).sum(), y

    (_, y), gradients = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return y, gradients


def assert_close(actual, expected, tolerance):
    for a, b in zip(jax.tree.leaves(actual), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, atol=tolerance * np.abs(b).max(), rtol=0)


@pytest.mark.parametrize("rate", [0.0, 0.3])
@pytest.mark.parametrize("name", cases.masks(LENGTH))
def test_against_the_formula(name, rate):
    mask, inputs = cases.masks(LENGTH)[name], cases.arrays(2, LENGTH, LENGTH, 3, 8)
    options = {"dropout_rate": rate, "dropout_key": dropout_key(1) if rate else None}
    actual = value_and_gradients(xla.attend, *inputs, mask, **options)
    assert_close(actual, value_and_gradients(formula.attend, *inputs, mask, **options), 2e-6)


def test_cross_attention():
    inputs = cases.arrays(2, 5, 7, 3, 8)
    mask = Mask(cases.valid(7, 7, 3))
    assert_close(
        value_and_gradients(xla.attend, *inputs, mask), value_and_gradients(formula.attend, *inputs, mask), 2e-6
    )


@pytest.mark.parametrize("window", [0, 4])
def test_queries_after_a_cache_are_the_last_ones_of_the_row(window):
    q, k, v = cases.arrays(2, LENGTH, LENGTH, 3, 8)
    whole = xla.attend(q, k, v, Mask(causal=True, window=window))
    for first in (LENGTH - 1, LENGTH - 3):
        mask = Mask(causal=True, window=window, first_query=jnp.int32(first))
        np.testing.assert_allclose(xla.attend(q[:, first:], k, v, mask), whole[:, first:], atol=1e-6)


def test_bfloat16():
    """Probabilities are rounded to 8 bits for the product, the softmax is not."""
    inputs = cases.arrays(2, 64, 64, 3, 16, jnp.bfloat16)
    mask = Mask(cases.valid(64, 64, 40))
    y, gradients = value_and_gradients(xla.attend, *inputs, mask)
    exact = value_and_gradients(formula.attend, *(x.astype(jnp.float32) for x in inputs), mask)
    assert {x.dtype for x in (y, *gradients)} == {jnp.dtype("bfloat16")}
    assert_close((y, gradients), exact, 2e-2)
    scores = jnp.einsum("bthk,bshk->bhts", *(x.astype(jnp.float32) for x in inputs[:2])) / 4
    np.testing.assert_allclose(xla.probabilities(*inputs[:2], Mask()), jax.nn.softmax(scores, axis=-1), rtol=1e-5)


def test_an_empty_row_is_finite_and_gives_no_gradient_to_the_scores():
    q, k, v = cases.arrays(2, LENGTH, LENGTH, 3, 8)
    y, (dq, dk, dv) = value_and_gradients(xla.attend, q, k, v, cases.masks(LENGTH)["an empty row"])
    assert all(np.isfinite(x).all() for x in (y, dq, dk, dv))
    np.testing.assert_allclose(y[1], np.broadcast_to(v[1].mean(0), y[1].shape), rtol=1e-5, atol=1e-6)
    assert (np.asarray(dq[1]) == 0).all()
    assert (np.asarray(dk[1]) == 0).all()


@pytest.mark.parametrize("terms", [("c2p",), ("p2c",), ("c2p", "p2c")])
def test_relative_terms(terms):
    cfg = small.config(relative_attention=terms, relative_distance=4, num_heads=3, dim=24)
    rng = np.random.default_rng(3)
    q, k, v = cases.arrays(2, LENGTH, LENGTH, 3, 8)
    tables = {name: jnp.asarray(rng.normal(size=(8, 3, 8)), jnp.float32) for name in terms}
    mask = Mask(cases.valid(LENGTH, LENGTH, 7))
    functions = {"c2p": lambda q, k, x: query_scores(q, x, cfg), "p2c": lambda q, k, x: key_scores(k, x, cfg)}

    def ours(q, k, v, tables):
        return xla.attend(q, k, v, mask, relative=xla.Relative(cfg, tables))

    def by_formula(q, k, v, tables):
        more = [functions[name](q, k, tables[name]) for name in terms]
        return formula.attend(q, k, v, mask, more_scores=more, terms=1 + len(terms))

    def gradients(attend):
        weights = jnp.cos(jnp.arange(q.size, dtype=jnp.float32)).reshape(q.shape)

        def loss(*args):
            y = attend(*args)
            return (y * weights).sum(), y

        (_, y), of_terms = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True))(q, k, v, tables)
        return y, of_terms

    assert_close(gradients(ours), gradients(by_formula), 2e-6)


def saved_bytes(attend, length: int, **options) -> int:
    """Bytes that a backward pass needs besides its gradient."""
    q, k, v = cases.arrays(1, length, length, 2, 8, jnp.bfloat16)
    _, backward = jax.eval_shape(lambda q, k, v: jax.vjp(lambda *x: attend(*x, Mask(), **options), q, k, v), q, k, v)
    arrays = [x for x in jax.tree.leaves(backward) if not jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key)]
    return sum(x.size * x.dtype.itemsize for x in arrays)


def test_what_is_kept_grows_with_the_length_not_with_its_square():
    options = {"dropout_rate": 0.1, "dropout_key": dropout_key(0)}
    assert saved_bytes(xla.attend, 512, **options) == 4 * saved_bytes(xla.attend, 128, **options)
    assert saved_bytes(formula.attend, 512, **options) > 15 * saved_bytes(formula.attend, 128, **options)


@pytest.mark.parametrize("rate", [0.0, 0.1])
@pytest.mark.parametrize("remat", [False, True])
def test_the_compiled_program_keeps_no_scores(remat, rate):
    """Through more layers: scores that were kept, 2 x 2 x 256 x 256 numbers of 4 bytes for each, would add up."""
    scores = 2 * 2 * 256 * 256 * 4
    x, _, _ = cases.arrays(2, 256, 256, 2, 8)

    def temporaries(attend, layers):
        def loss(x):
            for i in range(layers):
                options = {"dropout_rate": rate, "dropout_key": jax.random.fold_in(dropout_key(0), i) if rate else None}
                layer = functools.partial(attend, mask=Mask(), **options)
                x = jnp.tanh(x)
                x = (jax.checkpoint(layer) if remat else layer)(x, -x, 2 * x)
            return (x**2).sum()

        return jax.jit(jax.grad(loss)).lower(x).compile().memory_analysis().temp_size_in_bytes

    assert temporaries(xla.attend, 5) - temporaries(xla.attend, 2) < 3 * scores / 4
    if not remat:
        assert temporaries(formula.attend, 5) - temporaries(formula.attend, 2) > 3 * scores

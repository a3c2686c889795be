"""Each processor against the definition, written out for one row at a time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.decoding import processors


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


@pytest.fixture
def logits():
    x = np.random.default_rng(0).normal(0, 3, (4, 200)).astype(np.float32)
    x[1, :190] = -np.inf  # as after another processor
    x[2] = 1.5  # all alike
    return x


def kept(found):
    return np.isfinite(np.asarray(found))


@pytest.mark.parametrize("k", [1, 3, 200, 500])
def test_top_k(logits, k):
    found = processors.top_k(jnp.asarray(logits), k)
    for row, actual in zip(logits, kept(found), strict=True):
        least = np.sort(row)[::-1][min(k, 200) - 1]
        np.testing.assert_array_equal(actual, (row >= least) & np.isfinite(row))


@pytest.mark.parametrize("p", [1e-6, 0.1, 0.5, 0.9, 0.999, 1.0])
def test_top_p(logits, p):
    """The fewest tokens that reach p; with tokens that are alike, all that are as probable as the last."""
    found = processors.top_p(jnp.asarray(logits), jnp.float32(p))
    for row, actual in zip(logits, kept(found), strict=True):
        probabilities = np.asarray(jax.nn.softmax(row), np.float64)
        more_probable = np.array([probabilities[probabilities > x].sum() for x in probabilities])
        np.testing.assert_array_equal(actual, (more_probable < p) & (probabilities > 0))
    values = np.asarray(found)
    np.testing.assert_array_equal(values[kept(found)], logits[kept(found)])


@pytest.mark.parametrize("p", [0.01, 0.3, 1.0])
def test_min_p(logits, p):
    found = kept(processors.min_p(jnp.asarray(logits), jnp.float32(p)))
    for row, actual in zip(logits, found, strict=True):
        probabilities = softmax(row)
        np.testing.assert_array_equal(actual, (probabilities >= np.float32(p) * probabilities.max()) & (row > -np.inf))


def test_repetition_penalty():
    logits = jnp.asarray([[2.0, -2.0, 3.0, -3.0]])
    seen = jnp.asarray([[True, True, False, False]])
    np.testing.assert_allclose(processors.penalized(logits, seen, jnp.float32(4.0)), [[0.5, -8.0, 3.0, -3.0]])

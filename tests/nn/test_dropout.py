"""Dropout: its rate, its independence by statistics, and its backward pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.nn.dropout import Dropout, dropout, dropout_key, kept

COUNT = 2**20


def masks(rate: float, shape: tuple[int, ...], key: jax.Array) -> np.ndarray:
    return np.asarray(jax.jit(lambda key: kept(key, rate, shape)[0])(key))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.013])
def test_the_rate(rate):
    """Overall to four standard errors; and of every row and column, whose counts spread as independent draws do."""
    keep = masks(rate, (1024, 1024), dropout_key(0))
    assert abs(keep.mean() - (1 - rate)) < 4 * (rate * (1 - rate) / COUNT) ** 0.5
    for axis in (0, 1):
        z = (keep.sum(axis) - 1024 * (1 - rate)) / (1024 * rate * (1 - rate)) ** 0.5
        assert abs(z.std() - 1) < 0.1
        assert np.abs(z).max() < 5.5


def test_the_rate_is_exact_to_a_ten_thousandth_and_the_mean_remains():
    for rate in (0.1, 0.3, 1e-4, 0.999):
        _, factor = kept(dropout_key(0), rate, (1,))
        assert abs((1 - 1 / factor) - rate) < 1e-5
    x = jnp.full((512, 1024), 3.0)
    assert abs(float(dropout(x, 0.1, dropout_key(1)).mean()) - 3) < 4 * 3 * (0.1 / 0.9 / x.size) ** 0.5


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.ravel(), b.ravel())[0, 1])


def test_masks_are_independent():
    """Of steps, layers, seeds, rows, and neighbors at any distance: no correlation above five standard errors."""
    key = dropout_key(0)
    first = masks(0.5, (64, 16384), key)
    bound = 5 / COUNT**0.5
    others = {f"folded with {i}": jax.random.fold_in(key, i) for i in (0, 1, 2, 2**31)} | {
        "another seed": dropout_key(1),
        "split": jax.random.split(key)[0],
        "folded twice": jax.random.fold_in(jax.random.fold_in(key, 0), 1),
    }
    for name, other in others.items():
        assert abs(correlation(first, masks(0.5, (64, 16384), other))) < bound, name
    for distance in (1, 2, 3, 4, 8, 16, 64, 127, 128, 256, 768, 1024, 4096):
        assert abs(correlation(first[:, distance:], first[:, :-distance])) < 1.2 * bound, distance
        assert abs(correlation(first[distance % 63 + 1 :], first[: -(distance % 63) - 1])) < 2 * bound, distance


def test_rows_have_sequences_of_their_own():
    """A row is no other row that begins elsewhere: windows of 64 bits occur once."""
    bits = np.packbits(masks(0.5, (256, 4096), dropout_key(0)), axis=1)
    windows = np.lib.stride_tricks.sliding_window_view(bits, 8, axis=1).reshape(-1, 8)
    assert len(np.unique(np.ascontiguousarray(windows).view(np.uint64))) == len(windows)


def test_bits_are_uniform():
    """Chi-squared over the highest and the lowest byte of 32 bits: 255 degrees of freedom, standard deviation 22.6."""
    bits = np.asarray(jax.random.bits(dropout_key(3), (1024, 1024), jnp.uint32))
    for byte in (bits >> 24, bits & 255):
        expected = COUNT / 256
        statistic = ((np.bincount(byte.ravel(), minlength=256) - expected) ** 2 / expected).sum()
        assert abs(statistic - 255) < 5 * 22.6


def test_the_backward_pass_draws_the_same_mask():
    x, key = jnp.arange(1.0, 4097.0).reshape(4, 1024), dropout_key(2)
    y, backward = jax.vjp(lambda x: dropout(x, 0.25, key), x)
    np.testing.assert_array_equal(y, backward(x)[0])
    assert 0.2 < float((y == 0).mean()) < 0.3
    np.testing.assert_allclose(y[y != 0], x[y != 0] / 0.75, rtol=1e-6)


def test_nothing_is_saved_for_the_backward_pass():
    saved = jax.tree.leaves(jax.vjp(lambda x: dropout(x, 0.25, dropout_key(0)), jnp.ones((64, 1024)))[1])
    assert sum(leaf.nbytes for leaf in saved) <= 8


def test_rounding_of_the_factor():
    """In bfloat16 1 / 0.9 would be 0.16% too small."""
    x = jnp.full((1, 4096), 90.0, jnp.bfloat16)
    y = dropout(x, 0.1, dropout_key(0))
    assert y.dtype == jnp.bfloat16
    assert set(np.unique(np.asarray(y, np.float32))) == {0.0, 100.0}


def test_the_layer():
    x = jnp.ones((2, 8))
    np.testing.assert_array_equal(Dropout(0.5).apply({}, x, deterministic=True), x)
    np.testing.assert_array_equal(Dropout(0.0).apply({}, x, deterministic=False), x)
    one, two = (Dropout(0.5).apply({}, x, deterministic=False, rngs={"dropout": dropout_key(i)}) for i in range(2))
    assert (np.asarray(one) != np.asarray(two)).any()

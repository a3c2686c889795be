"""How positions are known: rotary angles, sinusoids, tables with an offset; and who may see whom."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn import reference
from tx_jax.nn.embed import Embeddings, sinusoids, token_positions
from tx_jax.nn.heads import last_tokens
from tx_jax.nn.rotary import rotary_angles, rotate

K = 8


def rotated(x, positions, theta=100.0):
    """One row of vectors [T, K] at the given positions."""
    angles = rotary_angles(jnp.asarray(positions)[None], head_dim=K, theta=theta)
    return np.asarray(rotate(jnp.asarray(x, jnp.float32)[None, :, None], angles))[0, :, 0]


def vectors(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, K))


def test_rotation_against_complex_numbers():
    """Coordinates i and i + K/2 as one complex number, times exp(i position / theta^(2i/K)) (Su et al. 2021, 3.2)."""
    x, positions = vectors(6), np.array([0, 1, 2, 7, 100, 511])
    turned = (x[:, : K // 2] + 1j * x[:, K // 2 :]) * np.exp(
        1j * positions[:, None] / 100.0 ** (2 * np.arange(K // 2) / K)
    )
    # float32 holds an angle of 511 to 3e-5.
    np.testing.assert_allclose(
        rotated(x, positions), np.concatenate([turned.real, turned.imag], axis=1), atol=1e-4, rtol=0
    )


def test_rotation_keeps_norms_and_position_0():
    x = vectors(50)
    y = rotated(x, np.arange(50))
    np.testing.assert_allclose(np.linalg.norm(y, axis=1), np.linalg.norm(x, axis=1), rtol=1e-6)
    np.testing.assert_array_equal(y[0], np.float32(x[0]))
    assert np.abs(y - x)[1:].max(axis=1).min() > 0.01


def test_dot_products_of_rotated_vectors_depend_on_differences_alone():
    q, k = vectors(1), vectors(1, seed=1)
    positions = np.arange(20)
    scores = rotated(np.repeat(q, 20, 0), positions) @ rotated(np.repeat(k, 20, 0), positions).T
    for difference in range(-19, 20):
        diagonal = np.diagonal(scores, difference)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    # And on these they do depend, the sign included.
    assert len(np.unique(np.round(np.concatenate([scores[0], scores[1:, 0]]), 3))) > 30


def test_rotation_in_bfloat16_is_computed_in_float32():
    x = jnp.asarray(vectors(600), jnp.bfloat16)[None, :, None]
    angles = rotary_angles(jnp.arange(600)[None], head_dim=K, theta=1e4)
    y = rotate(x, angles)
    assert y.dtype == jnp.bfloat16
    assert angles.dtype == jnp.float32
    exact = rotate(x.astype(jnp.float32), angles)
    np.testing.assert_array_equal(y, exact.astype(jnp.bfloat16))


def test_sinusoids_against_the_formula():
    """PE(p, 2i) is a sine and PE(p, 2i + 1) the cosine of the same angle, neighbors and not halves."""
    positions = jnp.asarray([[0, 1, 2, 3], [100, 7, 0, 511]])
    actual = sinusoids(positions, 512)
    expected = [[reference.sinusoid(int(p), 512) for p in row] for row in positions]
    np.testing.assert_allclose(actual, expected, atol=1e-4, rtol=0)  # of an angle of 511 float32 holds 3e-5
    np.testing.assert_allclose(actual[0, 2, :4], [0.9093, -0.4161, 0.9364, -0.3509], atol=5e-5)
    np.testing.assert_allclose(np.asarray(actual)[0, 0], np.tile([0, 1], 256), atol=0)


def test_token_positions():
    valid = jnp.asarray([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]], bool)
    expected = [[0, 1, 2, 3], [0, 1, -1, -1], [-1, -1, 0, 1], [-1, 0, -1, 1], [-1, -1, -1, -1]]
    np.testing.assert_array_equal(token_positions(valid), expected)


def test_last_tokens():
    """Padding on the right, on the left, on either side, none."""
    valid = jnp.asarray([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0], [1, 1, 1, 1]], bool)
    x = jnp.arange(4 * 4 * 3, dtype=jnp.float32).reshape(4, 4, 3)
    np.testing.assert_array_equal(last_tokens(x, valid), [x[0, 1], x[1, 3], x[2, 1], x[3, 3]])


def embed(cfg, positions):
    """Embeddings of equal tokens, and the parameters they are made of."""
    module = Embeddings(cfg)
    tokens = jnp.full_like(positions, 5)
    call = {"segments_BT": None, "positions_BT": positions, "deterministic": True}
    params = module.init(jax.random.key(0), tokens, **call)["params"]
    rng = np.random.default_rng(2)
    params = jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape), jnp.float32), params)
    return module.apply({"params": params}, tokens, **call), jax.tree.map(np.float64, params)


PLAIN = {"embedding_norm": False, "num_segments": 0, "dropout": 0.0}


def test_positions_with_an_offset():
    """RoBERTa's table: the first token reads row 2, padding row 1; the table is as much longer."""
    positions = jnp.asarray([[-1, 0, 1, 23]])
    y, p = embed(small.config(**PLAIN, position_offset=2), positions)
    assert p["position"]["embedding"].shape == (24 + 2, 32)
    expected = p["token"]["embedding"][5] + p["position"]["embedding"][[1, 2, 3, 25]]
    np.testing.assert_allclose(y[0], expected, atol=1e-6)


@pytest.mark.parametrize("kind", ["rotary", "none"])
def test_positions_that_embeddings_do_not_know(kind):
    y, p = embed(small.config(**PLAIN, position_embedding=kind), jnp.arange(4)[None])
    assert set(p) == {"token"}
    np.testing.assert_allclose(y[0], np.tile(p["token"]["embedding"][5], (4, 1)), atol=1e-6)


def test_scale_sinusoids_norm_and_projection():
    """In this order: sqrt(E) times the token, plus the sinusoids, normalized at width E, then projected to D."""
    cfg = small.config(
        **PLAIN | {"embedding_norm": True}, embedding_scale=True, embedding_dim=16, position_embedding="sinusoidal"
    )
    y, p = embed(cfg, jnp.asarray([[0, 3]]))
    assert y.shape == (1, 2, cfg.dim)
    x = 4 * p["token"]["embedding"][5] + np.stack([reference.sinusoid(0, 16), reference.sinusoid(3, 16)])
    expected = reference.dense(p["project"], reference.layer_norm(p["norm"], x, cfg.layer_norm_eps))
    np.testing.assert_allclose(y[0], expected, atol=2e-5)


def test_segments_default_to_the_first():
    cfg = small.config(dropout=0.0, num_segments=2)
    module, tokens = Embeddings(cfg), small.batch()["tokens_BT"]
    call = {"positions_BT": 0 * tokens, "deterministic": True}
    variables = module.init(jax.random.key(0), tokens, segments_BT=None, **call)
    np.testing.assert_array_equal(
        module.apply(variables, tokens, segments_BT=None, **call),
        module.apply(variables, tokens, segments_BT=0 * tokens, **call),
    )

"""Attention as one would write it down, which each implementation is compared with; and the cases to compare."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.nn.dropout import kept
from tx_jax.nn.masks import Mask


def attend(q_BTHK, k_BSHK, v_BSHK, mask: Mask, *, dropout_rate=0.0, dropout_key=None) -> jax.Array:
    """softmax(q k^T / sqrt(K)) v in float32; zeros for a query that may attend to nothing."""
    q, k, v = (x.astype(jnp.float32) for x in (q_BTHK, k_BSHK, v_BSHK))
    scores = jnp.einsum("bthk,bshk->bhts", q, k, precision="highest") * q.shape[-1] ** -0.5
    allowed = mask.dense(q.shape[1], k.shape[1])
    allowed = jnp.broadcast_to(True if allowed is None else allowed, scores.shape)
    weights = jnp.where(allowed, jnp.exp(scores - scores.max(axis=-1, keepdims=True)), 0)
    weights /= jnp.maximum(weights.sum(axis=-1, keepdims=True), 1e-30)
    if dropout_rate:
        keep, factor = kept(dropout_key, dropout_rate, scores.shape)
        weights = jnp.where(keep, weights * factor, 0)
    return jnp.einsum("bhts,bshk->bthk", weights, v, precision="highest").astype(q_BTHK.dtype)


def arrays(shape: tuple[int, ...], keys: int | None = None, dtype: Any = np.float32, seed: int = 0) -> list[jax.Array]:
    """Queries, keys, values, and a gradient of the result. `shape` is that of the queries, [B, T, H, K]."""
    rng = np.random.default_rng(seed)
    other = (shape[0], keys or shape[1], *shape[2:])
    return [jnp.asarray(rng.normal(size=size), dtype) for size in (shape, other, other, shape)]


def lengths(batch: int, keys: int) -> jax.Array:
    """Keys of rows that are full, then ever shorter: True = a token."""
    return jnp.arange(keys)[None] < keys - (jnp.arange(batch) * 37)[:, None]


def documents(batch: int, length: int) -> jax.Array:
    """Rows with three documents each, whose borders differ."""
    place, row = jnp.arange(length)[None], jnp.arange(batch)[:, None]
    return (place > 30 + 7 * row).astype(jnp.int32) + (place > length // 2 + 11 * row)


def masks(batch: int, length: int) -> dict[str, Mask]:
    """The masks of self-attention by name."""
    valid, parts = lengths(batch, length), documents(batch, length)
    return {
        "full": Mask(),
        "padded": Mask(valid_BS=valid),
        "packed": Mask(documents_BT=parts),
        "packed, padded": Mask(valid_BS=valid, documents_BT=parts),
        "causal": Mask(causal=True),
        "causal, padded": Mask(valid_BS=valid, causal=True),
        "window": Mask(window=32),
        "window, padded": Mask(valid_BS=valid, window=32),
        "window, causal, packed": Mask(documents_BT=parts, causal=True, window=32),
    }


def value_and_gradients(function: Callable, q, k, v, gradient, mask: Mask, **options) -> list[np.ndarray]:
    """The result and the gradients of q, k and v, as float32. The gradient of queries that are no tokens is 0, as
    nothing reads them; their results are 0 too, as implementations differ there."""
    real = jnp.ones(q.shape[:2], bool)
    if mask.valid_BS is not None and mask.valid_BS.shape == real.shape:
        real = mask.valid_BS

    @jax.jit
    def run(q, k, v, gradient, mask, real, key):
        y, backward = jax.vjp(lambda *qkv: function(*qkv, mask, dropout_key=key, **options), q, k, v)
        zero = real[:, :, None, None]
        return jnp.where(zero, y, 0), *backward(jnp.where(zero, gradient, 0))

    key = options.pop("dropout_key", None)
    return [np.asarray(x, np.float32) for x in run(q, k, v, gradient, mask, real, key)]


NAMES = ("y", "dq", "dk", "dv")


def assert_equal(actual: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> None:
    """Each element to a tolerance relative to itself, or to the root mean square of its array."""
    for name, a, b in zip(NAMES, actual, expected, strict=True):
        assert np.isfinite(a).all(), name
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance * float(np.sqrt((b**2).mean())), err_msg=name)

"""Attention masks. In all of them True = may attend. Combine them with `&`.

Shapes: B batch, T query length, S key length.
"""

import jax
import jax.numpy as jnp


def padding_mask(valid_BS: jax.Array) -> jax.Array:
    """Every query may attend to the keys that are real tokens: [B, S] -> [B, 1, 1, S], to broadcast over heads."""
    return valid_BS[:, None, None, :]


def causal_mask(length: int) -> jax.Array:
    """A query may attend to itself and to the tokens before it: [1, 1, T, T]."""
    positions = jnp.arange(length)
    return (positions[:, None] >= positions[None, :])[None, None]


def local_mask(length: int, window: int) -> jax.Array:
    """A query may attend to at most `window` / 2 tokens on either side: [1, 1, T, T] (Beltagy et al. 2020)."""
    positions = jnp.arange(length)
    return (jnp.abs(positions[:, None] - positions[None, :]) <= window // 2)[None, None]


def document_mask(documents_BT: jax.Array) -> jax.Array:
    """Tokens of documents packed into one row may attend only within their own document: [B, T] -> [B, 1, T, T]."""
    return (documents_BT[:, :, None] == documents_BT[:, None, :])[:, None]

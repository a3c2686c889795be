"""Keys and values that attention keeps from call to call, so that decoding computes those of each token once.

They are variables beside the parameters, made by whoever decodes: "cache" holds those of self-attention, which grow by
a token a call; "memory" those of the encoder's output, which the first call computes and no call changes.

Both are [B, H, S, K]: there a product with one query a row reads them as they lie. On a CPU, [B, S, H, K] costs four
times as much, for copies (8 rows of 256 keys, 2 cores of an AMD EPYC without AVX-512, jax 0.10.2).

Shapes: B batch, T new tokens, S places of the cache, H heads, K head dim.
"""

import jax
import jax.numpy as jnp

from tx_jax import sharding

CACHE, MEMORY = "cache", "memory"


def stored(x_BTHK: jax.Array) -> jax.Array:
    """Keys or values as a cache holds them: [B, H, T, K], split over devices by rows and heads."""
    return sharding.constrain(x_BTHK.swapaxes(1, 2), "batch", "heads", None, None)


def read(cache_BHSK: jax.Array) -> jax.Array:
    """Keys or values as attention wants them, [B, S, H, K]; nothing is copied."""
    return cache_BHSK.swapaxes(1, 2)


def written(cache_BHSK: jax.Array, new_BTHK: jax.Array, first_B: jax.Array | None) -> jax.Array:
    """The cache with each row's new keys or values at its places first, first + 1, ...

    Args:
      first_B: int32 [B] or []; None = 0. It must leave room for all new ones: XLA would move them otherwise.
    """
    new_BHTK = stored(new_BTHK).astype(cache_BHSK.dtype)
    if first_B is None:
        return sharding.constrain(cache_BHSK.at[:, :, : new_BHTK.shape[2]].set(new_BHTK), "batch", "heads", None, None)

    def one(cache: jax.Array, new: jax.Array, first: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice(cache, new, (0, first, 0))

    first_B = jnp.broadcast_to(first_B, cache_BHSK.shape[:1])
    return sharding.constrain(jax.vmap(one)(cache_BHSK, new_BHTK, first_B), "batch", "heads", None, None)

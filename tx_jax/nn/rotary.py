"""Rotary position embeddings (Su et al. 2021): queries and keys are rotated by angles that grow with the position.

Shapes: B batch (or 1), T length, H heads, K head dim.
"""

import jax
import jax.numpy as jnp


def rotary_angles(positions_BT: jax.Array, *, head_dim: int, theta: float) -> jax.Array:
    """position / theta^(2i / K) for i < K/2: [B, T, K/2], float32."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    return positions_BT[:, :, None].astype(jnp.float32) * frequencies[None, None]


def rotate(x_BTHK: jax.Array, angles_BTR: jax.Array) -> jax.Array:
    """Rotates the plane of coordinates i and i + K/2 by the i-th angle. Computed in float32; returns x's dtype."""
    first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    cos, sin = jnp.cos(angles_BTR)[:, :, None], jnp.sin(angles_BTR)[:, :, None]
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x_BTHK.dtype)

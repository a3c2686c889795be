"""Attention masks. They mean one thing: True = may attend. Combine them with `&`.

Shapes: B batch, T query length, S key length.
"""

import jax


def padding_mask(valid_BS: jax.Array) -> jax.Array:
    """Every query may attend to the keys that are real tokens: [B, S] -> [B, 1, 1, S], to broadcast over heads."""
    return valid_BS[:, None, None, :]

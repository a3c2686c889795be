"""Inputs and masks that the tests of all implementations share."""

import jax.numpy as jnp
import numpy as np

from tx_jax.nn.masks import Mask


def arrays(batch: int, queries: int, keys: int, heads: int, head_dim: int, dtype=jnp.float32, seed: int = 0):
    rng = np.random.default_rng(seed)
    q, k, v = (
        jnp.asarray(rng.normal(size=(batch, length, heads, head_dim)), dtype) for length in (queries, keys, keys)
    )
    return q, k, v


def valid(keys: int, *lengths: int) -> jnp.ndarray:
    return jnp.asarray(np.arange(keys)[None] < np.array(lengths)[:, None])


def masks(length: int) -> dict[str, Mask]:
    """Masks of self-attention for rows of two examples; some rows of the queries may attend to nothing."""
    half = length // 2
    padding = valid(length, length, half - 1)
    numbers = np.where(np.arange(length) < half - 2, 1, 2)
    documents = jnp.asarray(np.stack([numbers, np.where(np.arange(length) < length - 3, numbers + 3, 0)]))
    return {
        "all": Mask(),
        "padding": Mask(padding),
        "causal": Mask(causal=True),
        "causal, padding": Mask(padding, causal=True),
        "documents": Mask(documents > 0, documents),
        "causal, documents": Mask(documents > 0, documents, causal=True),
        "window": Mask(window=4),
        "window, padding, causal": Mask(padding, window=6, causal=True),
        "an empty row": Mask(valid(length, length, 0)),
    }

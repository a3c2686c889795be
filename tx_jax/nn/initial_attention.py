"""What the heads of an encoder's first layer attend to before it has learned anything, where this is not random.

With random queries and keys much of a short training passes before a small model finds that equal tokens and neighbors
matter, and until then it learns little else. Here heads begin with it. After the mimetic initialization of Trockman &
Kolter (2023, https://arxiv.org/abs/2305.09828), whose keys begin as the queries do and whose positions as sinusoids.
Only initial values differ: the parameters, what trains and what is exported are the same.

The model's width is taken as blocks of one head's width. Initially the last block has the positions, and neither tokens
nor segments; a head of equal tokens reads a block from which segments are absent. So neither kind reads what would
disturb it.

Shapes: P positions, D model, H heads, K head dim, k half of it.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax import tree
from tx_jax.config import TransformerConfig

TOKEN, SEGMENT, POSITION = (f"embeddings/{name}/embedding" for name in ("token", "segment", "position"))
QUERY, KEY = (f"encoder/layer_0/attention/{name}/kernel" for name in ("query", "key"))

OFFSETS = {"previous": -1, "next": 1}
# Chosen by what the recipe `quickstart` learns in its steps.
LOGITS = {"same": 16.0, "previous": 20.0, "next": 20.0}  # of what a head is for: the token itself, that neighbor
SEGMENT_SCALE = 3.0  # which segment an equal token is in is what next-sentence prediction learns from
SLOWEST = 0.1  # radians from one position to the next, for the slowest sinusoids; the fastest turn by 1
TRUNCATED = 0.8796  # standard deviation of a normal number truncated at two of them


def arranged(params: dict[str, Any], config: TransformerConfig) -> dict[str, Any]:
    """Newly initialized parameters, with tables and layer 0 as `config.initial_attention` asks for."""
    flat = tree.flatten(params)
    width, kinds = config.head_dim, config.initial_attention
    end = config.dim - width  # where the block of positions begins
    same = width * kinds.count("same")

    flat[TOKEN] = flat[TOKEN].at[:, end:].set(0)
    tokens, segments = end, 0.0  # squared norms, in units of an initial number's variance
    if config.num_segments:
        flat[SEGMENT] = (SEGMENT_SCALE * flat[SEGMENT]).at[:, end:].set(0).at[:, :same].set(0)
        segments = SEGMENT_SCALE**2 * (end - same)
    rates = SLOWEST ** (np.arange(0, width, 2) / width)
    waves_PK = _waves(np.arange(len(flat[POSITION]))[:, None] * rates)
    amplitude = TRUNCATED * config.init_stddev * math.sqrt(tokens / (width / 2))  # positions weigh as much as tokens
    flat[POSITION] = jnp.zeros_like(flat[POSITION]).at[:, end:].set(amplitude * waves_PK)

    # Behind the norm of the embeddings the squared norm of all is D.
    norms = config.dim / (2 * tokens + segments)
    shape = config.dim, config.num_heads, width
    query_DHK, key_DHK = flat[QUERY].reshape(shape), flat[KEY].reshape(shape)
    for head, kind in enumerate(kinds):
        if kind == "random":
            continue
        if kind == "same":
            at, norm, turn = width * kinds[:head].count("same"), width * norms, np.eye(width)
        else:
            at, norm, turn = end, tokens * norms, _turn(-OFFSETS[kind] * rates)
        scale = math.sqrt(LOGITS[kind] * math.sqrt(width) / norm)
        query_DHK = _only(query_DHK, head, at, scale * np.eye(width))
        key_DHK = _only(key_DHK, head, at, scale * turn)
    flat[QUERY], flat[KEY] = query_DHK.reshape(flat[QUERY].shape), key_DHK.reshape(flat[KEY].shape)
    return tree.nest(flat)


def _waves(angles: np.ndarray) -> np.ndarray:
    """Sine and cosine of each angle, alternating: [P, K]."""
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(len(angles), -1)


def _turn(angles_k: np.ndarray) -> np.ndarray:
    """[K, K]: sine and cosine of `a` times it are those of `a + angle`, so a key has its neighbor's position."""
    turn = np.zeros((2 * len(angles_k), 2 * len(angles_k)))
    sine, cosine = 2 * np.arange(len(angles_k)), 2 * np.arange(len(angles_k)) + 1
    turn[sine, sine] = turn[cosine, cosine] = np.cos(angles_k)
    turn[cosine, sine], turn[sine, cosine] = np.sin(angles_k), -np.sin(angles_k)
    return turn


def _only(kernel_DHK: jax.Array, head: int, at: int, values_KK: np.ndarray) -> jax.Array:
    """The kernel of a head that reads nothing but the block that begins `at`."""
    return kernel_DHK.at[:, head].set(0).at[at : at + len(values_KK), head].set(values_KK)

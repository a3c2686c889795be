"""Encodings of positions, and how similar positions are by them.

Shapes: P positions, D model.
"""

import math

import jax.numpy as jnp
import numpy as np

from tx_jax.errors import InputError
from tx_jax.interpret import capture
from tx_jax.interpret.vectors import similarities
from tx_jax.nn.embed import sinusoids


def sinusoidal(length: int, dim: int) -> np.ndarray:
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same (Vaswani et al. 2017, section 3.5): [P, D]."""
    _require_even(dim)
    return np.asarray(sinusoids(jnp.arange(length)[None], dim)[0])


def doubled_index(length: int, dim: int) -> np.ndarray:
    """What a listing that is often copied computes instead: [P, D].

    Its loop `for i in range(0, D, 2)` already counts the even columns, but its exponent doubles i once more: the waves
    are sin(p / 10000^(2i/D)) with i = 0, 2, 4, ..., so that half of the columns hardly change between positions.
    """
    _require_even(dim)
    angles = np.arange(length)[:, None] / 10_000.0 ** (2 * np.arange(0, dim, 2) / dim)[None]
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim)


def _require_even(dim: int) -> None:
    if dim < 2 or dim % 2:
        raise InputError(f"a width of {dim}: sinusoids come in pairs, so it must be even")


def learned(model: capture.Model) -> np.ndarray:
    """The rows of a model's position table, by position: [P, D].

    Raises:
      InputError: the model has no such table.
    """
    config = model.model
    if config.position_embedding != "learned":
        kinds = {
            "sinusoidal": "sinusoids, which need no model: leave --model out",
            "rotary": "rotary angles, which turn queries and keys and are no vectors",
            "none": "relative positions" if config.relative_attention else "no encoding of positions",
        }
        raise InputError(f"{model.name} has no table of positions: it has {kinds[config.position_embedding]}")
    table = np.asarray(model.params["embeddings"]["position"]["embedding"])
    return table[config.position_offset :]


def by_distance(encodings_PD: np.ndarray) -> np.ndarray:
    """The mean cosine of positions that are 0, 1, 2, ... apart: [P]."""
    cosines = similarities(encodings_PD, encodings_PD)
    return np.array([np.diagonal(cosines, distance).mean() for distance in range(len(cosines))])


def cosine(encodings_PD: np.ndarray, first: int, second: int) -> float:
    """The cosine of two positions.

    Raises:
      InputError: there is no such position.
    """
    for position in (first, second):
        if not 0 <= position < len(encodings_PD):
            raise InputError(f"there is no position {position}: there are 0 to {len(encodings_PD) - 1}")
    a, b = encodings_PD[first], encodings_PD[second]
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))

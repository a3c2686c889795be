"""Scores with DeBERTa's terms, by the kernels in interpret mode and by XLA. `made` holds q, k and tables, by name."""

import jax
import jax.numpy as jnp

from tests.models import small
from tx_jax.nn.attention import relative_scores, xla

CONFIG = small.config(relative_attention=("c2p", "p2c"), relative_distance=200, relative_buckets=32)
BOTH = ("c2p", "p2c")


def by_kernels(made):
    return relative_scores.scores(made, CONFIG, interpret=True)


def by_xla(made):
    return xla._Scores(CONFIG)(made) * (made["q"].shape[-1] * (len(made) - 1)) ** 0.5


def attend(q_BTHK, k_BTHK, v_BTHK, mask, function):
    """Attention with tables made of the values, so that their gradient has that of the tables in it."""
    rows = 2 * CONFIG.relative_buckets
    tables = {"c2p": v_BTHK[:, :rows].mean(0), "p2c": v_BTHK[:, -rows:].mean(0)}
    return function(q_BTHK, k_BTHK, v_BTHK, mask, relative=xla.Relative(CONFIG, tables))


def rotate(x, shift, axis, *, stride, stride_axis):
    """`pltpu.roll` as one gather: where that is interpreted, it is an operation a row, which takes long to compile."""
    assert (axis, stride_axis) == (1, 0)
    row, column = (jax.lax.broadcasted_iota(jnp.int32, x.shape, axis) for axis in (0, 1))
    return jnp.take_along_axis(x, (column - shift - stride * row) % x.shape[1], axis=1)

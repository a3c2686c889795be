"""Disentangled attention's relative positions (DeBERTa, He et al. 2020, section 3.1; buckets: He et al. 2021).

Shapes: B batch, T query length, S key length, R rows of the table of relative positions, H heads, K head dim.
"""

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.nn.embed import Embedding
from tx_jax.nn.norm import LayerNorm


@flax.struct.dataclass
class Relative:
    """What attention needs of relative positions.

    Attributes:
      table_RD: a vector for every bucket of query position - key position.
      rows_TS: which of them a query and a key have between them.
    """

    table_RD: jax.Array
    rows_TS: jax.Array


def log_buckets(distances: np.ndarray, *, buckets: int, max_distance: int) -> np.ndarray:
    """Distances of up to half the buckets are exact, those beyond share logarithmic ones, up to `buckets` - 1.

    From DeBERTa's source, deberta/da_utils.py. Keeps the sign and the shape.
    """
    half = buckets // 2
    far = np.maximum(np.abs(distances), half) / half
    logarithmic = np.ceil(np.log(far) / np.log((max_distance - 1) / half) * (half - 1)) + half
    return np.where(np.abs(distances) <= half, distances, np.sign(distances) * logarithmic).astype(np.int64)


def relative_rows(length: int, *, max_distance: int, buckets: int) -> np.ndarray:
    """The row of the table for each query and key: int32 [T, T]."""
    positions = np.arange(length)
    distances = positions[:, None] - positions[None, :]
    if buckets:
        distances = log_buckets(distances, buckets=buckets, max_distance=max_distance)
    span = buckets or max_distance
    return np.clip(distances + span, 0, 2 * span - 1).astype(np.int32)


class RelativePositions(nn.Module):
    """The table, shared by all layers."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, length: int, *, deterministic: bool) -> Relative:
        config = self.config
        span = config.relative_buckets or config.relative_distance
        embed = Embedding(2 * span, config.dim, config.init_stddev)
        nn.share_scope(self, embed)
        table_RD = embed.table(jnp.float32)
        if config.relative_norm:
            table_RD = LayerNorm(config.layer_norm_eps, name="norm")(table_RD)
        table_RD = nn.Dropout(config.dropout)(table_RD.astype(config.dtype), deterministic=deterministic)
        rows_TS = relative_rows(length, max_distance=config.relative_distance, buckets=config.relative_buckets)
        return Relative(table_RD, jnp.asarray(rows_TS))


def relative_scores(x_BTHK: jax.Array, table_RHK: jax.Array, rows_TS: jax.Array) -> jax.Array:
    """x . table[row of (query, key)], unscaled, float32 [B, H, T, S]."""
    scores_BHTR = jnp.einsum("BTHK,RHK->BHTR", x_BTHK, table_RHK, preferred_element_type=jnp.float32)
    return jnp.take_along_axis(scores_BHTR, rows_TS[None, None], axis=-1)

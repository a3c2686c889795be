"""Embeddings: token, position and segment tables summed, normalised, dropped out (Devlin et al. 2018, figure 2).

Shapes: B batch, T length, D model, V vocabulary.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import truncated_normal
from tx_jax.nn.norm import LayerNorm


class Embedding(nn.Module):
    """A table [size, D], float32."""

    size: int
    dim: int
    init_stddev: float

    def setup(self):
        self.embedding = self.param("embedding", truncated_normal(self.init_stddev), (self.size, self.dim), jnp.float32)

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Rows of the table. Ids outside it are the caller's error: XLA clamps them silently."""
        return jnp.take(self.embedding, ids, axis=0, mode="clip")

    def attend(self, x: jax.Array) -> jax.Array:
        """x table^T, for an output layer tied to this table: [..., D] -> [..., V], accumulated in float32."""
        flat = x.reshape(-1, x.shape[-1])
        logits = jnp.dot(flat, self.embedding.astype(x.dtype).T, preferred_element_type=jnp.float32)
        return logits.reshape(*x.shape[:-1], self.size)


class BertEmbeddings(nn.Module):
    """token + position + segment, LayerNorm, dropout."""

    config: TransformerConfig

    def setup(self):
        config = self.config
        self.token = Embedding(config.vocab_size, config.dim, config.init_stddev)
        self.position = Embedding(config.max_length, config.dim, config.init_stddev)
        self.segment = Embedding(config.num_segments, config.dim, config.init_stddev)
        self.norm = LayerNorm(config.layer_norm_eps)
        self.dropout = nn.Dropout(config.dropout)

    def __call__(self, tokens_BT: jax.Array, *, segments_BT: jax.Array, deterministic: bool) -> jax.Array:
        positions_1T = jnp.arange(tokens_BT.shape[1])[None]
        x_BTD = self.token(tokens_BT) + self.segment(segments_BT) + self.position(positions_1T)
        x_BTD = self.norm(x_BTD).astype(jnp.dtype(self.config.dtype))
        return self.dropout(x_BTD, deterministic=deterministic)

"""What stands on top of an encoder: pooler, masked language model, next sentence.

Shapes: B batch, T length, P predictions, D model, V vocabulary.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import Dense
from tx_jax.nn.mlp import ACTIVATIONS
from tx_jax.nn.norm import LayerNorm


def gather_positions(x_BTD: jax.Array, positions_BP: jax.Array) -> jax.Array:
    """The rows of x at the given positions: [B, P, D]."""
    return jnp.take_along_axis(x_BTD, positions_BP[:, :, None], axis=1)


class Pooler(nn.Module):
    """tanh(dense(hidden of [CLS])) (google-research/bert, modeling.py)."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, hidden_BTD: jax.Array) -> jax.Array:
        dense = Dense(self.config.dim, self.config.init_stddev, jnp.dtype(self.config.dtype))
        # The dense layer's parameters are the pooler's own: `pooler/kernel`.
        nn.share_scope(self, dense)
        return jnp.tanh(dense(hidden_BTD[:, 0]))


class MaskedLMHead(nn.Module):
    """Transform, then the output layer tied to the token embedding (google-research/bert, get_masked_lm_output)."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, hidden_BPD: jax.Array, *, attend: Callable[[jax.Array], jax.Array]) -> jax.Array:
        """Logits [B, P, V], float32. `attend` multiplies by the transposed token embedding."""
        config = self.config
        h_BPD = Dense(config.dim, config.init_stddev, jnp.dtype(config.dtype), name="transform")(hidden_BPD)
        h_BPD = LayerNorm(config.layer_norm_eps, name="norm")(ACTIVATIONS[config.activation](h_BPD))
        bias_V = self.param("bias", nn.initializers.zeros_init(), (config.vocab_size,), jnp.float32)
        return attend(h_BPD) + bias_V[None, None]


class NextSentenceHead(nn.Module):
    """Logits [B, 2], float32, from the pooled [CLS]: 0 = B follows A, 1 = B is from another document."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, pooled_BD: jax.Array) -> jax.Array:
        dense = Dense(2, self.config.init_stddev, jnp.float32)
        nn.share_scope(self, dense)
        return dense(pooled_BD)

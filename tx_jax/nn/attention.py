"""Scaled dot-product attention, and the multi-head layer around it.

Shapes: B batch, T query length, S key length, D model, H heads, K head dim.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import Dense

# Far below any score, yet finite: a row in which nothing may be attended becomes uniform, not NaN.
MASKED_SCORE = -1e30


def attention_probabilities(q_BTHK: jax.Array, k_BSHK: jax.Array, *, mask_BHTS: jax.Array | None = None) -> jax.Array:
    """softmax(q k^T / sqrt(K)) (Vaswani et al. 2017, section 3.2.1), [B, H, T, S], in float32.

    Args:
      mask_BHTS: True = may attend; broadcasts over any of its axes.
    """
    scores = jnp.einsum("BTHK,BSHK->BHTS", q_BTHK, k_BSHK, preferred_element_type=jnp.float32)
    scores = scores * q_BTHK.shape[-1] ** -0.5
    if mask_BHTS is not None:
        scores = jnp.where(mask_BHTS, scores, MASKED_SCORE)
    return jax.nn.softmax(scores, axis=-1)


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), heads folded into 2-D kernels.

    Sows `probabilities` [B, H, T, S] into the collection "intermediates", free unless it is collected.
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array, *, mask_BHTS: jax.Array | None, deterministic: bool) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.dtype)

        def project(name: str) -> jax.Array:
            y_BTD = Dense(config.dim, config.init_stddev, dtype, name=name)(x_BTD)
            return y_BTD.reshape(*y_BTD.shape[:-1], config.num_heads, config.head_dim)

        probabilities_BHTS = attention_probabilities(project("query"), project("key"), mask_BHTS=mask_BHTS)
        self.sow("intermediates", "probabilities", probabilities_BHTS)
        probabilities_BHTS = nn.Dropout(config.attention_dropout)(
            probabilities_BHTS.astype(dtype), deterministic=deterministic
        )
        y_BTHK = jnp.einsum("BHTS,BSHK->BTHK", probabilities_BHTS, project("value"))
        return Dense(config.dim, config.init_stddev, dtype, name="out")(y_BTHK.reshape(x_BTD.shape))

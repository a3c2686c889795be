"""Scaled dot-product attention, and the multi-head layer around it.

Shapes: B batch, T query length, S key length, D model, H heads, K head dim, P relative positions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import Dense, project, residual_stddev
from tx_jax.nn.dropout import Dropout
from tx_jax.nn.relative import key_scores, query_scores
from tx_jax.nn.rotary import rotate

# Far below any score, yet finite: a row that may attend to nothing becomes uniform, not NaN.
MASKED_SCORE = -1e30


def attention_probabilities(
    q_BTHK: jax.Array,
    k_BSHK: jax.Array,
    *,
    mask_BHTS: jax.Array | None = None,
    more_scores: tuple[jax.Array, ...] = (),
) -> jax.Array:
    """softmax(q k^T / sqrt(K)) (Vaswani et al. 2017, section 3.2.1), [B, H, T, S], in float32.

    Args:
      mask_BHTS: True = may attend; broadcasts over any of its axes.
      more_scores: float32 [B, H, T, S], each added to q k^T; the scale then accounts for the number of terms:
        sqrt(K (1 + len(more_scores))) (He et al. 2020, equation 4).
    """
    scores = jnp.einsum("BTHK,BSHK->BHTS", q_BTHK, k_BSHK, preferred_element_type=jnp.float32)
    scores = sum(more_scores, scores) * (q_BTHK.shape[-1] * (1 + len(more_scores))) ** -0.5
    if mask_BHTS is not None:
        scores = jnp.where(mask_BHTS, scores, MASKED_SCORE)
    return jax.nn.softmax(scores, axis=-1)


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), heads folded into 2-D kernels.

    Sows `probabilities` [B, H, T, S] into the collection "intermediates", free unless it is collected.
    """

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        context_BSD: jax.Array,
        *,
        mask_BHTS: jax.Array | None,
        angles_BTR: jax.Array | None = None,
        table_PD: jax.Array | None = None,
        deterministic: bool,
    ) -> jax.Array:
        """What each position of x reads from the context (x itself in self-attention): [B, T, D].

        Args:
          angles_BTR: rotary angles for both queries and keys.
          table_PD: DeBERTa's relative positions; `config.relative_attention` says which terms use them.
        """
        config = self.config
        dtype = jnp.dtype(config.dtype)

        def dense(name: str, use_bias: bool) -> Dense:
            return Dense(config.dim, config.init_stddev, dtype, use_bias=use_bias and config.use_bias, name=name)

        def heads(y: jax.Array) -> jax.Array:
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim)

        query, key, value = dense("query", True), dense("key", config.key_bias), dense("value", True)
        if context_BSD is x_BTD:
            projected = project(x_BTD, query, key, value)
        else:
            projected = query(x_BTD), *project(context_BSD, key, value)
        q_BTHK, k_BSHK, v_BSHK = map(heads, projected)
        if angles_BTR is not None:
            q_BTHK, k_BSHK = rotate(q_BTHK, angles_BTR), rotate(k_BSHK, angles_BTR)
        k_BSHK = sharding.gather_length(k_BSHK)
        more_scores = []
        if "c2p" in config.relative_attention:
            layer = key if config.share_relative_projections else dense("relative_key", config.key_bias)
            more_scores.append(query_scores(q_BTHK, heads(layer(table_PD)), config))
        if "p2c" in config.relative_attention:
            layer = query if config.share_relative_projections else dense("relative_query", True)
            more_scores.append(key_scores(k_BSHK, heads(layer(table_PD)), config))
        probabilities_BHTS = attention_probabilities(
            q_BTHK, k_BSHK, mask_BHTS=mask_BHTS, more_scores=tuple(more_scores)
        )
        self.sow("intermediates", "probabilities", probabilities_BHTS)
        probabilities_BHTS = Dropout(config.attention_dropout)(
            probabilities_BHTS.astype(dtype), deterministic=deterministic
        )
        y_BTHK = jnp.einsum("BHTS,BSHK->BTHK", probabilities_BHTS, sharding.gather_length(v_BSHK))
        out = Dense(config.dim, residual_stddev(config), dtype, use_bias=config.use_bias, name="out")
        return out(y_BTHK.reshape(x_BTD.shape))

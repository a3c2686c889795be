"""One layer of an encoder: attention and MLP, each with its residual connection and normalisation."""

import flax.linen as nn
import jax

from tx_jax.config import TransformerConfig
from tx_jax.nn.attention import MultiHeadAttention
from tx_jax.nn.mlp import MLP
from tx_jax.nn.norm import LayerNorm


class Block(nn.Module):
    """norm(x + f(x)) where `norm_position` is "post" (the original, BERT); x + f(norm(x)) where it is "pre" (GPT-2)."""

    config: TransformerConfig
    deterministic: bool  # a field, not an argument: nn.remat traces arguments

    @nn.compact
    def __call__(self, x_BTD: jax.Array, mask_BHTS: jax.Array | None) -> jax.Array:
        config = self.config
        post = config.norm_position == "post"
        attention = MultiHeadAttention(config, name="attention")
        attention_norm = LayerNorm(config.layer_norm_eps, name="attention_norm")
        mlp = MLP(config, name="mlp")
        mlp_norm = LayerNorm(config.layer_norm_eps, name="mlp_norm")
        dropout = nn.Dropout(config.dropout, deterministic=self.deterministic)

        y_BTD = x_BTD if post else attention_norm(x_BTD)
        x_BTD = x_BTD + dropout(attention(y_BTD, mask_BHTS=mask_BHTS, deterministic=self.deterministic))
        x_BTD = attention_norm(x_BTD) if post else x_BTD
        y_BTD = x_BTD if post else mlp_norm(x_BTD)
        x_BTD = x_BTD + dropout(mlp(y_BTD))
        return mlp_norm(x_BTD) if post else x_BTD

"""One layer: attention and MLP, each with its residual connection and normalization.

Shapes: B batch, T length, S length of the encoder's output, D model, H heads, P relative positions.
"""

import flax.linen as nn
import flax.struct
import jax

from tx_jax.config import TransformerConfig
from tx_jax.nn.attention.layer import MultiHeadAttention
from tx_jax.nn.dropout import Dropout
from tx_jax.nn.masks import Mask
from tx_jax.nn.mlp import MLP
from tx_jax.nn.norm import LayerNorm


@flax.struct.dataclass
class Context:
    """What a block needs besides its input: which tokens may attend to which, and position information.

    Attributes:
      mask: which tokens may attend to which.
      angles_BTR: rotary angles.
      table_PD: DeBERTa's relative positions.
      memory_BSD: the encoder's output, which a decoder's blocks also attend to.
      memory_mask: which positions of `memory_BSD` they may attend to.
    """

    mask: Mask = Mask()
    angles_BTR: jax.Array | None = None
    table_PD: jax.Array | None = None
    memory_BSD: jax.Array | None = None
    memory_mask: Mask = Mask()


class Block(nn.Module):
    """norm(x + f(x)) if `norm_position` is "post" (the original, BERT); x + f(norm(x)) if it is "pre" (GPT-2).

    Attributes:
      normalized_input: the input is already normalized, so a pre-LN block has no first norm.
    """

    config: TransformerConfig
    deterministic: bool  # a field, not an argument: nn.remat traces arguments
    normalised_input: bool = False

    @nn.compact
    def __call__(self, x_BTD: jax.Array, context: Context, queries_BTD: jax.Array | None = None) -> jax.Array:
        """[B, T, D]. If `queries_BTD` is given, it attends to x and is the input of the residual connection."""
        config = self.config
        post = config.norm_position == "post"
        dropout = Dropout(config.dropout, deterministic=self.deterministic)

        def norm(name: str) -> LayerNorm:
            return LayerNorm(config.layer_norm_eps, use_bias=config.use_bias, name=name)

        attention_norm = None if self.normalised_input and not post else norm("attention_norm")
        y_BTD = x_BTD if post or attention_norm is None else attention_norm(x_BTD)
        residual_BTD = x_BTD if queries_BTD is None else queries_BTD
        x_BTD = residual_BTD + dropout(
            MultiHeadAttention(config, name="attention")(
                y_BTD if queries_BTD is None else queries_BTD,
                y_BTD,
                mask=context.mask,
                angles_BTR=context.angles_BTR,
                table_PD=context.table_PD,
                deterministic=self.deterministic,
            )
        )
        x_BTD = attention_norm(x_BTD) if post else x_BTD
        if context.memory_BSD is not None:
            cross_norm = norm("cross_attention_norm")
            y_BTD = x_BTD if post else cross_norm(x_BTD)
            x_BTD = x_BTD + dropout(
                MultiHeadAttention(config, name="cross_attention")(
                    y_BTD,
                    context.memory_BSD,
                    mask=context.memory_mask,
                    deterministic=self.deterministic,
                )
            )
            x_BTD = cross_norm(x_BTD) if post else x_BTD
        mlp_norm = norm("mlp_norm")
        x_BTD = x_BTD + dropout(MLP(config, name="mlp")(x_BTD if post else mlp_norm(x_BTD)))
        return mlp_norm(x_BTD) if post else x_BTD

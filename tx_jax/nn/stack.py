"""A stack of blocks: a plain loop, one name per layer.

Shapes: B batch, T length, S length of the encoder's output, D model.
"""

import flax.linen as nn
import jax

from tx_jax.config import TransformerConfig
from tx_jax.nn.block import Block, Context
from tx_jax.nn.convolution import Convolution
from tx_jax.nn.norm import LayerNorm
from tx_jax.nn.relative import RelativePositions
from tx_jax.nn.rotary import rotary_angles

# What is saved for a layer's backward pass besides the layer's input. Attention scores have batch dimensions.
SAVED_BY = {
    "block": jax.checkpoint_policies.nothing_saveable,
    "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


class Stack(nn.Module):
    """`num_layers` blocks, `layer_0` first, and the final normalization that pre-LN needs.

    Sows `hidden` [B, T, D], its input and then each layer's output, into "intermediates". For the backward pass,
    `remat="block"` keeps only each block's input (less memory, one more forward pass), "dots" also the outputs of its
    dense layers (what lies between them and the attention scores are computed again).

    Attributes:
      queries_again: how many more times the last layer runs if `__call__` is given `queries_BTD`.
    """

    config: TransformerConfig
    num_layers: int
    queries_again: int = 2

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        *,
        context: Context,
        positions_BT: jax.Array,
        valid_BT: jax.Array,
        documents_BT: jax.Array | None = None,
        queries_BTD: jax.Array | None = None,
        deterministic: bool,
    ) -> tuple[jax.Array, jax.Array | None]:
        """The last layer's output, and that of the enhanced mask decoder (He et al. 2020, section 3.2).

        Args:
          positions_BT: the tokens' positions, for rotary angles.
          valid_BT, documents_BT: padding and documents, for the convolution; `context` has their masks.
          queries_BTD: absolute positions, which the enhanced mask decoder adds to the last layer's input to get its
            queries. None = no such decoder.
        """
        config = self.config
        # With prevent_cse=False the compiler would merge the second forward pass with the first and keep everything.
        block = Block if config.remat == "none" else nn.remat(Block, policy=SAVED_BY[config.remat])
        if config.relative_attention:
            table_PD = RelativePositions(config, name="relative")(deterministic=deterministic)
            context = context.replace(table_PD=table_PD)
        contexts = [self._context(i, context, positions_BT) for i in range(self.num_layers)]
        before_BTD, layer = x_BTD, None
        self.sow("intermediates", "hidden", x_BTD)
        for i in range(self.num_layers):
            before_BTD = x_BTD
            # A projection from smaller tables comes after their norm.
            normalised = i == 0 and config.embedding_norm and config.table_dim == config.dim and not config.first_norm
            layer = block(config, deterministic, normalised, name=f"layer_{i}")
            x_BTD = layer(before_BTD, contexts[i])
            if i == 0 and config.conv_kernel:
                x_BTD = Convolution(config, name="convolution")(
                    before_BTD, x_BTD, valid_BT=valid_BT, documents_BT=documents_BT, deterministic=deterministic
                )
            self.sow("intermediates", "hidden", x_BTD)
        decoded_BTD = None
        if queries_BTD is not None:
            decoded_BTD = before_BTD + queries_BTD
            for _ in range(self.queries_again):
                decoded_BTD = layer(before_BTD, contexts[-1], decoded_BTD)
        if config.norm_position == "pre":
            x_BTD = LayerNorm(config.layer_norm_eps, use_bias=config.use_bias, name="final_norm")(x_BTD)
        return x_BTD, decoded_BTD

    def _context(self, index: int, context: Context, positions_BT: jax.Array) -> Context:
        """The context of one layer: local layers see fewer tokens, and have their own rotary angles."""
        config = self.config
        local = config.local_window > 0 and index % config.global_every != 0
        if local:
            context = context.replace(mask=context.mask.replace(window=config.local_window))
        if config.position_embedding == "rotary":
            theta = config.local_rotary_theta if local else config.rotary_theta
            angles = rotary_angles(positions_BT, head_dim=config.head_dim, theta=theta)
            context = context.replace(angles_BTR=angles)
        return context

"""A stack of blocks: a plain loop, one name per layer."""

import flax.linen as nn
import jax

from tx_jax.config import TransformerConfig
from tx_jax.nn.block import Block
from tx_jax.nn.norm import LayerNorm


class Stack(nn.Module):
    """`num_layers` blocks, `layer_0` first, and the closing normalisation that pre-LN needs.

    Sows `hidden` [B, T, D] after each layer into "intermediates". `remat="block"` keeps only each block's input for
    the backward pass: less memory, one more forward pass.
    """

    config: TransformerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array, *, mask_BHTS: jax.Array | None, deterministic: bool) -> jax.Array:
        # With prevent_cse=False the compiler would merge the second forward pass with the first and keep everything.
        block = nn.remat(Block) if self.config.remat == "block" else Block
        for i in range(self.config.num_layers):
            x_BTD = block(self.config, deterministic, name=f"layer_{i}")(x_BTD, mask_BHTS)
            self.sow("intermediates", "hidden", x_BTD)
        if self.config.norm_position == "pre":
            x_BTD = LayerNorm(self.config.layer_norm_eps, name="final_norm")(x_BTD)
        return x_BTD

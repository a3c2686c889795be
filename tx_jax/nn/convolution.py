"""DeBERTa-v2's convolution beside the first layer (microsoft/DeBERTa, deberta/deberta.py, ConvLayer).

Shapes: B batch, T length, D model, W width of the kernel.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import truncated_normal
from tx_jax.nn.mlp import ACTIVATIONS
from tx_jax.nn.norm import LayerNorm


class Convolution(nn.Module):
    """norm(layer output + activation(convolution of the layer's input)). The kernel is [W, D, D]: width, in, out."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self, x_BTD: jax.Array, layer_BTD: jax.Array, *, valid_BT: jax.Array, deterministic: bool
    ) -> jax.Array:
        """
        Args:
          x_BTD: the input of the layer beside it. Padding in it is nothing: its neighbours see zeros there.
          layer_BTD: the output of that layer.
        """
        config = self.config
        shape = (config.conv_kernel, config.dim, config.dim)
        kernel = self.param("kernel", truncated_normal(config.init_stddev), shape, jnp.float32)
        bias = self.param("bias", nn.initializers.zeros_init(), (config.dim,), jnp.float32)
        x_BTD = jnp.where(valid_BT[:, :, None], x_BTD, 0)
        y_BTD = jax.lax.conv_general_dilated(
            x_BTD,
            kernel.astype(x_BTD.dtype),
            window_strides=(1,),
            padding="SAME",
            dimension_numbers=("NWC", "WIO", "NWC"),
        )
        y_BTD = y_BTD + bias.astype(x_BTD.dtype)[None, None]
        y_BTD = nn.Dropout(config.dropout)(y_BTD, deterministic=deterministic)
        y_BTD = {"tanh": jnp.tanh, **ACTIVATIONS}[config.conv_activation](y_BTD)
        return LayerNorm(config.layer_norm_eps, name="norm")(layer_BTD + y_BTD)

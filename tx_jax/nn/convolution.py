"""DeBERTa-v2's convolution beside the first layer (microsoft/DeBERTa, deberta/deberta.py, ConvLayer).

Shapes: B batch, T length, D model, W width of the kernel, E = D.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import truncated_normal
from tx_jax.nn.dropout import Dropout
from tx_jax.nn.mlp import ACTIVATIONS
from tx_jax.nn.norm import LayerNorm
from tx_jax.nn.param import param


def neighbours(x_BTD: jax.Array, width: int, documents_BT: jax.Array | None) -> jax.Array:
    """The `width` (odd) tokens around each token: [B, T, W, D]; zeros beyond the ends and for other documents."""
    length, half = x_BTD.shape[1], width // 2
    shifts = range(width)
    x_BTD = jnp.pad(x_BTD, ((0, 0), (half, half), (0, 0)))
    y_BTWD = jnp.stack([x_BTD[:, i : i + length] for i in shifts], axis=2)
    if documents_BT is None:
        return y_BTWD
    around_BT = jnp.pad(documents_BT, ((0, 0), (half, half)))
    same_BTW = jnp.stack([around_BT[:, i : i + length] == documents_BT for i in shifts], axis=2)
    return jnp.where(same_BTW[..., None], y_BTWD, 0)


class Convolution(nn.Module):
    """norm(layer output + activation(convolution of the layer's input)). The kernel is [W, D, D]: width, in, out."""

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        layer_BTD: jax.Array,
        *,
        valid_BT: jax.Array,
        documents_BT: jax.Array | None = None,
        deterministic: bool,
    ) -> jax.Array:
        """
        Args:
          x_BTD: the input of the layer beside it. Padding counts as zeros.
          layer_BTD: the output of that layer.
          documents_BT: if several documents share a row, their numbers: zeros are also used across their borders.
        """
        config = self.config
        shape = (config.conv_kernel, config.dim, config.dim)
        kernel = param(self, "kernel", truncated_normal(config.init_stddev), shape)
        bias = param(self, "bias", nn.initializers.zeros_init(), (config.dim,))
        x_BTD = jnp.where(valid_BT[:, :, None], x_BTD, 0)
        kernel = sharding.gather_param(kernel.astype(x_BTD.dtype), (*self.path, "kernel"))
        y_BTWD = neighbours(x_BTD, config.conv_kernel, documents_BT)
        y_BTD = jnp.einsum("BTWD,WDE->BTE", y_BTWD, kernel) + bias.astype(x_BTD.dtype)[None, None]
        y_BTD = Dropout(config.dropout)(y_BTD, deterministic=deterministic)
        y_BTD = {"tanh": jnp.tanh, **ACTIVATIONS}[config.conv_activation](y_BTD)
        return LayerNorm(config.layer_norm_eps, name="norm")(layer_BTD + y_BTD)

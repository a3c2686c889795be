"""The one dense layer: kernels stay 2-D and inputs are flattened around them.

Both forms compute the same; contracting [B, T, D] in three dimensions makes XLA lay out weight gradients badly
(several times slower on CPU, about a fifth of a BERT-base step by the TPU compiler's estimate).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig


class Dense(nn.Module):
    """y = x kernel + bias over the last axis. Parameters are float32 and are cast to `dtype` for the product."""

    features: int
    init_stddev: float
    dtype: jnp.dtype
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", truncated_normal(self.init_stddev), (x.shape[-1], self.features), jnp.float32)
        kernel = sharding.gather_param(kernel.astype(self.dtype), (*self.path, "kernel"))
        y = sharding.flatten_rows(x.astype(self.dtype)) @ kernel
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,), jnp.float32)
            y = y + bias.astype(self.dtype)[None]
        return sharding.unflatten_rows(y, x.shape[:-1])


def truncated_normal(stddev: float) -> nn.initializers.Initializer:
    """N(0, stddev) cut at two standard deviations and not rescaled, as google-research/bert initialises."""
    return nn.initializers.truncated_normal(stddev=stddev, lower=-2.0, upper=2.0)


def residual_stddev(config: TransformerConfig) -> float:
    """Initial standard deviation of the kernels whose output is added to the residual (Radford et al. 2019, 2.3)."""
    return config.init_stddev * ((2 * config.num_layers) ** -0.5 if config.scale_residual_init else 1.0)

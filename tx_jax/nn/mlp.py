"""The position-wise feed-forward layer and its activations."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import Dense

# GELU keeps several intermediates for its gradient unless it is told to recompute them from its input. `prevent_cse`
# stays at its default: without that barrier the compiler merges the recomputation with the forward pass again.
ACTIVATIONS = {
    "gelu": jax.checkpoint(functools.partial(jax.nn.gelu, approximate=False)),
    "gelu_tanh": jax.checkpoint(functools.partial(jax.nn.gelu, approximate=True)),
    "relu": jax.nn.relu,
}


class MLP(nn.Module):
    """wo(activation(wi(x))) (Vaswani et al. 2017, section 3.3)."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.dtype)
        h_BTF = Dense(config.mlp_dim, config.init_stddev, dtype, name="wi")(x_BTD)
        h_BTF = ACTIVATIONS[config.activation](h_BTF)
        return Dense(config.dim, config.init_stddev, dtype, name="wo")(h_BTF)

"""The position-wise feed-forward layer and its activations."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import Dense, project, residual_stddev


def saving_only_input(function: Callable, derivative: Callable) -> Callable:
    """An elementwise function whose backward pass, in float32, keeps its input and no intermediates.

    The innermost derivative must be in reverse mode: `jax.grad` and derivatives of it work, `jax.jvp` of it does not.
    """
    activation = jax.custom_vjp(function)

    def backward(x: jax.Array, gradient: jax.Array) -> tuple[jax.Array]:
        # Without the barrier the compiler merges equal parts of both passes and then does save intermediates.
        y = jax.lax.optimization_barrier(x).astype(jnp.float32)
        return ((gradient.astype(jnp.float32) * derivative(y)).astype(x.dtype),)

    activation.defvjp(lambda x: (function(x), x), backward)
    return activation


def gelu(x: jax.Array) -> jax.Array:
    """x Phi(x), with Phi the normal distribution function (Hendrycks & Gimpel 2016); computed in float32."""
    y = x.astype(jnp.float32)
    return (0.5 * y * (1 + jax.lax.erf(y * 0.5**0.5))).astype(x.dtype)


def gelu_derivative(x: jax.Array) -> jax.Array:
    """The derivative of x Phi(x)."""
    return 0.5 * (1 + jax.lax.erf(x * 0.5**0.5)) + x * jnp.exp(-0.5 * x**2) * (2 * math.pi) ** -0.5


def gelu_tanh_derivative(x: jax.Array) -> jax.Array:
    """The derivative of x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))."""
    scale = (2 / math.pi) ** 0.5
    t = jnp.tanh(scale * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * scale * (1 + 3 * 0.044715 * x**2)


def silu_derivative(x: jax.Array) -> jax.Array:
    """The derivative of x sigmoid(x), also called swish (Ramachandran et al. 2017)."""
    sigmoid = jax.nn.sigmoid(x)
    return sigmoid * (1 + x * (1 - sigmoid))


ACTIVATIONS = {
    "gelu": saving_only_input(gelu, gelu_derivative),
    "gelu_tanh": saving_only_input(functools.partial(jax.nn.gelu, approximate=True), gelu_tanh_derivative),
    "relu": jax.nn.relu,
    "silu": saving_only_input(jax.nn.silu, silu_derivative),
}


class MLP(nn.Module):
    """wo(activation(wi(x))) (Vaswani et al. 2017, section 3.3), or gated: wo(activation(wi(x)) * gate(x))."""

    config: TransformerConfig

    @nn.compact
    def __call__(self, x_BTD: jax.Array) -> jax.Array:
        config = self.config
        dtype = jnp.dtype(config.dtype)

        def dense(name: str) -> Dense:
            return Dense(config.mlp_dim, config.init_stddev, dtype, use_bias=config.use_bias, name=name)

        h_BTF, *gates = project(x_BTD, *map(dense, ["wi", "gate"] if config.gated_mlp else ["wi"]))
        h_BTF = ACTIVATIONS[config.activation](h_BTF)
        for gate_BTF in gates:
            h_BTF = h_BTF * gate_BTF
        return Dense(config.dim, residual_stddev(config), dtype, use_bias=config.use_bias, name="wo")(h_BTF)

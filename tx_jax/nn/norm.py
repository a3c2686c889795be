"""Layer normalization (Ba et al. 2016) with statistics in float32."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax.nn.param import param
from tx_jax.nn.sums import sum_over


@functools.partial(jax.custom_vjp, nondiff_argnums=(3,))
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array | None, eps: float) -> jax.Array:
    """Normalizes the last axis, of size D; computed in float32, returns x's dtype.

    For the backward pass x and two numbers for each row are kept.

    Args:
      scale, bias: [D], float32.
    """
    return _forward(x, scale, bias, eps)[0]


def _forward(x: jax.Array, scale: jax.Array, bias: jax.Array | None, eps: float) -> tuple[jax.Array, tuple]:
    y = x.astype(jnp.float32)
    mean = y.mean(axis=-1, keepdims=True)
    # Not as the mean square less the squared mean, which is one pass, but loses digits where the mean is large.
    inverse = jax.lax.rsqrt(jnp.square(y - mean).mean(axis=-1, keepdims=True) + eps)
    y = (y - mean) * inverse * _along_last(scale, x)
    y = y if bias is None else y + _along_last(bias, x)
    return y.astype(x.dtype), (x, mean, inverse, scale, bias)


def _backward(eps: float, saved: tuple, gradient: jax.Array) -> tuple:
    # Without the barrier the compiler would keep what both passes compute.
    x, mean, inverse = jax.lax.optimization_barrier(saved[:3])
    scale, bias = saved[3:]
    gradient = gradient.astype(jnp.float32)
    normalized = (x.astype(jnp.float32) - mean) * inverse
    inner = gradient * _along_last(scale, x)
    along = (inner * normalized).mean(axis=-1, keepdims=True)
    centred = inner - inner.mean(axis=-1, keepdims=True) - normalized * along
    rows = tuple(range(x.ndim - 1))
    # What is summed over the rows is rounded as other gradients are: on TPUs the sum is a product.
    of_scale = sum_over((gradient * normalized).astype(x.dtype), rows)
    of_bias = None if bias is None else sum_over(gradient.astype(x.dtype), rows)
    return (centred * inverse).astype(x.dtype), of_scale, of_bias


layer_norm.defvjp(_forward, _backward)


def _along_last(values_D: jax.Array, x: jax.Array) -> jax.Array:
    # Rank promotion is an error in our tests: more axes make the broadcast explicit.
    return values_D.reshape(*(1,) * (x.ndim - 1), -1)


class LayerNorm(nn.Module):
    eps: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = param(self, "scale", nn.initializers.ones_init(), (x.shape[-1],))
        bias = None
        if self.use_bias:
            bias = param(self, "bias", nn.initializers.zeros_init(), (x.shape[-1],))
        return layer_norm(x, scale, bias, self.eps)

"""Layer normalization (Ba et al. 2016) with statistics in float32."""

import flax.linen as nn
import jax
import jax.numpy as jnp


def layer_norm(x: jax.Array, *, scale: jax.Array, bias: jax.Array | None, eps: float) -> jax.Array:
    """Normalizes the last axis. Computed in float32; returns x's dtype."""
    y = x.astype(jnp.float32)
    mean = y.mean(axis=-1, keepdims=True)
    centred = y - mean
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    y = centred * jax.lax.rsqrt(variance + eps) * scale
    return (y if bias is None else y + bias).astype(x.dtype)


class LayerNorm(nn.Module):
    eps: float
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # One more axis makes the broadcast explicit: rank promotion is an error in our tests.
        lead = (1,) * (x.ndim - 1)
        scale = self.param("scale", nn.initializers.ones_init(), (x.shape[-1],), jnp.float32).reshape(*lead, -1)
        bias = None
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (x.shape[-1],), jnp.float32).reshape(*lead, -1)
        return layer_norm(x, scale=scale, bias=bias, eps=self.eps)

"""Sums over the rows of an activation, such as the gradient of a bias."""

import jax
import jax.numpy as jnp

from tx_jax import sharding

_COPIES = 8  # of a sum; with fewer the TPU compiler would make a sum of the product again


def sum_over(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """The sum over some axes, in float32.

    On TPUs it is a product with ones: by its compiler's estimate for a v5e, the sum of 32,768 rows of 768 in bfloat16
    takes 0.44 ms, seven times what reading them takes, and the product 0.01 beside another one that reads them too.
    """
    if sharding.platform() != "tpu":
        return x.sum(axes, dtype=jnp.float32)
    ones = jnp.ones((_COPIES, *(x.shape[axis] for axis in axes)), x.dtype)
    contracted = tuple(range(1, ones.ndim)), axes
    return jax.lax.dot_general(
        ones, x, (contracted, ((), ())), precision="highest", preferred_element_type=jnp.float32
    )[0]

"""Runs a kernel on every device's share of the batch and of the heads: XLA cannot split a kernel by itself.

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

from collections.abc import Callable

import jax
from jax.sharding import PartitionSpec

from tx_jax import sharding
from tx_jax.nn.masks import Mask

Kernel = Callable[..., jax.Array]


def on_shards(
    kernel: Kernel, q_BTHK: jax.Array, k_BSHK: jax.Array, v_BSHK: jax.Array, mask: Mask, *replicated: jax.Array
) -> jax.Array:
    """kernel(q, k, v, mask, first row, first head, *replicated), [B, T, H, K], of each device's rows and heads.

    Where the mesh does not divide the batch or the heads, each device computes all of them; without a mesh, or on one
    device, the kernel is called directly.
    """
    rows, heads = sharding.split_axes("batch", q_BTHK.shape[0]), sharding.split_axes("heads", q_BTHK.shape[2])
    if rows is None and heads is None:
        return kernel(q_BTHK, k_BSHK, v_BSHK, mask, 0, 0, *replicated)
    whole, by_row = PartitionSpec(rows, None, heads, None), PartitionSpec(rows, None)

    def one(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, *replicated: jax.Array) -> jax.Array:
        first_row = 0 if rows is None else jax.lax.axis_index(rows) * q.shape[0]
        first_head = 0 if heads is None else jax.lax.axis_index(heads) * q.shape[2]
        return kernel(q, k, v, mask, first_row, first_head, *replicated)

    specs = whole, whole, whole, jax.tree.map(lambda _: by_row, mask), *(PartitionSpec() for _ in replicated)
    # Replication can't be checked through a kernel: the types of its results don't say how they vary.
    return jax.shard_map(one, in_specs=specs, out_specs=whole, check_vma=False)(
        q_BTHK, k_BSHK, v_BSHK, mask, *replicated
    )

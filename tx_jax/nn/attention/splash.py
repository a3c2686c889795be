"""Attention on TPUs by the kernels of `jax.experimental.pallas.ops.tpu.splash_attention`: scores stay on the chip, and
blocks that a causal mask or a window hides are skipped.

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu import splash_attention

from tx_jax.nn.attention.case import Case, reason_against_kernels
from tx_jax.nn.attention.shards import on_shards
from tx_jax.nn.masks import Mask

_LANES = 128
_HIDDEN = -1  # the segment of keys that are no tokens


def reason_against(case: Case) -> str | None:
    """Why these kernels cannot compute a case; None if they can."""
    reasons = (
        (case.platform != "tpu", f"it runs on TPUs, not on a {case.platform.upper()}"),
        (case.dropout > 0, f"it has no dropout (attention_dropout={case.dropout:g})"),
        (
            case.queries % _LANES or case.keys % _LANES,
            f"lengths must be multiples of {_LANES}, not {case.queries} queries and {case.keys} keys",
        ),
        (case.dtype not in ("bfloat16", "float32"), f"it computes in bfloat16 or float32, not in {case.dtype}"),
        (case.head_dim % 64, f"the head dim must be a multiple of 64, not {case.head_dim}"),
    )
    return next((reason for applies, reason in reasons if applies), None) or reason_against_kernels(case)


def attend(
    q_BTHK: jax.Array,
    k_BSHK: jax.Array,
    v_BSHK: jax.Array,
    mask: Mask,
    *,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
    interpret: bool = False,
) -> jax.Array:
    """softmax(q k^T / sqrt(K)) v, [B, T, H, K], for cases that `reason_against` has nothing against.

    Tokens attend to what `mask` allows. Without documents, causal mask and window (as between an encoder and a decoder)
    so do all other queries; with one of them, a query that is no token attends to keys that are none.

    Args:
      interpret: run on any platform, for tests.
    """
    assert not dropout_rate, "splash attention has no dropout"

    def kernel(q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, *_: jax.Array) -> jax.Array:
        attention = _splash(q.shape[1], k.shape[1], q.shape[2], mask, interpret)
        # Scores in float32 are not scaled in the kernels.
        q = (q.astype(jnp.float32) * q.shape[-1] ** -0.5).astype(q.dtype)
        y = jax.vmap(attention)(q.swapaxes(1, 2), k.swapaxes(1, 2), v.swapaxes(1, 2), _segments(mask, q.shape[1]))
        return y.swapaxes(1, 2)

    return on_shards(kernel, q_BTHK, k_BSHK, v_BSHK, mask)


def _splash(
    queries: int, keys: int, heads: int, mask: Mask, interpret: bool
) -> splash_attention.splash_attention_kernel.SplashAttentionKernel:
    shape = queries, keys
    if mask.window:
        side = mask.window // 2
        of_head = splash_attention.LocalMask(shape, (side, 0 if mask.causal else side), 0)
    else:
        of_head = (splash_attention.CausalMask if mask.causal else splash_attention.FullMask)(shape)
    block_q, block_kv = block(queries), block(keys)
    return splash_attention.make_splash_mha(
        splash_attention.MultiHeadMask([of_head] * heads),
        block_sizes=splash_attention.BlockSizes(
            block_q=block_q,
            block_kv=block_kv,
            block_q_dkv=block_q,
            block_kv_dkv=backward_block(keys, mask.causal or mask.window > 0),
            block_kv_dkv_compute=block_kv,
            use_fused_bwd_kernel=True,
        ),
        head_shards=1,  # `on_shards` has split them
        q_seq_shards=1,
        interpret=interpret,
    )


def block(length: int) -> int:
    """The largest block of at most 512 that divides a length."""
    return next(size for size in range(512, 0, -_LANES) if length % size == 0)


def backward_block(length: int, hides: bool) -> int:
    """The number of keys that the backward kernel has on the chip at once, of which it computes one `block` after the
    other.

    It writes the gradient of the queries once for each such number of keys, to be summed up after it: they are as many
    as fit, so that memory grows little faster than the length. But it can't skip parts of them that a mask `hides`.
    """
    size, largest = block(length), min(length // 4 if hides else length, 2048)
    return next((n for n in range(largest // size * size, 0, -size) if length % n == 0), size)


def _segments(mask: Mask, queries: int) -> splash_attention.SegmentIds | None:
    """Numbers [B, T] and [B, S] that are equal where a query may attend to a key, as far as it is not the kernel's mask
    that says so. Each query has a key: the softmax over none is undefined."""
    valid_BS, ids_BT = mask.valid_BS, mask.documents_BT
    if valid_BS is None:
        return None if ids_BT is None else splash_attention.SegmentIds(ids_BT, ids_BT)
    if ids_BT is None:
        ids_BT = jnp.zeros(valid_BS.shape, jnp.int32)
    if mask.documents_BT is not None or mask.causal or mask.window:  # self-attention
        ids_BT = jnp.where(valid_BS, ids_BT, _HIDDEN)
        return splash_attention.SegmentIds(ids_BT, ids_BT)
    hidden_BS = ~valid_BS & valid_BS.any(axis=1, keepdims=True)
    ids_BS = jnp.where(hidden_BS, _HIDDEN, 0)
    return splash_attention.SegmentIds(jnp.zeros((len(valid_BS), queries), jnp.int32), ids_BS)

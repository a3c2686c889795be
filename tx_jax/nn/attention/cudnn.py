"""cuDNN's fused attention on NVIDIA GPUs, through `jax.nn.dot_product_attention`: no array of scores.

It is given the number of tokens of each row, not a mask: with masks it has failed in several ways (jax issues 28974,
32242 and 39512; pytorch issue 196678: NaN gradients where the length is 64 more than a multiple of 128).

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

import jax
import jax.numpy as jnp

from tx_jax.nn.attention.case import Case, reason_against_kernels
from tx_jax.nn.masks import Mask

LARGEST_HEAD_DIM = 128


def reason_against(case: Case) -> str | None:
    """Why cuDNN cannot run a case; None = it can."""
    if case.platform != "gpu":
        return f"it is for NVIDIA GPUs, not for {case.platform}"
    if case.dtype not in ("bfloat16", "float16"):
        return f"it computes in bfloat16, not in {case.dtype}"
    if case.head_dim % 8 or case.head_dim > LARGEST_HEAD_DIM:
        return f"heads of {case.head_dim} must be a multiple of 8 up to {LARGEST_HEAD_DIM}"
    if case.dropout:
        return f"it has no dropout (attention_dropout={case.dropout})"
    if case.documents:
        return "it cannot separate documents in a row"
    if case.window:
        return "it has no window on both sides"
    return reason_against_kernels(case)


def attend(
    q_BTHK: jax.Array,
    k_BSHK: jax.Array,
    v_BSHK: jax.Array,
    mask: Mask,
    *,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
    implementation: str = "cudnn",
) -> jax.Array:
    """See `xla.attend`. Padding must be on the right; a batch where it is not gives NaN.

    A row without tokens attends to its first key.
    """
    del dropout_rate, dropout_key
    tokens_B = None if mask.valid_BS is None else mask.valid_BS.sum(axis=1, dtype=jnp.int32)
    y_BTHK = jax.nn.dot_product_attention(
        q_BTHK,
        k_BSHK,
        v_BSHK,
        is_causal=mask.causal,
        key_value_seq_lengths=None if tokens_B is None else jnp.maximum(tokens_B, 1),
        implementation=implementation,
    )
    if tokens_B is None:
        return y_BTHK
    right = ((jnp.arange(mask.valid_BS.shape[1])[None] < tokens_B[:, None]) == mask.valid_BS).all()
    return jnp.where(right, y_BTHK, jnp.nan).astype(y_BTHK.dtype)

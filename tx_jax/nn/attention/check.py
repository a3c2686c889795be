"""Whether a kernel computes on this machine's devices what XLA computes there.

Kernels are compared with XLA's implementation in tests, most of them without the device that they are for. So a
training compares them again where it runs, in seconds, before it begins.

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.nn.attention import xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.choice import IMPLEMENTATIONS
from tx_jax.nn.dropout import dropout_key
from tx_jax.nn.masks import Mask

LIMIT = 0.02  # bfloat16 keeps 8 bits: both round their sums to 0.4%
HEADS = 4


def deviation(name: str, case: Case, model: TransformerConfig | None = None) -> float:
    """How far an implementation is from XLA's in one case of self-attention, on JAX's default device.

    Compares the output and the gradients of queries, keys and values of two rows with 4 heads, one of them padded where
    the case has padding, with the same dropout; where a query is padding, nothing is compared. Of DeBERTa's terms the
    gradient of the table is compared, too.

    Args:
      model: needed where the case has relative positions, which it describes.

    Returns:
      The largest difference of an element, divided by the largest element of XLA's. NaN where a result has a NaN.
    """
    length = case.queries
    lengths = np.array([[length], [length - length // 3 if case.padding else length]])
    valid_BT = jnp.asarray(np.arange(length) < lengths)
    documents_BT = jnp.asarray(np.arange(length)[None] // (length // 2 + 1) + 1).repeat(2, axis=0)
    mask = Mask(
        valid_BT if case.padding else None,
        documents_BT if case.documents else None,
        causal=case.causal,
        window=case.window,
    )
    shape = (2, length, HEADS, case.head_dim)
    arrays = [jax.random.normal(jax.random.key(i), shape).astype(case.dtype) for i in range(4)]
    arrays[3] = arrays[3] * valid_BT[:, :, None, None].astype(case.dtype)
    options = {"dropout_rate": case.dropout, "dropout_key": dropout_key(0)} if case.dropout else {}

    tables = {}
    if case.relative:
        shape = (2 * (model.relative_buckets or model.relative_distance), HEADS, case.head_dim)
        table = jax.random.normal(jax.random.key(4), shape).astype(case.dtype)
        tables = dict.fromkeys(model.relative_attention, table)

    def results(attend) -> list[np.ndarray]:
        def of(q, k, v, tables, mask):
            relative = {"relative": xla.Relative(model, tables)} if tables else {}
            return attend(q, k, v, mask, **options, **relative)

        @jax.jit
        def both(q, k, v, gradient, tables, mask):
            y, backward = jax.vjp(lambda *inputs: of(*inputs, mask), q, k, v, tables)
            return [y * valid_BT[:, :, None, None].astype(y.dtype), *jax.tree.leaves(backward(gradient))]

        return [np.asarray(x, np.float32) for x in both(*arrays, tables, mask)]

    kernel, plain = (results(IMPLEMENTATIONS[each].attend) for each in (name, "xla"))
    # Of Python's max, a NaN may or may not be the result.
    return float(np.max([np.abs(a - b).max() / np.abs(b).max() for a, b in zip(kernel, plain, strict=True)]))

"""Attention on TPUs for short rows, with dropout: our own kernels, with all keys and values of a head on the chip.

Why they pay, by hand for a v5e (197 TFLOP/s, 819 GB/s, 4 x 1024 lane operations a cycle of 1/1.5 ns) and heads of 64,
in picoseconds a score, forward and backward. XLA's path moves about 12 bytes a score through memory, 14.6 ps, beside
7.8 ps of products, as 64 is half of what the matrix units multiply at once. These kernels only move q, k, v, y and
their gradients (1408 / T bytes: 13.4, 3.4 and 1.7 ps at 128, 512 and 1024), make the scores twice (9.1 ps of products),
and take about 43 lane operations (7 ps), half of them dropout's hash. The compiler's schedule of the kernels, which
`benchmarks/attention_kernels.py` reads, is 19, 13 and 13 ps. And no array is turned from [B, T, H, K] to [B, H, T, K].
These are estimates; nothing was measured on a TPU yet.

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from tx_jax.nn.attention import rows_kernels
from tx_jax.nn.attention.case import Case, reason_against_kernels
from tx_jax.nn.attention.rows_kernels import LANES, Plan
from tx_jax.nn.attention.shards import on_shards
from tx_jax.nn.dropout import row_words
from tx_jax.nn.masks import Mask

LONGEST = 1024
FORWARD, BACKWARD = "tx_rows_forward", "tx_rows_backward"  # the kernels' names in a compiled program
_UNROLLED = 2**18  # scores of a head that the code makes without a loop: so many that the chip's units overlap


def reason_against(case: Case) -> str | None:
    """Why these kernels cannot compute a case; None if they can."""
    reasons = (
        (case.platform != "tpu", f"it runs on TPUs, not on a {case.platform.upper()}"),
        (
            case.queries % LANES or case.keys % LANES or max(case.queries, case.keys) > LONGEST,
            f"lengths must be multiples of {LANES} up to {LONGEST}, not {case.queries} queries and {case.keys} keys",
        ),
        (case.dtype not in ("bfloat16", "float32"), f"it computes in bfloat16 or float32, not in {case.dtype}"),
        (case.head_dim not in (32, 64, 128), f"the head dim must be 32, 64 or 128, not {case.head_dim}"),
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
    """dropout(softmax(q k^T / sqrt(K))) v, [B, T, H, K], for cases that `reason_against` has nothing against.

    A query that may attend to nothing gets zeros. The probabilities that dropout keeps are those of `dropout.kept` for
    an array [B, H, T, S], whatever the mesh.

    Args:
      interpret: run on any platform, for tests.
    """

    def kernel(
        q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, first_row: Any, first_head: Any, *key: jax.Array
    ) -> jax.Array:
        plan = make_plan(q.shape, k.shape[1], mask, dropout_rate, interpret)
        batch = q.shape[0]
        words = row_words(*key, first_row, batch).reshape(-1) if key else jnp.zeros(2 * batch, jnp.uint32)
        flat = (x.reshape(*x.shape[:2], -1) for x in (q, k, v))
        return _attention(plan, *flat, mask, words, jnp.full(1, first_head, jnp.int32)).reshape(q.shape)

    return on_shards(kernel, q_BTHK, k_BSHK, v_BSHK, mask, *([dropout_key] if dropout_rate else []))


def make_plan(queries: tuple[int, ...], keys: int, mask: Mask, rate: float = 0.0, interpret: bool = False) -> Plan:
    """How the kernels split their work, for queries of a shape [B, T, H, K]."""
    _, length, heads, head_dim = queries
    count = pl.cdiv(heads * head_dim, LANES)
    # Blocks that a causal mask or a window hides are skipped, if they are small enough.
    largest = max(LANES, length // 4) if mask.causal or mask.window else length
    blocks = [n for n in range(LANES, largest + 1, LANES) if length % n == 0 and n * keys <= _UNROLLED]
    groups = [n for n in range(1, count + 1) if count % n == 0 and n * length * keys <= _UNROLLED]
    return Plan(
        queries=length,
        keys=keys,
        heads=heads,
        head_dim=head_dim,
        groups=max(groups, default=1),
        block=max(blocks),
        rate=rate,
        causal=mask.causal,
        window=mask.window,
        padding=mask.valid_BS is not None,
        documents=mask.documents_BT is not None,
        interpret=interpret,
    )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(
    plan: Plan, q: jax.Array, k: jax.Array, v: jax.Array, mask: Mask, words: jax.Array, first_head: jax.Array
) -> jax.Array:
    """[B, T, H K] from q, k and v of that shape, the `row_words` of all rows [2 B], and the first head's number [1]."""
    return _forward(plan, q, k, v, mask, words, first_head)[0]


def _forward(plan: Plan, q: Any, k: Any, v: Any, mask: Mask, words: Any, first_head: Any) -> tuple[Any, Any]:
    heads = plan.steps * plan.groups * plan.group_heads
    lse = jax.ShapeDtypeStruct((q.shape[0], heads, 1, plan.queries), jnp.float32)
    inputs = [("queries", q), ("keys", k), ("keys", v), *_mask_arrays(plan, mask)]
    outputs = [("queries", jax.typeof(q)), ("lse", lse)]
    y, lse = _call(plan, rows_kernels.forward, FORWARD, 2, (words, first_head), inputs, outputs)
    return y, (q, k, v, mask, words, first_head, lse)


def _backward(plan: Plan, saved: Any, g: jax.Array) -> tuple[Any, ...]:
    q, k, v, mask, words, first_head, lse = saved
    inputs = [("queries", q), ("keys", k), ("keys", v), *_mask_arrays(plan, mask), ("lse", lse), ("queries", g)]
    outputs = [("queries", jax.typeof(q)), ("keys", jax.typeof(k)), ("keys", jax.typeof(v))]
    sums = [pltpu.VMEM((plan.keys, LANES), jnp.float32)] * 2
    gradients = _call(plan, rows_kernels.backward, BACKWARD, 5, (words, first_head), inputs, outputs, sums)
    return *gradients, None, None, None


_attention.defvjp(_forward, _backward)


def _mask_arrays(plan: Plan, mask: Mask) -> list[tuple[str, jax.Array]]:
    arrays = []
    if plan.padding:
        arrays.append(("row of keys", mask.valid_BS[:, None].astype(jnp.int32)))
    if plan.documents:
        ids = mask.documents_BT[:, None].astype(jnp.int32)
        arrays += [("row of keys", ids), ("row of queries", ids)]
    return arrays


def _call(plan: Plan, kernel: Any, name: str, products: int, scalars: Any, inputs: Any, outputs: Any, sums: Any = ()):
    """Runs a kernel; of the inputs and outputs each has the name of its kind of block."""
    width, heads = plan.groups * LANES, plan.groups * plan.group_heads
    blocks = {
        "queries": pl.BlockSpec((1, plan.queries, width), lambda row, part, *_: (row, 0, part)),
        "keys": pl.BlockSpec((1, plan.keys, width), lambda row, part, *_: (row, 0, part)),
        "row of queries": pl.BlockSpec((1, 1, plan.queries), lambda row, part, *_: (row, 0, 0)),
        "row of keys": pl.BlockSpec((1, 1, plan.keys), lambda row, part, *_: (row, 0, 0)),
        "lse": pl.BlockSpec((1, heads, 1, plan.queries), lambda row, part, *_: (row, part, 0, 0)),
    }
    batch = inputs[0][1].shape[0]
    scores = batch * plan.heads * sum(plan.block * (high - low) for _, low, high in plan.spans())
    return pl.pallas_call(
        functools.partial(kernel, plan),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=len(scalars),
            grid=(batch, plan.steps),
            in_specs=[blocks[kind] for kind, _ in inputs],
            out_specs=[blocks[kind] for kind, _ in outputs],
            scratch_shapes=sums,
        ),
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for _, x in outputs],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * scores * plan.head_dim,
            transcendentals=scores,
            bytes_accessed=sum(math.prod(x.shape) * x.dtype.itemsize for _, x in (*inputs, *outputs)),
        ),
        name=name,
        interpret=plan.interpret,
    )(*scalars, *(x for _, x in inputs))

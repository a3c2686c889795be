"""Scores with DeBERTa's terms on TPUs: our own kernels, one pass, with all queries and keys of a head on the chip.

A term of relative positions is a product with the table's row of each distance, and the row of query i is then one
place further right than that of query i + 1. XLA brings such an array into place by reshaping it, which takes five
passes over it; here it is rotated in registers. The softmax is XLA's (`xla.attend`).

Shapes: B batch, T length, H heads, K head dim, J = 2 T distances, P rows of the table; a group is the 128 / K heads of
128 lanes.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn import relative
from tx_jax.nn.attention import xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.rows_kernels import LANES, of_head, product

LONGEST = 512
_TOO_OLD = ("TPU v2", "TPU v3", "TPU v4")  # they cannot rotate each row by a number of its own
FORWARD, BACKWARD = "tx_relative_forward", "tx_relative_backward"  # the kernels' names in a compiled program


def reason_against(case: Case) -> str | None:
    """Why these kernels cannot compute a case; None if they can."""
    reasons = (
        (case.platform != "tpu", f"it runs on TPUs, not on a {case.platform.upper()}"),
        (not case.relative, "it is for DeBERTa's relative positions in the scores"),
        (
            case.device_kind.startswith(_TOO_OLD),
            f"a {case.device_kind} cannot rotate each row by a number of its own: it needs a TPU v5 or newer",
        ),
        (
            case.queries != case.keys or case.queries % LANES or case.queries > LONGEST,
            f"lengths must be multiples of {LANES} up to {LONGEST}, not {case.queries} queries and {case.keys} keys",
        ),
        (case.dtype not in ("bfloat16", "float32"), f"it computes in bfloat16 or float32, not in {case.dtype}"),
        (case.head_dim not in (64, 128), f"the head dim must be 64 or 128, not {case.head_dim}"),
        (case.capture, "the probabilities, which are asked for, are shown as XLA computes them"),
        (case.cached, "it has no cache of keys and values"),
        (case.length_parts > 1, f"it needs whole rows, and they are split over {case.length_parts} devices"),
    )
    return next((reason for applies, reason in reasons if applies), None)


def attend(*arrays: Any, interpret: bool = False, **options: Any) -> jax.Array:
    """As `xla.attend`, for cases that `reason_against` has nothing against.

    Args:
      interpret: run on any platform, for tests.
    """
    return xla.attend(*arrays, maker=_interpreted if interpret else scores, **options)


def scores(terms: dict[str, jax.Array], config: TransformerConfig, interpret: bool = False) -> jax.Array:
    """q k^T and DeBERTa's terms, unscaled, float32 [B, H, T, T].

    Args:
      terms: "q" and "k" [B, T, H, K]; of "c2p" and "p2c" those that there are: the projected table, [P, H, K].
    """
    q_BTHK, k_BTHK = terms["q"], terms["k"]
    distances = relative.block_distances(q_BTHK.shape[1], 1, 1)[0, 0]
    orders = {"c2p": distances, "p2c": -distances}  # of query i to key j, and of key i to query j, for T - 1 - i + j
    rows = {name: relative.distance_rows(terms[name], orders[name], config) for name in orders if name in terms}
    make = functools.partial(_scores_of_device, interpret=interpret)
    group_heads, heads = LANES // q_BTHK.shape[3], q_BTHK.shape[2]
    by_row = sharding.split_axes("batch", q_BTHK.shape[0])
    # Where a device would have a part of a group, each computes all heads.
    by_head = None if heads % group_heads else sharding.split_axes("heads", heads // group_heads)
    if by_row is None and by_head is None:
        return make(q_BTHK, k_BTHK, rows)
    tokens = PartitionSpec(by_row, None, by_head, None)
    specs = tokens, tokens, dict.fromkeys(rows, PartitionSpec(None, by_head, None))
    out = PartitionSpec(by_row, by_head, None, None)
    # Replication can't be checked through a kernel: the types of its results don't say how they vary.
    return jax.shard_map(make, in_specs=specs, out_specs=out, check_vma=False)(q_BTHK, k_BTHK, rows)


_interpreted = functools.partial(scores, interpret=True)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The static facts of a call.

    Attributes:
      terms: the names of DeBERTa's terms that there are.
    """

    length: int
    heads: int
    head_dim: int
    terms: tuple[str, ...]
    interpret: bool

    @property
    def group_heads(self) -> int:
        return LANES // self.head_dim


def _scores_of_device(
    q_BTHK: jax.Array, k_BTHK: jax.Array, rows: dict[str, jax.Array], *, interpret: bool
) -> jax.Array:
    names, (_, length, heads, head_dim) = tuple(sorted(rows)), q_BTHK.shape
    more = -heads % (LANES // head_dim)  # heads of zeros, which fill the last group
    filled = [
        jnp.pad(x, [*[(0, 0)] * (x.ndim - 2), (0, more), (0, 0)]).reshape(*x.shape[:-2], -1)
        for x in (q_BTHK, k_BTHK, *(rows[name] for name in names))
    ]
    plan = _Plan(length, heads + more, head_dim, names, interpret)
    return _scores(plan, *filled)[:, :heads]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _scores(plan: _Plan, q: jax.Array, k: jax.Array, *rows: jax.Array) -> jax.Array:
    return _forward(plan, q, k, *rows)[0]


def _forward(plan: _Plan, q: jax.Array, k: jax.Array, *rows: jax.Array) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    shape = jax.ShapeDtypeStruct((q.shape[0], plan.heads, plan.length, plan.length), jnp.float32)
    return _call(plan, _forward_kernel, FORWARD, (q, k, *rows), (), [("scores", shape)])[0], (q, k, *rows)


def _backward(plan: _Plan, saved: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, ...]:
    q, k, *rows = saved
    outputs = [("tokens", jax.typeof(q)), ("tokens", jax.typeof(k))]
    outputs += [("distances", jax.ShapeDtypeStruct(x.shape, jnp.float32)) for x in rows]
    gradients = _call(plan, _backward_kernel, BACKWARD, saved, (g.astype(q.dtype),), outputs)
    return tuple(gradient.astype(x.dtype) for gradient, x in zip(gradients, saved, strict=True))


_scores.defvjp(_forward, _backward)


def _call(plan: _Plan, kernel: Any, name: str, saved: Any, gradients: Any, outputs: Any) -> list[jax.Array]:
    """Runs a kernel for each group and, within it, each row of the batch: sums over the batch stay on the chip."""
    length = plan.length
    blocks = {
        "tokens": pl.BlockSpec((1, length, LANES), lambda group, row: (row, 0, group)),
        "distances": pl.BlockSpec((2 * length, LANES), lambda group, row: (0, group)),
        "scores": pl.BlockSpec((1, plan.group_heads, length, length), lambda group, row: (row, group, 0, 0)),
    }
    q, _, *rows = saved
    kinds = ["tokens", "tokens", *["distances"] * len(rows), *["scores"] * len(gradients)]
    return pl.pallas_call(
        functools.partial(kernel, plan),
        grid=(plan.heads // plan.group_heads, q.shape[0]),
        in_specs=[blocks[kind] for kind in kinds],
        out_specs=[blocks[kind] for kind, _ in outputs],
        out_shape=[jax.ShapeDtypeStruct(x.shape, x.dtype) for _, x in outputs],
        scratch_shapes=[pltpu.VMEM((length, LANES), jnp.float32)] * 2 if gradients else [],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "arbitrary")),
        name=name,
        interpret=plan.interpret,
    )(*saved, *gradients)


def _forward_kernel(plan: _Plan, q_ref: Any, k_ref: Any, *refs: Any) -> None:
    *row_refs, scores_ref = refs
    size = plan.head_dim
    rows = dict(zip(plan.terms, row_refs, strict=True))
    for head in range(plan.group_heads):
        for first in range(0, plan.length, LANES):
            block = slice(first, first + LANES)
            q = of_head(q_ref[0, block], head, size)
            tile = product(q, k_ref[0], 1, 1)
            if "c2p" in rows:
                tile += _in_place(product(q, rows["c2p"][_near(plan, first)], 1, 1))[:, : plan.length]
            scores_ref[0, head, block] = tile
        if "p2c" in rows:
            for first in range(0, plan.length, LANES):
                block = slice(first, first + LANES)
                k = of_head(k_ref[0, block], head, size)
                tile = _in_place(product(k, rows["p2c"][_near(plan, first)], 1, 1))[:, : plan.length]
                scores_ref[0, head, :, block] += tile.T


def _backward_kernel(plan: _Plan, q_ref: Any, k_ref: Any, *refs: Any) -> None:
    size = plan.head_dim
    count = len(plan.terms)
    rows = dict(zip(plan.terms, refs[:count], strict=True))
    g_ref, dq_ref, dk_ref, *d_row_refs, dq_sum, dk_sum = refs[count:]
    d_rows = dict(zip(plan.terms, d_row_refs, strict=True))

    @pl.when(pl.program_id(1) == 0)
    def _() -> None:
        for ref in d_row_refs:
            ref[...] = jnp.zeros_like(ref)

    dq_sum[...] = jnp.zeros_like(dq_sum)
    dk_sum[...] = jnp.zeros_like(dk_sum)
    for head in range(plan.group_heads):
        for first in range(0, plan.length, LANES):
            block, near = slice(first, first + LANES), _near(plan, first)
            g, q = g_ref[0, head, block], of_head(q_ref[0, block], head, size)
            dk_sum[...] += product(g, q, 0, 0)
            dq = product(g, k_ref[0], 1, 0)
            if "c2p" in rows:
                spread = _spread(product(_exchange(g.dtype), g, 1, 0)).astype(g.dtype)
                dq += _upside_down(product(spread, rows["c2p"][near], 1, 0))
                d_rows["c2p"][near] += product(spread, _upside_down(q).astype(q.dtype), 0, 0)
            dq_sum[block] += of_head(dq, head, size)
            if "p2c" in rows:
                k = of_head(k_ref[0, block], head, size)
                spread = _spread(product(_exchange(g.dtype), g_ref[0, head, :, block], 1, 1)).astype(g.dtype)
                dk_sum[block] += of_head(_upside_down(product(spread, rows["p2c"][near], 1, 0)), head, size)
                d_rows["p2c"][near] += product(spread, _upside_down(k).astype(k.dtype), 0, 0)
    dq_ref[0] = dq_sum[...].astype(dq_ref.dtype)
    dk_ref[0] = dk_sum[...].astype(dk_ref.dtype)


def _near(plan: _Plan, first: int) -> slice:
    """The distances of 128 tokens from `first` on to all others, T + 128 of them."""
    return slice(plan.length - first - LANES, 2 * plan.length - first)


def _in_place(x: jax.Array) -> jax.Array:
    """y[i, j] = x[i, 127 - i + j] for the first T of T + 128 columns."""
    return pltpu.roll(x, x.shape[1] - LANES + 1, 1, stride=1, stride_axis=0)


def _spread(g: jax.Array) -> jax.Array:
    """The transpose of `_in_place` on its first T columns, upside down: y[127 - i, 127 - i + j] = g[127 - i, j],
    [128, T] -> [128, T + 128]. A rotation cannot take less in the next row, only more."""
    wide = jnp.concatenate([g, jnp.zeros((LANES, LANES), g.dtype)], axis=1)
    return pltpu.roll(wide, 0, 1, stride=1, stride_axis=0)


def _exchange(dtype: jnp.dtype) -> jax.Array:
    """The matrix that turns 128 rows upside down."""
    row, column = (jax.lax.broadcasted_iota(jnp.int32, (LANES, LANES), axis) for axis in (0, 1))
    return (row + column == LANES - 1).astype(dtype)


def _upside_down(x: jax.Array) -> jax.Array:
    """The 128 rows of x in the opposite order, float32: exactly, as a product."""
    return product(_exchange(x.dtype), x, 1, 0)

"""The kernels of `rows`, forward and backward.

A kernel gets all queries, keys and values of one row for some heads. Its tiles of scores are [keys, queries]: sums and
maxima over the keys are then sums of whole registers (8 keys of 128 queries each), and what belongs to a query, such as
its maximum, is one value a lane. The backward kernel makes scores, probabilities and dropout's mask once more.

Shapes: B batch, T query length, S key length, H heads, K head dim; a group is the 128 / K heads of 128 lanes.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from tx_jax.nn.dropout import kept_at, kept_factor

LANES = 128
_HIDDEN = -1e30  # the score of a key that a query may not attend to
_LEAST_MAXIMUM = -1e29  # of a query's scores: the weights of one that may attend to nothing are then 0, not equal


@dataclasses.dataclass(frozen=True)
class Plan:
    """The static facts of a call. Rows of q, k and v are [T, H K]: the heads side by side, as projections give them.

    Attributes:
      groups: of one step of the grid, which is a row of the batch and some of its heads.
      block: the number of queries whose scores are made at once.
    """

    queries: int
    keys: int
    heads: int
    head_dim: int
    groups: int
    block: int
    rate: float = 0.0
    causal: bool = False
    window: int = 0
    padding: bool = False
    documents: bool = False
    interpret: bool = False

    @property
    def group_heads(self) -> int:
        return LANES // self.head_dim

    @property
    def steps(self) -> int:
        """Steps of the grid for a row of the batch."""
        return pl.cdiv(self.heads * self.head_dim, self.groups * LANES)

    def spans(self) -> list[tuple[int, int, int]]:
        """For each block of queries its first, and the range of keys that they may attend to, in multiples of 128."""
        spans = []
        for first in range(0, self.queries, self.block):
            low, high, side = 0, self.keys, self.window // 2
            if self.window:
                low = max(0, first - side) // LANES * LANES
                high = min(high, pl.cdiv(first + self.block + side, LANES) * LANES)
            if self.causal:
                high = min(high, first + self.block)
            spans.append((first, low, high))
        return spans


class _Step:
    """What both kernels do in one step of the grid."""

    def __init__(self, plan: Plan, words_ref: Any, first_head_ref: Any, mask_refs: tuple[Any, ...]):
        self.plan = plan
        row, part = pl.program_id(0), pl.program_id(1)
        self.words = words_ref[2 * row], words_ref[2 * row + 1]
        self.first_group = part * plan.groups
        self.first_head = first_head_ref[0] + self.first_group * plan.group_heads
        refs = iter(mask_refs)
        self.penalty = _columns(jnp.where(next(refs)[0] != 0, 0.0, _HIDDEN)) if plan.padding else None
        self.key_ids, self.query_ids_ref = (_columns(next(refs)[0]), next(refs)) if plan.documents else (None, None)

    def group(self, ref: Any, group: jax.Array, rows: Any = slice(None)) -> jax.Array:
        """The lanes of a group in a block of q, k or v, [rows, 128]; zeros beyond the last head."""
        plan, x = self.plan, ref[0, rows, lanes(group)]
        if plan.heads * plan.head_dim % LANES == 0:
            return x
        lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) + (self.first_group + group) * LANES
        return jnp.where(lane < plan.heads * plan.head_dim, x, 0)

    def scores(self, k: jax.Array, q: jax.Array, first: jax.Array | int, low: int) -> jax.Array:
        """log2(e) q k^T / sqrt(K) as a tile, in float32.

        Args:
          k: keys from `low` on.
          q: queries from `first` on, of one head.
        """
        plan, allowed = self.plan, []
        scores = product(k, q, 1, 1) * (plan.head_dim**-0.5 * math.log2(math.e))
        high, block = low + scores.shape[0], scores.shape[1]
        if self.penalty is not None:
            scores += _repeat(self.penalty[low:high], block)
        if self.key_ids is not None:
            allowed.append(_repeat(self.key_ids[low:high], block) == self.query_ids_ref[0, :, pl.ds(first, block)])
        distance = _line(scores.shape, first - low, -1, 1)
        if plan.causal:
            allowed.append(distance >= 0)
        if plan.window:
            allowed.append(distance <= plan.window // 2)
        if plan.window and not plan.causal:
            allowed.append(distance >= -(plan.window // 2))
        return jnp.where(functools.reduce(jnp.logical_and, allowed), scores, _HIDDEN) if allowed else scores

    def dropout(self, x: jax.Array, head: jax.Array, first: jax.Array | int, low: int) -> jax.Array:
        """A tile with zeros where dropout sets them; the rest is not scaled."""
        plan = self.plan
        if not plan.rate:
            return x
        start = (self.first_head + head) * (plan.queries * plan.keys) + first * plan.keys + low
        place = _line(x.shape, start, 1, plan.keys).astype(jnp.uint32)
        return jnp.where(kept_at(place, *self.words, plan.rate), x, 0)

    def for_each_block(self, body: Callable[[Any, int, int], None]) -> None:
        """body(first query, first key, end of the keys) for each block of queries."""
        spans, block = self.plan.spans(), self.plan.block
        if len(spans) == 1 or len({span[1:] for span in spans}) > 1:
            for span in spans:
                body(*span)
        else:

            @pl.loop(0, len(spans))
            def _(i: jax.Array) -> None:
                body(pl.multiple_of(i * block, block), *spans[0][1:])


def lanes(group: jax.Array) -> Any:
    return pl.ds(pl.multiple_of(group * LANES, LANES), LANES)


def of_head(x: jax.Array, head: int, size: int) -> jax.Array:
    """x, [rows, 128], with zeros in the lanes of the group's other heads, of `size` lanes each. A product with it is
    that of one head, and takes no longer than one of K lanes: the matrix units always multiply 128."""
    if size == LANES:
        return x
    lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return jnp.where((lane >= head * size) & (lane < (head + 1) * size), x, 0)


def _columns(row: jax.Array) -> jax.Array:
    """[1, S] -> [S, 128]: each value 128 times in a row of its own."""
    return jnp.broadcast_to(row, (LANES, row.shape[1])).T


def _repeat(columns: jax.Array, block: int) -> jax.Array:
    """[S, 128] -> [S, block]"""
    return jnp.concatenate([columns] * (block // LANES), axis=1)


def _line(shape: tuple[int, int], start: Any, per_key: int, per_query: int) -> jax.Array:
    """start + key per_key + query per_query for a tile, in one operation a register."""
    keys, queries = shape
    register = jax.lax.broadcasted_iota(jnp.int32, (1, 8, queries), 1) * per_key
    register += jax.lax.broadcasted_iota(jnp.int32, (1, 8, queries), 2) * per_query + start
    steps = jax.lax.broadcasted_iota(jnp.int32, (keys // 8, 8, queries), 0) * (8 * per_key)
    return (register + steps).reshape(shape)


def product(a: jax.Array, b: jax.Array, over_a: int, over_b: int) -> jax.Array:
    """The sum of products over one axis of each, in float32."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    dimensions = (((over_a,), (over_b,)), ((), ()))
    return jax.lax.dot_general(a, b, dimensions, precision=precision, preferred_element_type=jnp.float32)


def forward(plan: Plan, words_ref: Any, first_head_ref: Any, q_ref: Any, k_ref: Any, v_ref: Any, *refs: Any) -> None:
    """Writes y, and of each query log2(e) times the logarithm of the sum of its exponentiated scores."""
    *mask_refs, y_ref, lse_ref = refs
    step = _Step(plan, words_ref, first_head_ref, tuple(mask_refs))
    size = plan.head_dim

    @pl.loop(0, plan.groups, unroll=True)
    def _(group: jax.Array) -> None:
        k, v_T = step.group(k_ref, group), step.group(v_ref, group).T

        def block(first: Any, low: int, high: int) -> None:
            rows, heads = pl.ds(first, plan.block), []
            q = step.group(q_ref, group, rows)
            for i in range(plan.group_heads):
                head = group * plan.group_heads + i
                scores = step.scores(k[low:high], of_head(q, i, size), first, low)
                maximum = jnp.maximum(scores.max(axis=0, keepdims=True), _LEAST_MAXIMUM)
                weights = jnp.exp2(scores - maximum)
                total = weights.sum(axis=0, keepdims=True)
                kept = step.dropout(weights, head, first, low)
                y_KT = product(v_T[i * size : (i + 1) * size, low:high], kept.astype(v_T.dtype), 1, 0)
                heads.append(y_KT * jnp.where(total > 0, kept_factor(plan.rate) / total, 0))
                lse_ref[0, head, :, rows] = maximum + jnp.where(total > 0, jnp.log2(total), 0)
            y_ref[0, rows, lanes(group)] = jnp.concatenate(heads, axis=0).T.astype(y_ref.dtype)

        step.for_each_block(block)


def backward(plan: Plan, words_ref: Any, first_head_ref: Any, q_ref: Any, k_ref: Any, v_ref: Any, *refs: Any) -> None:
    """Writes the gradients of q, k and v, from that of y."""
    *mask_refs, lse_ref, g_ref, dq_ref, dk_ref, dv_ref, dk_sum, dv_sum = refs
    step = _Step(plan, words_ref, first_head_ref, tuple(mask_refs))
    size, factor = plan.head_dim, kept_factor(plan.rate)

    @pl.loop(0, plan.groups, unroll=True)
    def _(group: jax.Array) -> None:
        k, v = step.group(k_ref, group), step.group(v_ref, group)
        k_T = k.T
        dk_sum[...] = jnp.zeros_like(dk_sum)
        dv_sum[...] = jnp.zeros_like(dv_sum)

        def block(first: Any, low: int, high: int) -> None:
            rows, keys, heads = pl.ds(first, plan.block), slice(low, high), []
            q, g = step.group(q_ref, group, rows), step.group(g_ref, group, rows)
            for i in range(plan.group_heads):
                head = group * plan.group_heads + i
                q_head, g_head = of_head(q, i, size), of_head(g, i, size)
                weights = jnp.exp2(step.scores(k[keys], q_head, first, low) - lse_ref[0, head, :, rows])
                kept = step.dropout(weights, head, first, low)
                dv_sum[keys] += product(kept.astype(g.dtype), g_head, 1, 0)
                # The mean that the softmax subtracts is usually made of y and its gradient; here all keys are at hand.
                d_kept = kept * product(v[keys], g_head, 1, 1)
                d_scores = (d_kept - weights * d_kept.sum(axis=0, keepdims=True)).astype(q.dtype)
                dk_sum[keys] += product(d_scores, q_head, 1, 0)
                heads.append(product(k_T[i * size : (i + 1) * size, keys], d_scores, 1, 0))
            dq = jnp.concatenate(heads, axis=0).T * (factor * size**-0.5)
            dq_ref[0, rows, lanes(group)] = dq.astype(dq_ref.dtype)

        step.for_each_block(block)
        dk_ref[0, :, lanes(group)] = (dk_sum[...] * (factor * size**-0.5)).astype(dk_ref.dtype)
        dv_ref[0, :, lanes(group)] = (dv_sum[...] * factor).astype(dv_ref.dtype)

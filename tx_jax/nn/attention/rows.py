"""Attention on TPUs for short rows, with dropout: our own kernels, which have all keys and values of a head on the chip.

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu

from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.shards import on_shards
from tx_jax.nn.dropout import kept_at, kept_factor, row_words
from tx_jax.nn.masks import Mask

LONGEST = 1024
_LANES = 128
_HIDDEN = -1e30  # the score of a key that a query may not attend to
_LEAST_MAXIMUM = -1e29  # of the scores of a query: one that may attend to nothing then has no weights instead of equal ones


def reason_against(case: Case) -> str | None:
    """Why these kernels cannot compute a case; None if they can."""
    reasons = (
        (case.platform != "tpu", f"it runs on TPUs, not on a {case.platform.upper()}"),
        (case.relative, "it has no relative positions in the scores"),
        (case.capture, "it never has all probabilities at hand, which are asked for"),
        (case.cached, "it has no cache of keys and values"),
        (case.length_parts > 1, f"it needs whole rows, and they are split over {case.length_parts} devices"),
        (
            case.queries % _LANES or case.keys % _LANES or max(case.queries, case.keys) > LONGEST,
            f"lengths must be multiples of {_LANES} up to {LONGEST}, not {case.queries} queries and {case.keys} keys",
        ),
        (case.dtype not in ("bfloat16", "float32"), f"it computes in bfloat16 or float32, not in {case.dtype}"),
        (case.head_dim not in (32, 64, 128), f"the head dim must be 32, 64 or 128, not {case.head_dim}"),
    )
    return next((reason for applies, reason in reasons if applies), None)


@dataclasses.dataclass(frozen=True)
class _Plan:
    """The static facts of a call. Rows of q, k and v are [T, H K]: the heads side by side, as the projections give them.
    A step of the grid has `groups` times 128 lanes of one row, each with 128 / K heads.

    Attributes:
      block: the number of queries whose scores are made at once.
    """

    queries: int
    keys: int
    heads: int
    head_dim: int
    groups: int
    block: int
    rate: float
    causal: bool
    window: int
    has_valid: bool
    has_documents: bool
    interpret: bool

    @property
    def in_group(self) -> int:
        return _LANES // self.head_dim

    @property
    def steps(self) -> int:
        return pl.cdiv(self.heads * self.head_dim, self.groups * _LANES)

    def spans(self) -> list[tuple[int, int, int]]:
        """For each block of queries its first, and the range of keys that they may attend to, in multiples of 128."""
        spans = []
        for first in range(0, self.queries, self.block):
            low, high = 0, self.keys
            if self.window:
                low = max(0, first - self.window // 2) // _LANES * _LANES
                high = min(high, pl.cdiv(first + self.block + self.window // 2, _LANES) * _LANES)
            if self.causal:
                high = min(high, first + self.block)
            spans.append((first, low, high))
        return spans


class _Step:
    """What both kernels need of one step of the grid."""

    def __init__(self, plan: _Plan, words_ref, first_head_ref, valid_ref, key_ids_ref, query_ids_ref):
        self.plan = plan
        row = pl.program_id(0)
        self.words = words_ref[row, 0], words_ref[row, 1]
        self.first_group = pl.program_id(1) * plan.groups
        self.first_head = first_head_ref[0] + self.first_group * plan.in_group
        self.penalty = self.key_ids = None
        if plan.has_valid:
            self.penalty = _columns(jnp.where(valid_ref[0] != 0, 0.0, _HIDDEN))
        if plan.has_documents:
            self.key_ids, self.query_ids_ref = _columns(key_ids_ref[0]), query_ids_ref

    def group(self, ref, group: jax.Array) -> jax.Array:
        """128 lanes of a block of q, k or v, all rows."""
        return self.clean(ref[0, :, _lanes(group)], group)

    def clean(self, x: jax.Array, group: jax.Array) -> jax.Array:
        """x, [rows, 128], with zeros in place of whatever lies beyond the last head."""
        plan = self.plan
        if plan.heads * plan.head_dim % _LANES == 0:
            return x
        lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1) + (self.first_group + group) * _LANES
        return jnp.where(lane < plan.heads * plan.head_dim, x, 0)

    def of_head(self, x: jax.Array, head: int) -> jax.Array:
        """x, [rows, 128], with zeros in the lanes of other heads: a product with it is that of one head, and as fast as
        one of K lanes, as the matrix units multiply 128 lanes at once anyway."""
        K = self.plan.head_dim
        if K == _LANES:
            return x
        lane = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
        return jnp.where((lane >= head * K) & (lane < (head + 1) * K), x, 0)

    def scores(self, k: jax.Array, q: jax.Array, first: jax.Array | int, low: int) -> jax.Array:
        """log2(e) q k^T / sqrt(K), [keys, queries] in float32: so that sums over keys are sums of whole registers.

        Args:
          k: keys from `low` on.
          q: queries from `first` on.
        """
        plan = self.plan
        scores = _product(k, q, 1, 1) * (plan.head_dim**-0.5 * math.log2(math.e))
        high, block = low + scores.shape[0], scores.shape[1]
        if self.penalty is not None:
            scores += _tile(self.penalty[low:high], block)
        allowed = []
        if self.key_ids is not None:
            query_ids = self.query_ids_ref[0, :, pl.ds(first, block)]
            allowed.append(_tile(self.key_ids[low:high], block) == query_ids)
        if plan.causal or plan.window:
            distance = _iota(scores.shape, 1) - _iota(scores.shape, 0) + (first - low)
            if plan.causal:
                allowed.append(distance >= 0)
            if plan.window:
                side = plan.window // 2
                allowed.append(distance <= side)
                if not plan.causal:
                    allowed.append(distance >= -side)
        if allowed:
            scores = jnp.where(functools.reduce(jnp.logical_and, allowed), scores, _HIDDEN)
        return scores

    def keep(self, x: jax.Array, head: jax.Array, first: jax.Array | int, low: int) -> jax.Array:
        """x, [keys, queries], with zeros where dropout sets them."""
        plan = self.plan
        if not plan.rate:
            return x
        in_head = _iota(x.shape, 1, jnp.uint32) * jnp.uint32(plan.keys) + _iota(x.shape, 0, jnp.uint32)
        start = (self.first_head + head) * (plan.queries * plan.keys) + first * plan.keys + low
        place = in_head + jnp.asarray(start).astype(jnp.uint32)
        return jnp.where(kept_at(place, *self.words, plan.rate), x, 0)

    def for_each_block(self, body) -> None:
        """body(first query, first key, end of the keys) for each block of queries."""
        spans = self.plan.spans()
        if len({span[1:] for span in spans}) > 1 or len(spans) == 1:
            for span in spans:
                body(*span)
        else:
            block = self.plan.block

            @pl.loop(0, len(spans))
            def _(i):
                body(pl.multiple_of(i * block, block), *spans[0][1:])


def _iota(shape, axis, dtype=jnp.int32):
    return jax.lax.broadcasted_iota(dtype, shape, axis)


def _lanes(group):
    return pl.ds(pl.multiple_of(group * _LANES, _LANES), _LANES)


def _columns(row: jax.Array) -> jax.Array:
    """[1, S] -> [S, 128]: each value in a row of its own, 128 times."""
    return jnp.broadcast_to(row, (_LANES, row.shape[1])).T


def _tile(columns: jax.Array, block: int) -> jax.Array:
    return jnp.concatenate([columns] * (block // _LANES), axis=1)


def _product(a: jax.Array, b: jax.Array, over_a: int, over_b: int) -> jax.Array:
    """The sum of products over one axis of each, in float32."""
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else None
    return jax.lax.dot_general(
        a, b, (((over_a,), (over_b,)), ((), ())), precision=precision, preferred_element_type=jnp.float32
    )


def _forward_kernel(plan, words, first_head, q_ref, k_ref, v_ref, *refs):
    *mask_refs, y_ref, lse_ref = refs
    step = _Step(plan, words, first_head, *_mask_refs(plan, mask_refs))

    @pl.loop(0, plan.groups)
    def _(group):
        k, v_T = step.group(k_ref, group), step.group(v_ref, group).T

        def block(first, low, high):
            rows = pl.ds(first, plan.block)
            q = step.clean(q_ref[0, rows, _lanes(group)], group)
            of_heads = []
            for head in range(plan.in_group):
                scores = step.scores(k[low:high], step.of_head(q, head), first, low)
                maximum = jnp.maximum(scores.max(axis=0, keepdims=True), _LEAST_MAXIMUM)
                weights = jnp.exp2(scores - maximum)
                total = weights.sum(axis=0, keepdims=True)
                weights = step.keep(weights, group * plan.in_group + head, first, low)
                v_KS = v_T[head * plan.head_dim : (head + 1) * plan.head_dim, low:high]
                y_KT = _product(v_KS, weights.astype(v_KS.dtype), 1, 0)
                of_heads.append(y_KT * jnp.where(total > 0, kept_factor(plan.rate) / total, 0))
                log_total = jnp.where(total > 0, jnp.log2(total), 0)
                lse_ref[0, group * plan.in_group + head, :, rows] = maximum + log_total
            y_ref[0, rows, _lanes(group)] = jnp.concatenate(of_heads, axis=0).T.astype(y_ref.dtype)

        step.for_each_block(block)


def _backward_kernel(plan, words, first_head, q_ref, k_ref, v_ref, *refs):
    *mask_refs, lse_ref, g_ref, dq_ref, dk_ref, dv_ref, dk_sum, dv_sum = refs
    step = _Step(plan, words, first_head, *_mask_refs(plan, mask_refs))
    factor = kept_factor(plan.rate) if plan.rate else 1.0
    scale = plan.head_dim**-0.5 * factor

    @pl.loop(0, plan.groups)
    def _(group):
        k, v = step.group(k_ref, group), step.group(v_ref, group)
        k_T = k.T
        dk_sum[...] = jnp.zeros_like(dk_sum)
        dv_sum[...] = jnp.zeros_like(dv_sum)

        def block(first, low, high):
            rows, keys = pl.ds(first, plan.block), slice(low, high)
            q = step.clean(q_ref[0, rows, _lanes(group)], group)
            g = step.clean(g_ref[0, rows, _lanes(group)], group)
            of_heads = []
            for head in range(plan.in_group):
                place = group * plan.in_group + head
                q_head, g_head = step.of_head(q, head), step.of_head(g, head)
                weights = jnp.exp2(step.scores(k[keys], q_head, first, low) - lse_ref[0, place, :, rows])
                kept = step.keep(weights, place, first, low)
                dv_sum[keys] += _product(kept.astype(g.dtype), g_head, 1, 0)
                kept_d = kept * _product(v[keys], g_head, 1, 1)
                d_scores = (kept_d - weights * kept_d.sum(axis=0, keepdims=True)).astype(q.dtype)
                dk_sum[keys] += _product(d_scores, q_head, 1, 0)
                k_KS = k_T[head * plan.head_dim : (head + 1) * plan.head_dim, keys]
                of_heads.append(_product(k_KS, d_scores, 1, 0))
            dq = jnp.concatenate(of_heads, axis=0).T * scale
            dq_ref[0, rows, _lanes(group)] = dq.astype(dq_ref.dtype)

        step.for_each_block(block)
        dk_ref[0, :, _lanes(group)] = (dk_sum[...] * scale).astype(dk_ref.dtype)
        dv_ref[0, :, _lanes(group)] = (dv_sum[...] * factor).astype(dv_ref.dtype)


def _mask_refs(plan, refs):
    """The references of valid, documents of the keys, documents of the queries: None for those that are not there."""
    refs = iter(refs)
    valid = next(refs) if plan.has_valid else None
    return valid, *((next(refs), next(refs)) if plan.has_documents else (None, None))


def _call(plan, kernel, name, inputs, outputs, scratch=(), products=2):
    """Runs a kernel. inputs: words, first head, then arrays by kind. outputs: ShapeDtypeStructs with kinds."""
    blocks = {
        "queries": pl.BlockSpec((1, plan.queries, plan.groups * _LANES), lambda b, h, *_: (b, 0, h)),
        "keys": pl.BlockSpec((1, plan.keys, plan.groups * _LANES), lambda b, h, *_: (b, 0, h)),
        "row": pl.BlockSpec((1, 1, plan.keys), lambda b, h, *_: (b, 0, 0)),
        "lse": pl.BlockSpec((1, plan.groups * plan.in_group, 1, plan.queries), lambda b, h, *_: (b, h, 0, 0)),
    }
    words, first_head, *arrays = inputs
    batch = arrays[0][1].shape[0]
    count = batch * plan.heads * sum(plan.block * (high - low) for _, low, high in plan.spans())
    moved = sum(math.prod(x.shape) * x.dtype.itemsize for _, x in (*arrays, *outputs))
    return pl.pallas_call(
        functools.partial(kernel, plan),
        grid_spec=pltpu.PrefetchScalarGridSpec(
            num_scalar_prefetch=2,
            grid=(batch, plan.steps),
            in_specs=[blocks[kind] for kind, _ in arrays],
            out_specs=[blocks[kind] for kind, _ in outputs],
            scratch_shapes=scratch,
        ),
        out_shape=[x for _, x in outputs],
        compiler_params=pltpu.CompilerParams(dimension_semantics=("parallel", "parallel")),
        cost_estimate=pl.CostEstimate(
            flops=2 * products * count * plan.head_dim, transcendentals=count, bytes_accessed=moved
        ),
        name=name,
        interpret=plan.interpret,
    )(words, first_head, *(x for _, x in arrays))


def _masks(plan, mask):
    arrays = []
    if plan.has_valid:
        arrays.append(("row", mask.valid_BS[:, None].astype(jnp.int32)))
    if plan.has_documents:
        arrays += [("row", mask.documents_BT[:, None].astype(jnp.int32))] * 2
    return arrays


def _forward(plan, q, k, v, mask, words, first_head):
    batch = q.shape[0]
    lse = jax.ShapeDtypeStruct((batch, plan.steps * plan.groups * plan.in_group, 1, plan.queries), jnp.float32)
    inputs = [words, first_head, ("queries", q), ("keys", k), ("keys", v), *_masks(plan, mask)]
    return _call(plan, _forward_kernel, "tx_rows_forward", inputs, [("queries", _like(q)), ("lse", lse)])


def _like(x):
    return jax.ShapeDtypeStruct(x.shape, x.dtype)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attention(plan, q, k, v, mask, words, first_head):
    """[B, T, H K] from q, k and v of that shape."""
    return _forward(plan, q, k, v, mask, words, first_head)[0]


def _attention_forward(plan, q, k, v, mask, words, first_head):
    y, lse = _forward(plan, q, k, v, mask, words, first_head)
    return y, (q, k, v, mask, words, first_head, lse)


def _attention_backward(plan, saved, g):
    q, k, v, mask, words, first_head, lse = saved
    inputs = [words, first_head, ("queries", q), ("keys", k), ("keys", v), *_masks(plan, mask)]
    inputs += [("lse", lse), ("queries", g)]
    outputs = [("queries", _like(q)), ("keys", _like(k)), ("keys", _like(v))]
    scratch = [pltpu.VMEM((plan.keys, _LANES), jnp.float32)] * 2
    dq, dk, dv = _call(plan, _backward_kernel, "tx_rows_backward", inputs, outputs, scratch, products=5)
    return dq, dk, dv, None, None, None


_attention.defvjp(_attention_forward, _attention_backward)


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
    an array [B, H, T, S], on every mesh.

    Args:
      interpret: run on any platform, for tests.
    """

    def kernel(q, k, v, mask, first_row, first_head, key=None):
        batch, queries, heads, head_dim = q.shape
        keys = k.shape[1]
        plan = _plan(queries, keys, heads, head_dim, dropout_rate if key is not None else 0.0, mask, interpret)
        words = jnp.zeros((batch, 2), jnp.uint32) if key is None else row_words(key, first_row, batch)
        y = _attention(
            plan, *(x.reshape(*x.shape[:2], -1) for x in (q, k, v)), mask, words, jnp.full(1, first_head, jnp.int32)
        )
        return y.reshape(q.shape)

    return on_shards(kernel, q_BTHK, k_BSHK, v_BSHK, mask, *([dropout_key] if dropout_rate else []))


def _plan(queries, keys, heads, head_dim, rate, mask, interpret, block=None, groups=None):
    count = pl.cdiv(heads * head_dim, _LANES)
    return _Plan(
        queries=queries,
        keys=keys,
        heads=heads,
        head_dim=head_dim,
        groups=groups or max(n for n in range(1, count + 1) if count % n == 0 and (n == 1 or n * queries <= 1024)),
        block=block or _LANES,
        rate=rate,
        causal=mask.causal,
        window=mask.window,
        has_valid=mask.valid_BS is not None,
        has_documents=mask.documents_BT is not None,
        interpret=interpret,
    )

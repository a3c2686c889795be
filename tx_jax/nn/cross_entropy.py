"""The output layer of a language model, and the cross entropy of its logits, which never exist all at once in float32.

Shapes: N rows, E width of the table, V vocabulary, C chunks, P parts of the rows that lie on one device each.
"""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.nn.dense import kernel_gradient
from tx_jax.nn.sums import sum_over

# How many logits of one device exist at once: 256 MiB in bfloat16, and 1280 rows for a vocabulary of 100,000.
CHUNK = 2**27
# A logit that exceeds the target's by more counts as if by so much: e^75 times any vocabulary is still a float32.
# So a loss above 75 nats is too small, and its gradient pushes all such logits down alike; both stay finite.
LARGEST = 75.0


@flax.struct.dataclass
class OutputLayer:
    """What the logits of a language model are the product of: hidden table^T + bias.

    Attributes:
      hidden: [..., E], in the dtype of the product.
      table: [V, E], float32.
      bias: [V] float32, or None.
      shares: [P, V, E], the `sharding.shares` of the table, where it has other uses too.
    """

    hidden: jax.Array
    table: jax.Array
    bias: jax.Array | None
    shares: jax.Array | None = None

    def logits(self) -> jax.Array:
        """[..., V], float32."""
        flat = _logits(sharding.flatten_rows(self.hidden), self.table, self.bias)
        return sharding.unflatten_rows(flat, self.hidden.shape[:-1])

    def cross_entropy(self, targets: jax.Array, weights: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The sum of weight * cross entropy in nats, and of weight * (1 if no logit is above the target's), float32.

        The gradient, of the first sum alone and not with respect to the weights, is computed along with it, from
        logits rounded to the dtype of the product: what is kept for the backward pass is as large as `hidden`, the
        table and the bias.

        Args:
          targets: [...], ids below V.
          weights: [...], float32.
        """
        flat = sharding.flatten_rows
        rows = (self.hidden, targets[..., None], weights[..., None])
        hidden_NE, targets_N1, weights_N1 = map(flat, rows)
        shares_PVE = sharding.shares(self.table, "vocab", None) if self.shares is None else self.shares
        shares_PV = None if self.bias is None else sharding.shares(self.bias, "vocab")
        values = jax.lax.stop_gradient((self.table, self.bias))
        chunks = num_chunks(len(hidden_NE), len(self.table))
        return _sums(hidden_NE, values, (shares_PVE, shares_PV), targets_N1[:, 0], weights_N1[:, 0], chunks)


def num_chunks(rows: int, vocabulary: int) -> int:
    """The number of equal chunks of each device's rows: as few as keep the logits of one below `CHUNK`."""
    rows //= sharding.row_parts(rows)
    return next(n for n in range(1, rows + 1) if rows % n == 0 and (rows // n * vocabulary <= CHUNK or n == rows))


def _logits(hidden_NE: jax.Array, table_VE: jax.Array, bias_V: jax.Array | None) -> jax.Array:
    """[N, V], accumulated in float32."""
    logits_NV = jnp.dot(hidden_NE, table_VE.astype(hidden_NE.dtype).T, preferred_element_type=jnp.float32)
    return logits_NV if bias_V is None else logits_NV + bias_V[None]


@flax.struct.dataclass
class _Losses:
    """Of each row the loss, and 1 if no logit is above the target's; and what the gradient needs.

    Attributes:
      above_NV: by how much the logit exceeds the target's, in the dtype of the product; -inf for the target.
    """

    losses_N: jax.Array
    correct_N: jax.Array
    above_NV: jax.Array

    def sums(self, weights_N: jax.Array) -> tuple[jax.Array, jax.Array]:
        return (self.losses_N * weights_N).sum(), (self.correct_N * weights_N).sum()


def _losses(hidden_NE: jax.Array, table_VE: jax.Array, bias_V: jax.Array | None, targets_N: jax.Array) -> _Losses:
    """A loss is log(1 + sum of exp(logit - target's logit) over the other logits).

    The target's logit is computed first, by itself. So the sum, and whether another logit is larger, are computed where
    the logits are, by one pass over them before they are rounded.
    """
    logits_NV, is_target_NV = _logits(hidden_NE, table_VE, bias_V), _is_target(targets_N, len(table_VE))
    if sharding.splits_kernels():  # the rows of a table in parts would have to be sent
        target_N = jnp.where(is_target_NV, logits_NV, 0).sum(axis=1)
    else:
        rows_NE = table_VE[targets_N].astype(hidden_NE.dtype)
        target_N = (hidden_NE.astype(jnp.float32) * rows_NE.astype(jnp.float32)).sum(axis=1)
        target_N = target_N if bias_V is None else target_N + bias_V[targets_N]
    above_NV = jnp.where(is_target_NV, -jnp.inf, logits_NV - target_N[:, None])
    # A limit for each row: of a single one, XLA's fused products on CPUs read an array [N, V], which is written first.
    limits_N = jax.lax.optimization_barrier(jnp.full(len(targets_N), LARGEST))
    losses_N = jnp.log1p(jnp.exp(jnp.minimum(above_NV, limits_N[:, None])).sum(axis=1))
    correct_N = (above_NV.max(axis=1) <= 0).astype(jnp.float32)
    # Rounded, a difference is more exact than a logit is: the larger the probability, the smaller it is.
    return _Losses(losses_N, correct_N, above_NV.astype(hidden_NE.dtype))


def _is_target(targets_N: jax.Array, vocabulary: int) -> jax.Array:
    """[N, V]."""
    shape = (len(targets_N), vocabulary)
    return jax.lax.broadcasted_iota(jnp.int32, shape, 1) == targets_N[:, None]


def _gradients(
    hidden_PNE: jax.Array, table_VE: jax.Array, bias_V: jax.Array | None, targets_PN: jax.Array, weights_PN: jax.Array
) -> tuple[tuple[jax.Array, jax.Array], jax.Array, tuple[jax.Array, jax.Array | None]]:
    """The two sums over some rows, and the first's gradient with respect to hidden, and to table and bias: of those,
    each part's share of the sum, [P, V, E] and [P, V], float32."""
    hidden_NE, targets_N, weights_N = (x.reshape(-1, *x.shape[2:]) for x in (hidden_PNE, targets_PN, weights_PN))
    rows = _losses(hidden_NE, table_VE, bias_V, targets_N)
    losses_N1 = rows.losses_N[:, None]
    # Without the barrier the compiler may keep the differences in float32.
    above_NV = jax.lax.optimization_barrier(rows.above_NV).astype(jnp.float32)
    others_NV = jnp.exp(jnp.minimum(above_NV, LARGEST) - losses_N1)
    gradient_NV = jnp.where(_is_target(targets_N, len(table_VE)), jnp.expm1(-losses_N1), others_NV)
    gradient_NV = gradient_NV * weights_N[:, None]
    rounded_NV = gradient_NV.astype(hidden_NE.dtype)
    hidden = jnp.dot(rounded_NV, table_VE.astype(hidden_NE.dtype))
    parts = hidden_PNE.shape[:2]
    table_gradient = functools.partial(kernel_gradient, dtype=jnp.float32)
    table = jax.vmap(table_gradient)(rounded_NV.reshape(*parts, -1), hidden_PNE)
    bias = None if bias_V is None else sum_over(rounded_NV.reshape(*parts, -1), (1,))
    return rows.sums(weights_N), hidden.reshape(hidden_PNE.shape), (table, bias)


_TableAndBias = tuple[jax.Array, jax.Array | None]


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def _sums(
    hidden_NE: jax.Array,
    values: _TableAndBias,
    shares: _TableAndBias,
    targets_N: jax.Array,
    weights_N: jax.Array,
    chunks: int,
) -> tuple[jax.Array, jax.Array]:
    """The sums that `OutputLayer.cross_entropy` returns.

    Args:
      values: table and bias, without a gradient.
      shares: their `sharding.shares`, which are not read and have the gradient.
    """

    def body(carry: tuple[jax.Array, jax.Array], rows: tuple) -> tuple[tuple[jax.Array, jax.Array], None]:
        hidden_NE, targets_N, weights_N = (x.reshape(-1, *x.shape[2:]) for x in rows)
        found = _losses(hidden_NE, *values, targets_N).sums(weights_N)
        return jax.tree.map(jnp.add, carry, found), None

    zeros = jnp.zeros(()), jnp.zeros(())
    return _over_chunks(body, zeros, _chunked((hidden_NE, targets_N, weights_N), chunks))[0]


def _sums_forward(
    hidden_NE: jax.Array,
    values: _TableAndBias,
    shares: _TableAndBias,
    targets_N: jax.Array,
    weights_N: jax.Array,
    chunks: int,
) -> tuple[tuple[jax.Array, jax.Array], tuple]:
    """The sums, and the first's gradient: with the logits at hand it is cheaper than to compute them again."""
    rows = _chunked((hidden_NE, targets_N, weights_N), chunks)
    of_rows, parts = rows[0].shape[1], len(shares[0])

    def body(carry: tuple, rows: tuple) -> tuple[tuple, jax.Array]:
        hidden, targets, weights = rows
        sums, hidden, shared = _gradients(hidden, *values, targets, weights)
        return _split(jax.tree.map(jnp.add, carry, (sums, shared))), hidden

    zeros = jax.tree.map(lambda x: jnp.zeros((of_rows, *x.shape)), values)
    start = _split(((jnp.zeros(()), jnp.zeros(())), zeros))
    (sums, (table, bias)), hidden_CPNE = _over_chunks(body, start, rows)
    table_PVE = sharding.of_shares(table, parts, "vocab", None)
    bias_PV = None if bias is None else sharding.of_shares(bias, parts, "vocab")
    return sums, (hidden_CPNE.swapaxes(0, 1).reshape(hidden_NE.shape), (table_PVE, bias_PV))


def _sums_backward(chunks: int, saved: tuple, gradient: tuple[jax.Array, jax.Array]) -> tuple:
    hidden_NE, shares = jax.tree.map(lambda x: (x * gradient[0]).astype(x.dtype), saved)
    return hidden_NE, None, shares, None, None


_sums.defvjp(_sums_forward, _sums_backward)


def _over_chunks(body: Callable, carry: Any, rows: tuple[jax.Array, ...]) -> tuple[Any, Any]:
    """`jax.lax.scan`; one chunk alone needs no loop."""
    if len(rows[0]) > 1:
        return jax.lax.scan(body, carry, rows)
    carry, made = body(carry, jax.tree.map(lambda x: x[0], rows))
    return carry, jax.tree.map(lambda x: x[None], made)


def _chunked(rows: tuple[jax.Array, ...], chunks: int) -> tuple[jax.Array, ...]:
    """Arrays [N, ...] as [C, P, N / (C P), ...]: each device has its rows of every chunk."""
    parts = sharding.row_parts(len(rows[0]))

    def one(x: jax.Array) -> jax.Array:
        x = x.reshape(parts, chunks, -1, *x.shape[1:]).swapaxes(0, 1)
        return sharding.constrain(x, None, "rows", *[None] * (x.ndim - 2))

    return tuple(map(one, rows))


def _split(carry: tuple) -> tuple:
    """The gradients of table and bias in their parts, one on each device: so they are summed over the devices once."""
    sums, (table_PVE, bias_PV) = carry
    table_PVE = sharding.constrain(table_PVE, "rows", "vocab", None)
    return sums, (table_PVE, None if bias_PV is None else sharding.constrain(bias_PV, "rows", "vocab"))

"""Embeddings: token, position and segment tables summed, normalized, dropped out (Devlin et al. 2018, figure 2).

Shapes: B batch, T length, E width of the tables, D model, V vocabulary.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn.dense import Dense, truncated_normal
from tx_jax.nn.dropout import Dropout
from tx_jax.nn.norm import LayerNorm
from tx_jax.nn.param import param


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rows_of(shape: tuple[int, int, int], table_VE: jax.Array, shares_PVE: jax.Array, ids: jax.Array) -> jax.Array:
    """Rows of the table, [..., E]. Its gradient is that of the shares, which have this shape and are not read."""
    return jnp.take(table_VE, ids, axis=0, mode="clip")


def _rows_of_backward(shape: tuple[int, int, int], ids: jax.Array, gradient: jax.Array) -> tuple:
    parts, size, dim = shape
    ids_N, gradient_NE = sharding.flatten_rows(ids[..., None])[:, 0], sharding.flatten_rows(gradient)
    of_rows = sharding.row_parts(len(ids_N))

    def one(ids_N: jax.Array, gradient_NE: jax.Array) -> jax.Array:
        return jnp.zeros((size, dim), gradient.dtype).at[ids_N].add(gradient_NE, mode="clip")

    made = jax.vmap(one)(ids_N.reshape(of_rows, -1), gradient_NE.reshape(of_rows, -1, dim))
    return None, sharding.of_shares(made, parts, "vocab", None), None


_rows_of.defvjp(
    lambda shape, table, shares, ids: (_rows_of(shape, table, shares, ids), ids),
    _rows_of_backward,
)


class Embedding(nn.Module):
    """A table [size, dim], float32. Look-ups and an output layer that is tied to it share its gradient's `shares`."""

    size: int
    dim: int
    init_stddev: float

    def setup(self):
        embedding = param(self, "embedding", truncated_normal(self.init_stddev), (self.size, self.dim))
        self.table = sharding.gather_param(embedding, (*self.path, "embedding"))
        self.shares = sharding.shares(self.table, "vocab", None)

    def __call__(self, ids: jax.Array) -> jax.Array:
        """Rows of the table. Ids outside it are the caller's error: XLA clamps them silently."""
        return _rows_of(self.shares.shape, jax.lax.stop_gradient(self.table), self.shares, ids)

    def select(self, ids: jax.Array) -> jax.Array:
        """The same as a call, for a table of few rows: without a gather, whose gradient is a slow scatter."""
        rows = self.table.reshape(self.size, *(1,) * ids.ndim, self.dim)
        ids = ids[..., None]
        return functools.reduce(
            lambda x, i: jnp.where(ids == i, rows[i], x), range(1, self.size), jnp.where(ids < 1, rows[0], rows[-1])
        )


def sinusoids(positions_BT: jax.Array, dim: int, *, halves: bool = False) -> jax.Array:
    """PE(p, 2i) = sin(p / 10000^(2i/D)), PE(p, 2i+1) = cos of the same (Vaswani et al. 2017, 3.5): [B, T, D].

    Args:
      halves: all sines first, then all cosines.
    """
    rates = 10_000 ** (-jnp.arange(0, dim, 2, dtype=jnp.float32) / dim)
    angles = positions_BT[:, :, None].astype(jnp.float32) * rates[None, None]
    sines, cosines = jnp.sin(angles), jnp.cos(angles)
    if halves:
        return jnp.concatenate([sines, cosines], axis=-1)
    return jnp.stack([sines, cosines], axis=-1).reshape(*positions_BT.shape, dim)


def row_positions(tokens_BT: jax.Array) -> jax.Array:
    """0, 1, ... along each row: [B, T]."""
    return jnp.broadcast_to(jnp.arange(tokens_BT.shape[1])[None], tokens_BT.shape)


def token_positions(valid_BT: jax.Array) -> jax.Array:
    """0, 1, ... for the tokens of each row, on whichever side the padding is; -1 for padding: [B, T]."""
    valid = valid_BT.astype(jnp.int32)
    return jnp.cumsum(valid, axis=1) * valid - 1


class Embeddings(nn.Module):
    """token + position + segment; then LayerNorm, dropout and, for smaller tables, the projection to D.

    Attributes:
      has_tokens: whether it has a table of tokens; without one, `__call__` is given another's.
    """

    config: TransformerConfig
    has_tokens: bool = True

    def setup(self):
        config = self.config
        dim, stddev = config.table_dim, config.init_stddev
        if self.has_tokens:
            self.token = Embedding(config.vocab_size, dim, stddev)
        if config.position_embedding == "learned":
            self.position = Embedding(config.max_length + config.position_offset, dim, stddev)
        if config.num_segments:
            self.segment = Embedding(config.num_segments, dim, stddev)
        if config.embedding_norm:
            self.norm = LayerNorm(config.layer_norm_eps, use_bias=config.use_bias)
        if dim != config.dim:
            self.project = Dense(config.dim, stddev, jnp.dtype(config.dtype))
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        tokens_BT: jax.Array,
        *,
        segments_BT: jax.Array | None,
        positions_BT: jax.Array | None,
        deterministic: bool,
        token: Embedding | None = None,
    ) -> jax.Array:
        """[B, T, D]. Without `segments_BT` every token is in segment 0. `positions_BT` count from 0; without them, a
        token's position is its index in the row. `token`: the table of tokens, if it is another's."""
        config = self.config
        x_BTE = (self.token if token is None else token)(tokens_BT)
        if config.embedding_scale:
            x_BTE = x_BTE * config.table_dim**0.5
        if config.num_segments:
            segments_BT = jnp.zeros((1, 1), jnp.int32) if segments_BT is None else segments_BT
            x_BTE = x_BTE + self.segment.select(segments_BT)
        if config.position_embedding == "learned":
            x_BTE = x_BTE + self._learned_positions(positions_BT, tokens_BT.shape[1])
        elif config.position_embedding in ("sinusoidal", "sinusoidal_halves"):
            positions_BT = row_positions(tokens_BT[:1]) if positions_BT is None else positions_BT
            halves = config.position_embedding == "sinusoidal_halves"
            x_BTE = x_BTE + sinusoids(positions_BT, config.table_dim, halves=halves)
        if config.embedding_norm:
            x_BTE = self.norm(x_BTE)
        x_BTE = self.dropout(x_BTE.astype(jnp.dtype(config.dtype)), deterministic=deterministic)
        return self.project(x_BTE) if config.table_dim != config.dim else x_BTE

    def _learned_positions(self, positions_BT: jax.Array | None, length: int) -> jax.Array:
        offset = self.config.position_offset
        if positions_BT is not None:
            return self.position(positions_BT + offset)
        if sharding.length_parts(length) > 1:  # each device has its part of the positions, but not of the table
            return self.position(offset + jnp.arange(length)[None])
        return self.position.table[None, offset : offset + length]  # the rows in their order: nothing is gathered

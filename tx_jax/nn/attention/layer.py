"""The multi-head layer around attention.

Shapes: B batch, T query length, S key length, D model, H heads, K head dim, P relative positions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn.attention import cache, choice, xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.dense import Dense, from_heads, project, residual_stddev, to_heads
from tx_jax.nn.masks import Mask
from tx_jax.nn.rotary import rotate


class MultiHeadAttention(nn.Module):
    """Multi-head attention (Vaswani et al. 2017, section 3.2.2), heads folded into 2-D kernels.

    Sows `probabilities` [B, H, T, S], before dropout, into the collection "intermediates" where it is collected; they
    are computed only then.

    With a collection "cache", self-attention adds its keys and values to it, from the place `mask.first_query` on; with
    `first_query`, queries read those of the cache, without it (a row's beginning) only their own. Attention to another
    sequence writes its keys and values to a collection "memory" that may be changed, and reads them from one that may
    not; queries of n times as many rows read each of them n times.
    """

    config: TransformerConfig

    @nn.compact
    def __call__(
        self,
        x_BTD: jax.Array,
        context_BSD: jax.Array,
        *,
        mask: Mask,
        angles_BTR: jax.Array | None = None,
        table_PD: jax.Array | None = None,
        deterministic: bool,
    ) -> jax.Array:
        """What each position of x reads from the context (x itself in self-attention): [B, T, D].

        Args:
          angles_BTR: rotary angles for both queries and keys.
          table_PD: DeBERTa's relative positions; `config.relative_attention` says which terms use them.
        """
        config = self.config
        dtype = jnp.dtype(config.dtype)

        rate = 0.0 if deterministic else config.attention_dropout
        capture = self.is_mutable_collection("intermediates")
        remembers = context_BSD is not x_BTD and self.has_variable(cache.MEMORY, "key")
        # Several rows that read the same keys are queries of one row: [B, N T / B, H, K].
        batch, keys = context_BSD.shape[:2]
        if remembers:
            batch, _, keys, _ = self.get_variable(cache.MEMORY, "key").shape
        case = self._case(x_BTD.shape[0] * x_BTD.shape[1] // batch, keys, mask, rate, capture)
        name = "xla" if self.is_initializing() else config.attention  # parameters do not depend on it
        chosen = choice.choose(name, case, training=not deterministic)

        # Where kernels or sequences are split over devices, the rows must be flattened.
        whole = not sharding.splits_kernels() and case.length_parts == 1
        decodes = case.cached or remembers
        by_heads = case.platform == "tpu" and chosen.tokens_last and whole and not decodes

        def dense(name: str, use_bias: bool, form: str = "into heads", stddev: float = config.init_stddev) -> Dense:
            form = form if by_heads else None
            return Dense(config.dim, stddev, dtype, use_bias=use_bias and config.use_bias, form=form, name=name)

        def heads(y: jax.Array) -> jax.Array:
            if by_heads and y.ndim == 3:
                return to_heads(y, config.num_heads)
            return y.reshape(*y.shape[:-1], config.num_heads, config.head_dim)

        query, key, value = dense("query", True), dense("key", config.key_bias), dense("value", True)
        if context_BSD is x_BTD:
            projected = project(x_BTD, query, key, value)
        elif remembers:
            projected = (query(x_BTD),)
        else:
            projected = query(x_BTD), *project(context_BSD, key, value)
        q_BTHK, *keys_values = map(heads, projected)
        if remembers:
            keys_values = [cache.read(self.get_variable(cache.MEMORY, name)) for name in ("key", "value")]
        k_BSHK, v_BSHK = keys_values
        if angles_BTR is not None:
            q_BTHK, k_BSHK = rotate(q_BTHK, angles_BTR), rotate(k_BSHK, angles_BTR)
        k_BSHK, v_BSHK = sharding.gather_length(k_BSHK), sharding.gather_length(v_BSHK)
        keep = self._cached if context_BSD is x_BTD else self._remembered
        k_BSHK, v_BSHK = keep(k_BSHK, v_BSHK, mask)
        rows_BTHK = q_BTHK.reshape(len(k_BSHK), -1, *q_BTHK.shape[2:])
        rows = {}
        if "c2p" in config.relative_attention:
            layer = key if config.share_relative_projections else dense("relative_key", config.key_bias)
            rows["c2p"] = heads(layer(table_PD))
        if "p2c" in config.relative_attention:
            layer = query if config.share_relative_projections else dense("relative_query", True)
            rows["p2c"] = heads(layer(table_PD))
        relative = xla.Relative(config, rows) if rows else None
        if capture:
            self.sow("intermediates", "probabilities", xla.probabilities(rows_BTHK, k_BSHK, mask, relative))
        y_BTHK = chosen.attend(
            rows_BTHK,
            k_BSHK,
            v_BSHK,
            mask,
            dropout_rate=rate,
            dropout_key=self.make_rng("dropout") if rate else None,
            **({"relative": relative} if relative else {}),
        ).reshape(q_BTHK.shape)
        out = dense("out", True, "out of heads", residual_stddev(config))
        return out(from_heads(y_BTHK) if by_heads else y_BTHK.reshape(x_BTD.shape))

    def _cached(self, k_BTHK: jax.Array, v_BTHK: jax.Array, mask: Mask) -> tuple[jax.Array, jax.Array]:
        """Adds new keys and values to the cache, if there is one; returns those that the queries read."""
        if not self.has_variable(cache.CACHE, "key"):
            return k_BTHK, v_BTHK
        wholes = []
        for name, x_BTHK in (("key", k_BTHK), ("value", v_BTHK)):
            whole = cache.written(self.get_variable(cache.CACHE, name), x_BTHK, mask.first_query)
            self.put_variable(cache.CACHE, name, whole)
            wholes.append(cache.read(whole))
        return (k_BTHK, v_BTHK) if mask.first_query is None else (wholes[0], wholes[1])

    def _remembered(self, k_BSHK: jax.Array, v_BSHK: jax.Array, mask: Mask) -> tuple[jax.Array, jax.Array]:
        """Writes the keys and values of another sequence to "memory", if it may be changed; returns them."""
        if self.is_mutable_collection(cache.MEMORY) and not self.is_initializing():
            self.put_variable(cache.MEMORY, "key", cache.stored(k_BSHK))
            self.put_variable(cache.MEMORY, "value", cache.stored(v_BSHK))
        return k_BSHK, v_BSHK

    def _case(self, queries: int, keys: int, mask: Mask, rate: float, capture: bool) -> Case:
        return Case(
            platform=sharding.platform(),
            dtype=self.config.dtype,
            queries=queries,
            keys=keys,
            head_dim=self.config.head_dim,
            dropout=rate,
            padding=mask.valid_BS is not None,
            causal=mask.causal,
            window=mask.window,
            documents=mask.documents_BT is not None,
            cached=mask.first_query is not None,
            relative=bool(self.config.relative_attention),
            capture=capture,
            length_parts=sharding.length_parts(queries),
            device_kind=sharding.device_kind(),
        )

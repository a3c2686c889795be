"""Which keys each query may attend to, as structure: an implementation of attention makes of it what it needs.

Shapes: B batch, T query length, S key length, H heads.
"""

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Mask:
    """A query may attend to the keys that all fields allow.

    Attributes:
      valid_BS: True for the keys that are tokens; None = all are.
      documents_BT: in self-attention the number of the document that each token belongs to; a query may attend only
        within its own. None = one document.
      causal: a query may attend to itself and to the keys before it.
      window: a query may attend to at most `window` / 2 keys on either side (Beltagy et al. 2020); 0 = to any.
      first_query: the place of the first query among the keys, int32 [], or [B] where it differs from row to row; the
        queries are fewer than the keys that `causal` and `window` count, as with a cache. None = 0.
    """

    valid_BS: jax.Array | None = None
    documents_BT: jax.Array | None = None
    causal: bool = flax.struct.field(pytree_node=False, default=False)
    window: int = flax.struct.field(pytree_node=False, default=0)
    first_query: jax.Array | None = None

    def dense(self, queries: int, keys: int) -> jax.Array | None:
        """True = may attend; broadcasts to [B, H, T, S]. None = every query may attend to every key."""
        parts = []
        if self.valid_BS is not None:
            parts.append(self.valid_BS[:, None, None, :])
        if self.documents_BT is not None:
            parts.append((self.documents_BT[:, :, None] == self.documents_BT[:, None, :])[:, None])
        if self.causal or self.window:
            first_B = jnp.zeros(1, jnp.int32) if self.first_query is None else jnp.reshape(self.first_query, -1)
            query_BT = jnp.arange(queries)[None] + first_B[:, None]
            distance_BTS = query_BT[:, :, None] - jnp.arange(keys)[None, None]
            if self.causal:
                parts.append((distance_BTS >= 0)[:, None])
            if self.window:
                parts.append((jnp.abs(distance_BTS) <= self.window // 2)[:, None])
        mask = None
        for part in parts:
            mask = part if mask is None else mask & part
        return mask


def continued(valid_BT: jax.Array, documents_BT: jax.Array | None, first_B: jax.Array | None) -> Mask:
    """The mask of a causal model. After `first_B` tokens in a cache, which are all valid, no key needs another."""
    if first_B is None:
        return Mask(valid_BT, documents_BT, causal=True)
    return Mask(causal=True, first_query=first_B)

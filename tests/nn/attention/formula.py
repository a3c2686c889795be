"""Attention by its formula with a dense mask and nothing clever: what every implementation is compared with."""

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.nn.dropout import kept
from tx_jax.nn.masks import Mask


def attend(q, k, v, mask: Mask, *, dropout_rate: float = 0.0, dropout_key=None, more_scores=(), terms: int = 1):
    scores = sum(more_scores, jnp.einsum("bthk,bshk->bhts", q, k, preferred_element_type=jnp.float32))
    scores = scores / np.sqrt(q.shape[-1] * terms)
    may_attend = may(mask, q.shape[1], k.shape[1])
    probabilities = jax.nn.softmax(jnp.where(may_attend, scores, -1e30), axis=-1)
    if dropout_rate:
        keep, factor = kept(dropout_key, dropout_rate, probabilities.shape)
        probabilities = probabilities * keep * factor
    return jnp.einsum("bhts,bshk->bthk", probabilities.astype(v.dtype), v)


def may(mask: Mask, queries: int, keys: int) -> np.ndarray | jax.Array:
    """Pair by pair, from the words of the fields: True = may attend."""
    valid, documents = (None if x is None else np.array(x.tolist()) for x in (mask.valid_BS, mask.documents_BT))
    rows = [x for x in (valid, documents) if x is not None]
    result = np.ones((len(rows[0]) if rows else 1, 1, queries, keys), bool)
    first = 0 if mask.first_query is None else int(mask.first_query)
    for b, _, query, key in np.ndindex(result.shape):
        distance = first + query - key
        result[b, 0, query, key] = (
            (valid is None or valid[b, key])
            and (documents is None or documents[b, query] == documents[b, key])
            and (not mask.causal or distance >= 0)
            and (not mask.window or abs(distance) <= mask.window / 2)
        )
    return result

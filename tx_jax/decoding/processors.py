"""What changes the distribution that a token is drawn from: each takes logits and returns logits, -inf for a token that
cannot be drawn. They follow one another as in transformers: penalty, temperature, top-k, top-p, min-p.

Shapes: N rows, V vocabulary.
"""

import jax
import jax.numpy as jnp

_FLOAT_BITS = 31  # of a float32 that is not negative: they are ordered as its value is


def penalized(logits_NV: jax.Array, seen_NV: jax.Array, penalty: jax.Array) -> jax.Array:
    """Divides the positive logits of seen tokens by the penalty, multiplies the negative ones (Keskar et al. 2019)."""
    changed_NV = jnp.where(logits_NV < 0, logits_NV * penalty, logits_NV / penalty)
    return jnp.where(seen_NV, changed_NV, logits_NV)


def top_k(logits_NV: jax.Array, k: int) -> jax.Array:
    """Keeps the k largest logits, and those equal to the smallest of them."""
    least_N = jax.lax.top_k(logits_NV, min(k, logits_NV.shape[1]))[0][:, -1]
    return jnp.where(logits_NV < least_N[:, None], -jnp.inf, logits_NV)


def top_p(logits_NV: jax.Array, p: jax.Array) -> jax.Array:
    """Keeps the fewest most probable tokens whose probabilities add up to p, and those as probable as the last of them
    (Holtzman et al. 2019).

    Nothing is sorted: the least probability that is kept is found bit by bit, in 31 sums over the vocabulary.
    """
    probabilities_NV = jax.nn.softmax(logits_NV, axis=-1)
    bits_NV = jax.lax.bitcast_convert_type(probabilities_NV, jnp.int32)

    def halve(i: jax.Array, least_N: jax.Array) -> jax.Array:
        higher_N = least_N | (1 << (_FLOAT_BITS - 1 - i))
        kept_N = jnp.where(bits_NV >= higher_N[:, None], probabilities_NV, 0).sum(axis=-1)
        return jnp.where(kept_N >= p, higher_N, least_N)

    # Where rounding leaves the sum of all below p, all are kept.
    least_N = jax.lax.fori_loop(0, _FLOAT_BITS, halve, jnp.zeros(len(logits_NV), jnp.int32))
    return jnp.where(bits_NV < least_N[:, None], -jnp.inf, logits_NV)


def min_p(logits_NV: jax.Array, p: jax.Array) -> jax.Array:
    """Keeps the tokens that are at least p times as probable as the most probable one (Nguyen et al. 2024)."""
    probabilities_NV = jax.nn.softmax(logits_NV, axis=-1)
    least_N = p * probabilities_NV.max(axis=-1)
    return jnp.where(probabilities_NV < least_N[:, None], -jnp.inf, logits_NV)

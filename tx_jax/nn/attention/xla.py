"""Attention from plain array operations, for every device and with every feature.

The scores, [B, H, T, S] in float32, exist only within the forward pass and, computed once more, within the backward
pass. Between the two only the inputs, the output and two numbers a query are kept (Dao et al. 2022, section 3.1, but
without tiles).

Shapes: B batch, T query length, S key length, H heads, K head dim.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.nn.attention.case import Case
from tx_jax.nn.dropout import kept, regenerated
from tx_jax.nn.masks import Mask
from tx_jax.nn.relative import key_scores, query_scores

# Far below any score, yet finite: a row that may attend to nothing becomes uniform, not NaN.
MASKED_SCORE = -1e30


Maker = Callable[[dict[str, jax.Array], TransformerConfig | None], jax.Array]


@dataclasses.dataclass(frozen=True)
class Relative:
    """DeBERTa's terms of the scores (He et al. 2020, equation 4).

    Attributes:
      rows: by the names in `config.relative_attention` the table of relative positions, projected, [P, H, K]: keys for
        "c2p", queries for "p2c".
    """

    config: TransformerConfig
    rows: dict[str, jax.Array]


def reason_against(case: Case) -> str | None:
    """None: it has everything."""
    return None


def attend(
    q_BTHK: jax.Array,
    k_BSHK: jax.Array,
    v_BSHK: jax.Array,
    mask: Mask,
    *,
    dropout_rate: float = 0.0,
    dropout_key: jax.Array | None = None,
    relative: Relative | None = None,
    maker: Maker | None = None,
) -> jax.Array:
    """softmax(q k^T / sqrt(K)) v (Vaswani et al. 2017, section 3.2.1), [B, T, H, K]; softmax in float32, q's dtype.

    Args:
      dropout_key: needed if there is a rate: dropout on the probabilities.
      maker: makes the unscaled scores, float32 [B, H, T, S], of the terms "q", "k" and those of `relative`.
    """
    scores, terms = _scores_of(q_BTHK, k_BSHK, relative, maker)
    return _attend(scores, dropout_rate, terms, v_BSHK, mask, dropout_key)


def probabilities(q_BTHK: jax.Array, k_BSHK: jax.Array, mask: Mask, relative: Relative | None = None) -> jax.Array:
    """softmax(q k^T / sqrt(K)), before dropout: float32 [B, H, T, S]."""
    scores, terms = _scores_of(q_BTHK, k_BSHK, relative)
    return jax.nn.softmax(_masked(scores(terms), mask)[0], axis=-1)


def _scores_of(
    q_BTHK: jax.Array, k_BSHK: jax.Array, relative: Relative | None, maker: Maker | None = None
) -> tuple["_Scores", dict[str, jax.Array]]:
    """The scores as a function, and its terms."""
    return _Scores(relative and relative.config, maker), {
        "q": q_BTHK,
        "k": k_BSHK,
        **(relative.rows if relative else {}),
    }


@dataclasses.dataclass(frozen=True)
class _Scores:
    """The scores as a function of their terms, linear in each. `config` is that of DeBERTa's terms, if there are any;
    `maker`, if it is given, makes the unscaled scores.

    With more terms, the scale accounts for their number: sqrt(K (1 + terms)) (He et al. 2020, equation 4).
    """

    config: TransformerConfig | None
    maker: Maker | None = None

    def __call__(self, terms: dict[str, jax.Array], dtype: Any = jnp.float32) -> jax.Array:
        q_BTHK, k_BSHK = terms["q"], terms["k"]
        scale = (q_BTHK.shape[-1] * (len(terms) - 1)) ** -0.5
        if self.maker:
            return self.maker(terms, self.config).astype(dtype) * scale
        product = _product_on_cpus if sharding.platform() == "cpu" else _product
        scores = product(q_BTHK, k_BSHK, dtype)
        if "c2p" in terms:
            scores = scores + query_scores(q_BTHK, terms["c2p"], self.config, dtype)
        if "p2c" in terms:
            scores = scores + key_scores(k_BSHK, terms["p2c"], self.config, dtype)
        return scores * scale


def _product(q_BTHK: jax.Array, k_BSHK: jax.Array, dtype: Any) -> jax.Array:
    return jnp.einsum("BTHK,BSHK->BHTS", q_BTHK, k_BSHK, preferred_element_type=dtype)


# The gradient of the keys as JAX writes it is a product that jaxlib 0.12 adds up in bfloat16 on CPUs, 1.3% off instead
# of 0.2%; with the factors in the other order, as `einsum` has them, it adds up in float32.
_product_on_cpus = jax.custom_vjp(_product, nondiff_argnums=(2,))


def _gradients_of_product(dtype: Any, saved: tuple[jax.Array, jax.Array], gradient_BHTS: jax.Array):
    q_BTHK, k_BSHK = saved
    dq_BTHK = jnp.einsum("BHTS,BSHK->BTHK", gradient_BHTS, k_BSHK)
    dk_BSHK = jnp.einsum("BHTS,BTHK->BSHK", gradient_BHTS, q_BTHK)
    return dq_BTHK.astype(q_BTHK.dtype), dk_BSHK.astype(k_BSHK.dtype)


_product_on_cpus.defvjp(lambda q, k, dtype: (_product(q, k, dtype), (q, k)), _gradients_of_product)


def _masked(scores: jax.Array, mask: Mask) -> tuple[jax.Array, jax.Array | None]:
    """The scores with a mask on them, and the mask."""
    may_attend = mask.dense(*scores.shape[-2:])
    return (scores if may_attend is None else jnp.where(may_attend, scores, MASKED_SCORE)), may_attend


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _attend(
    scores: _Scores, rate: float, terms: dict[str, jax.Array], v_BSHK: jax.Array, mask: Mask, key: jax.Array | None
) -> jax.Array:
    return _forward(scores, rate, terms, v_BSHK, mask, key)[0]


def _forward(scores, rate, terms, v_BSHK, mask, key):
    s_BHTS, _ = _masked(scores(terms), mask)
    maximum = s_BHTS.max(axis=-1, keepdims=True)
    e_BHTS = jnp.exp(s_BHTS - maximum)
    inverse_sum = 1 / e_BHTS.sum(axis=-1, keepdims=True)
    p_BHTS = e_BHTS * inverse_sum
    if rate:
        keep, factor = kept(key, rate, p_BHTS.shape)
        p_BHTS = jnp.where(keep, p_BHTS * factor, 0)
    y_BTHK = jnp.einsum("BHTS,BSHK->BTHK", p_BHTS.astype(v_BSHK.dtype), v_BSHK)
    return y_BTHK, (terms, v_BSHK, mask, y_BTHK, maximum, inverse_sum, key)


def _backward(scores, rate, saved, gradient_BTHK):
    *arrays, key = saved
    # Without the barrier the compiler would see that the scores are those of the forward pass, and keep them; or, if
    # they did not have to wait for the gradient, compute them early.
    arrays, gradient_BTHK = jax.lax.optimization_barrier((arrays, gradient_BTHK))
    terms, v_BSHK, mask, y_BTHK, maximum, inverse_sum = arrays
    if sharding.platform() == "cpu":  # whose compiler removes barriers before it looks for what is equal
        terms = terms | {"q": terms["q"] + 0 * gradient_BTHK}
    dtype = v_BSHK.dtype
    s_BHTS, may_attend = _masked(scores(terms), mask)
    p_BHTS = jnp.exp(s_BHTS - maximum) * inverse_sum
    dp_BHTS = jnp.einsum("BTHK,BSHK->BHTS", gradient_BTHK, v_BSHK, preferred_element_type=jnp.float32)
    dropped_BHTS = p_BHTS
    if rate:
        keep, factor = kept(regenerated(key), rate, p_BHTS.shape)
        dropped_BHTS, dp_BHTS = (jnp.where(keep, x * factor, 0) for x in (p_BHTS, dp_BHTS))
    dv_BSHK = jnp.einsum("BHTS,BTHK->BSHK", dropped_BHTS.astype(dtype), gradient_BTHK)
    # The sum of p dp over the keys, without another pass over them.
    sum_BHT = jnp.einsum("BTHK,BTHK->BHT", gradient_BTHK, y_BTHK, preferred_element_type=jnp.float32)
    ds_BHTS = p_BHTS * (dp_BHTS - sum_BHT[..., None])
    if may_attend is not None:  # p of a row that may attend to nothing is not 0
        ds_BHTS = jnp.where(may_attend, ds_BHTS, 0)
    # The derivative of a product depends on its terms, not on its value: of this second call only that remains.
    _, pull = jax.vjp(lambda terms: scores(terms, dtype), terms)
    return pull(ds_BHTS.astype(dtype))[0], dv_BSHK, None, None


_attend.defvjp(_forward, _backward)

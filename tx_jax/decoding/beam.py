"""Beam search: the most probable sequences, as far as keeping a few hypotheses finds them.

Of each prompt the 2 K best continuations of its K running hypotheses are looked at. Of the best K, those that end here
compete with the K best whole hypotheses so far; the best K that do not end here run on. So the order, and what counts
as finished, is that of transformers' search (5.x). Each prompt's search ends by itself.

Shapes: B prompts, K beams, C candidates, N = B K rows, L longest output, V vocabulary.
"""

import dataclasses
import functools
from typing import Any, Literal

import flax.struct
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.decoding import processors
from tx_jax.decoding.sampling import seen_tokens
from tx_jax.decoding.steps import Kept, Prompts, Writable, prefill, step

IMPOSSIBLE = -1e30  # the score of a hypothesis that is none; finite, so that what is added to it stays comparable


@dataclasses.dataclass(frozen=True)
class Search:
    """What a compiled search depends on, beside the shapes of its arguments.

    Attributes:
      writable: the tokens that it may write.
      longest: tokens that a hypothesis may get, at most.
      stops: how many tokens may end a hypothesis.
      the others: see `Options`.
    """

    config: TransformerConfig
    writable: Writable
    longest: int
    num_beams: int
    stops: int
    normalization: Literal["length", "gnmt"]
    early_stopping: bool | Literal["never"]
    penalizes: bool = False

    @property
    def candidates(self) -> int:
        """Enough for `num_beams` that run on, even if each beam's best continuations are those that end it."""
        wanted = (1 + max(1, self.stops)) * self.num_beams
        return min(wanted, self.num_beams * self.config.vocab_size)


@flax.struct.dataclass
class SearchKnobs:
    """What may change without compiling anew.

    Attributes:
      length_penalty, penalty (of repetition): see `Options`.
      limits_B: how many tokens each prompt's hypotheses may get; 0 for a row that only fills up the batch.
      stop_ids: tokens that end a hypothesis, [stops].
    """

    length_penalty: jax.Array
    penalty: jax.Array
    limits_B: jax.Array
    stop_ids: jax.Array


@flax.struct.dataclass
class Hypotheses:
    """The K hypotheses of each prompt.

    Attributes:
      scores_BK: the sum of the log-probabilities while they run; divided by the length penalty when they are whole.
      counts_BK: how many tokens each has, 0 where it is none yet.
    """

    tokens_BKL: jax.Array
    log_probs_BKL: jax.Array
    scores_BK: jax.Array
    counts_BK: jax.Array

    def chosen(self, indices_BK: jax.Array) -> "Hypotheses":
        return jax.tree.map(lambda x: jax.vmap(lambda rows, chosen: rows[chosen])(x, indices_BK), self)


@flax.struct.dataclass
class Beams:
    """
    Attributes:
      count: how many tokens the running hypotheses have, int32 [].
      whole: the best whole hypotheses so far, the best first.
      done_B: whether a prompt's search has ended.
      lengths_B: how many tokens each prompt has.
      seen_NV: which tokens each row has had; None without a repetition penalty.
    """

    count: jax.Array
    running: Hypotheses
    whole: Hypotheses
    done_B: jax.Array
    lengths_B: jax.Array
    seen_NV: jax.Array | None
    kept: Kept


@functools.partial(jax.jit, static_argnames=("program", "cache_size"))
def search(program: Search, params: Any, prompts: Prompts, knobs: SearchKnobs, *, cache_size: int) -> Hypotheses:
    """The best whole hypotheses of each prompt, the best first; where `counts_BK` is 0 there is none.

    One that reaches its limit is whole, too.
    """
    logits_BV, kept = prefill(program.config, params, prompts, cache_size, program.writable)
    k = program.num_beams
    seen_NV = jnp.repeat(seen_tokens(prompts, logits_BV.shape[1]), k, axis=0) if program.penalizes else None
    none = _none(program, len(logits_BV))
    beams = Beams(
        count=jnp.int32(0),
        # All beams are alike at first: only one may be continued.
        running=none.replace(scores_BK=none.scores_BK.at[:, 0].set(0.0)),
        whole=none,
        done_B=knobs.limits_B <= 0,
        lengths_B=prompts.lengths_B,
        seen_NV=seen_NV,
        kept=kept.repeated(k),
    )
    beams = _extended(program, knobs, beams, jnp.repeat(logits_BV, k, axis=0))

    def body(beams: Beams) -> Beams:
        last_BK = jax.lax.dynamic_slice_in_dim(beams.running.tokens_BKL, beams.count - 1, 1, axis=2)
        first_N = jnp.repeat(beams.lengths_B + beams.count - 1, k)
        logits_NV, kept = step(program.config, params, last_BK.reshape(-1), first_N, beams.kept, program.writable)
        return _extended(program, knobs, beams.replace(kept=kept), logits_NV)

    return jax.lax.while_loop(lambda beams: ~beams.done_B.all(), body, beams).whole


def _none(program: Search, prompts: int) -> Hypotheses:
    shape = prompts, program.num_beams
    return Hypotheses(
        tokens_BKL=jnp.zeros((*shape, program.longest), jnp.int32),
        log_probs_BKL=jnp.zeros((*shape, program.longest), jnp.float32),
        scores_BK=jnp.full(shape, IMPOSSIBLE, jnp.float32),
        counts_BK=jnp.zeros(shape, jnp.int32),
    )


def _extended(program: Search, knobs: SearchKnobs, beams: Beams, logits_NV: jax.Array) -> Beams:
    """The search after one more token."""
    candidates, beams_BC, tokens_BC = _candidates(program, knobs, beams, logits_NV)
    count = beams.count + 1
    ends_BC = (tokens_BC[:, :, None] == knobs.stop_ids[None, None]).any(axis=2)
    ends_BC = ends_BC | (count >= knobs.limits_B)[:, None]
    possible_BC = candidates.scores_BK > IMPOSSIBLE / 2

    best_BK = jax.lax.top_k(jnp.where(ends_BC, IMPOSSIBLE, candidates.scores_BK), program.num_beams)[1]
    running = candidates.chosen(best_BK)
    # Where fewer run on than there are beams, the others are none.
    taken_BK = jnp.take_along_axis(ends_BC, best_BK, axis=1)
    running = running.replace(scores_BK=jnp.where(taken_BK, IMPOSSIBLE, running.scores_BK))

    penalty = length_penalty(program.normalization, count, knobs.length_penalty)
    first_BC = jnp.arange(program.candidates)[None] < program.num_beams
    whole_BC = ends_BC & first_BC & possible_BC & ~beams.done_B[:, None]
    ended = candidates.replace(
        scores_BK=jnp.where(whole_BC, candidates.scores_BK / penalty, IMPOSSIBLE),
        counts_BK=jnp.where(whole_BC, count, 0),
    )
    both = jax.tree.map(lambda *parts: jnp.concatenate(parts, axis=1), beams.whole, ended)
    whole = both.chosen(jax.lax.top_k(both.scores_BK, program.num_beams)[1])

    from_BK = jnp.take_along_axis(beams_BC, best_BK, axis=1)
    seen_NV = beams.seen_NV
    if seen_NV is not None:
        seen_NV = jax.vmap(lambda rows, chosen: rows[chosen])(seen_NV.reshape(*from_BK.shape, -1), from_BK)
        last_N = jnp.take_along_axis(tokens_BC, best_BK, axis=1).reshape(-1)
        seen_NV = seen_NV.reshape(len(last_N), -1).at[jnp.arange(len(last_N)), last_N].set(True)
    return beams.replace(
        count=count,
        running=running,
        whole=whole,
        done_B=beams.done_B | _done(program, knobs, count, running, whole),
        seen_NV=seen_NV,
        kept=beams.kept.reordered(from_BK),
    )


def _candidates(
    program: Search, knobs: SearchKnobs, beams: Beams, logits_NV: jax.Array
) -> tuple[Hypotheses, jax.Array, jax.Array]:
    """The C best continuations of each prompt, the best first, the beam that each continues, and its last token."""
    running = beams.running
    log_probs_NV = scored_NV = jax.nn.log_softmax(logits_NV)
    if beams.seen_NV is not None:
        scored_NV = processors.penalized(log_probs_NV, beams.seen_NV, knobs.penalty)
    vocabulary = scored_NV.shape[1]
    scores_BKV = running.scores_BK[:, :, None] + scored_NV.reshape(*running.scores_BK.shape, vocabulary)
    # Ids that are no tokens have -inf.
    scores_BKV = jnp.maximum(scores_BKV, 2 * IMPOSSIBLE)
    scores_BC, indices_BC = jax.lax.top_k(scores_BKV.reshape(len(scores_BKV), -1), program.candidates)
    beams_BC, tokens_BC = indices_BC // vocabulary, (indices_BC % vocabulary).astype(jnp.int32)
    token_log_probs_BC = jnp.take_along_axis(log_probs_NV.reshape(len(scores_BKV), -1), indices_BC, axis=1)
    found, place = running.chosen(beams_BC), (0, 0, beams.count)
    update = jax.lax.dynamic_update_slice
    found = found.replace(
        tokens_BKL=update(found.tokens_BKL, tokens_BC[:, :, None], place),
        log_probs_BKL=update(found.log_probs_BKL, token_log_probs_BC[:, :, None], place),
        scores_BK=scores_BC,
    )
    return found, beams_BC, tokens_BC


def length_penalty(normalization: str, count: jax.Array, exponent: jax.Array) -> jax.Array:
    """What the score of a hypothesis of so many generated tokens is divided by."""
    count = jnp.asarray(count, jnp.float32)
    return (count if normalization == "length" else (5.0 + count) / 6.0) ** exponent


def _done(program: Search, knobs: SearchKnobs, count: jax.Array, running: Hypotheses, whole: Hypotheses) -> jax.Array:
    """Whether each prompt's search is over, bool [B]; see `Options.early_stopping`."""
    full_B = (whole.counts_BK > 0).all(axis=1)
    over_B = count >= knobs.limits_B
    if program.early_stopping is True:
        return over_B | full_B
    length_B = jnp.full_like(knobs.limits_B, count)
    if program.early_stopping == "never":
        length_B = jnp.where(knobs.length_penalty > 0, knobs.limits_B, length_B)
    penalty_B = length_penalty(program.normalization, length_B, knobs.length_penalty)
    best_B = running.scores_BK[:, 0] / penalty_B
    return over_B | (full_B & (best_B <= whole.scores_BK[:, -1]))

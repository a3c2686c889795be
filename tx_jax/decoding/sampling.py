"""Decoding token by token: the most probable one, or one drawn at random.

Shapes: B prompts, N rows (the samples of a prompt follow one another), L longest output, V vocabulary.
"""

import dataclasses
import functools
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.decoding import processors
from tx_jax.decoding.steps import Kept, Prompts, Writable, prefill, step


@dataclasses.dataclass(frozen=True)
class Program:
    """What a compiled program depends on, beside the shapes of its arguments.

    Attributes:
      writable: the tokens that it may write.
      longest: tokens that a row may get, at most.
      rows: samples of each prompt.
      samples: whether tokens are drawn at random.
      top_k: see `Options`.
      filters: which of "top_p" and "min_p" are in use.
      penalizes: whether there is a repetition penalty.
    """

    config: TransformerConfig
    writable: Writable
    longest: int
    rows: int
    samples: bool
    top_k: int = 0
    filters: tuple[str, ...] = ()
    penalizes: bool = False


@flax.struct.dataclass
class Knobs:
    """What may change without compiling anew.

    Attributes:
      temperature, top_p, min_p, penalty: see `Options`.
      key: the random key of the seed.
      numbers_N, samples_N: the number of each row's prompt, and of the sample.
      limits_N: how many tokens each row may get; 0 for a row that only fills up the batch.
      stop_ids: tokens that end a row, [any number]; -1 is none.
    """

    temperature: jax.Array
    top_p: jax.Array
    min_p: jax.Array
    penalty: jax.Array
    key: jax.Array
    numbers_N: jax.Array
    samples_N: jax.Array
    limits_N: jax.Array
    stop_ids: jax.Array


@flax.struct.dataclass
class Rows:
    """
    Attributes:
      count: how many tokens the longest rows have got, int32 [].
      tokens_NL: what each row has got; 0 behind its end.
      log_probs_NL: the logarithm of the model's probability for each: that of its logits as they are, whatever then
        changed the distribution that it was drawn from.
      counts_N: how many tokens each row has got, the one that ended it included.
      finished_N: whether a row has ended.
      lengths_N: how many tokens of each row precede the last.
      seen_NV: which tokens each row has had, its prompt's included; None without a repetition penalty.
    """

    count: jax.Array
    tokens_NL: jax.Array
    log_probs_NL: jax.Array
    counts_N: jax.Array
    finished_N: jax.Array
    lengths_N: jax.Array
    seen_NV: jax.Array | None
    kept: Kept


@functools.partial(jax.jit, static_argnames=("program", "cache_size"))
def start(program: Program, params: Any, prompts: Prompts, knobs: Knobs, *, cache_size: int) -> Rows:
    """The rows with their first token."""
    logits_BV, kept = prefill(program.config, params, prompts, cache_size, program.writable)
    logits_NV, kept = jnp.repeat(logits_BV, program.rows, axis=0), kept.repeated(program.rows)
    n = len(logits_NV)
    seen_NV = jnp.repeat(seen_tokens(prompts, logits_BV.shape[1]), program.rows, axis=0) if program.penalizes else None
    rows = Rows(
        count=jnp.int32(0),
        tokens_NL=jnp.zeros((n, program.longest), jnp.int32),
        log_probs_NL=jnp.zeros((n, program.longest), jnp.float32),
        counts_N=jnp.zeros(n, jnp.int32),
        finished_N=knobs.limits_N <= 0,
        lengths_N=jnp.repeat(prompts.lengths_B, program.rows) - 1,
        seen_NV=seen_NV,
        kept=kept,
    )
    return _extended(program, knobs, rows, logits_NV)


@functools.partial(jax.jit, static_argnames=("program",), donate_argnames=("rows",))
def proceed(program: Program, params: Any, rows: Rows, knobs: Knobs, until: jax.Array) -> Rows:
    """The rows once the longest have `until` tokens, or all have ended."""

    def body(rows: Rows) -> Rows:
        last_N = jax.lax.dynamic_slice_in_dim(rows.tokens_NL, rows.count - 1, 1, axis=1)[:, 0]
        logits_NV, kept = step(program.config, params, last_N, rows.lengths_N, rows.kept, program.writable)
        return _extended(program, knobs, rows.replace(kept=kept), logits_NV)

    return jax.lax.while_loop(lambda rows: (rows.count < until) & ~rows.finished_N.all(), body, rows)


def _extended(program: Program, knobs: Knobs, rows: Rows, logits_NV: jax.Array) -> Rows:
    """One more token for each row that has not ended."""
    chosen_N = choose(program, knobs, rows, logits_NV)
    log_probs_N = jnp.take_along_axis(jax.nn.log_softmax(logits_NV), chosen_N[:, None], axis=1)[:, 0]
    going_N = ~rows.finished_N
    place = (0, rows.count)
    counts_N = rows.counts_N + going_N
    ended_N = (chosen_N[:, None] == knobs.stop_ids[None]).any(axis=1) | (counts_N >= knobs.limits_N)
    seen_NV = rows.seen_NV
    if seen_NV is not None:
        seen_NV = seen_NV.at[jnp.arange(len(chosen_N)), chosen_N].set(True)
    return rows.replace(
        count=rows.count + 1,
        tokens_NL=jax.lax.dynamic_update_slice(rows.tokens_NL, jnp.where(going_N, chosen_N, 0)[:, None], place),
        log_probs_NL=jax.lax.dynamic_update_slice(
            rows.log_probs_NL, jnp.where(going_N, log_probs_N, 0)[:, None], place
        ),
        counts_N=counts_N,
        finished_N=rows.finished_N | ended_N,
        lengths_N=rows.lengths_N + going_N,
        seen_NV=seen_NV,
    )


def choose(program: Program, knobs: Knobs, rows: Rows, logits_NV: jax.Array) -> jax.Array:
    """The next token of each row, int32 [N]."""
    if rows.seen_NV is not None:
        logits_NV = processors.penalized(logits_NV, rows.seen_NV, knobs.penalty)
    if not program.samples:
        return logits_NV.argmax(axis=1).astype(jnp.int32)
    logits_NV = filtered(program, knobs, logits_NV)

    def draw(number: jax.Array, sample: jax.Array, logits_V: jax.Array) -> jax.Array:
        key = knobs.key
        for part in (number, sample, rows.count):
            key = jax.random.fold_in(key, part)
        return jax.random.categorical(key, logits_V)

    return jax.vmap(draw)(knobs.numbers_N, knobs.samples_N, logits_NV).astype(jnp.int32)


def filtered(program: Program, knobs: Knobs, logits_NV: jax.Array) -> jax.Array:
    """The logits that tokens are drawn from."""
    logits_NV = logits_NV / knobs.temperature
    if program.top_k:
        logits_NV = processors.top_k(logits_NV, program.top_k)
    if "top_p" in program.filters:
        logits_NV = processors.top_p(logits_NV, knobs.top_p)
    if "min_p" in program.filters:
        logits_NV = processors.min_p(logits_NV, knobs.min_p)
    return logits_NV


def seen_tokens(prompts: Prompts, vocab_size: int) -> jax.Array:
    """Which tokens each prompt has, bool [B, V]; padding is none."""
    tokens_BP = prompts.tokens_BP
    valid_BP = jnp.arange(tokens_BP.shape[1])[None] < prompts.lengths_B[:, None]
    rows_B1 = jnp.arange(len(tokens_BP))[:, None]
    seen_BV = jnp.zeros((len(tokens_BP), vocab_size), bool)
    return seen_BV.at[jnp.broadcast_to(rows_B1, tokens_BP.shape), tokens_BP].max(valid_BP)

"""The model as decoding runs it: once over whole prompts, then for one token of each row at a time.

Shapes: B prompts, N rows (several of one prompt follow one another), P prompt length, S source length, T cache length,
D model, V vocabulary.
"""

import dataclasses
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp

from tx_jax.config import TransformerConfig
from tx_jax.models import registry
from tx_jax.models.output import Output
from tx_jax.nn.attention.cache import CACHE, MEMORY
from tx_jax.nn.heads import gather_positions


@flax.struct.dataclass
class Prompts:
    """
    Attributes:
      tokens_BP: padded on the right, with any id. Of an encoder-decoder, what the target begins with.
      lengths_B: how many tokens each has, at least 1.
      source_BS, source_valid_BS: what the encoder reads; None without an encoder.
    """

    tokens_BP: jax.Array
    lengths_B: jax.Array
    source_BS: jax.Array | None = None
    source_valid_BS: jax.Array | None = None


@flax.struct.dataclass
class Kept:
    """What a model keeps between tokens.

    Attributes:
      cache: keys and values of self-attention, [N, H, T, K] each: a row's own.
      memory: keys and values of attention to the source, [B, H, S, K] each: a prompt's, which all its rows share.
      memory_BSD, memory_valid_BS: the encoder's output; None without an encoder.
    """

    cache: Any
    memory: Any = None
    memory_BSD: jax.Array | None = None
    memory_valid_BS: jax.Array | None = None

    def repeated(self, times: int) -> "Kept":
        """With so many rows for each prompt."""
        return self.replace(cache=jax.tree.map(lambda x: jnp.repeat(x, times, axis=0), self.cache))

    def reordered(self, beams_BK: jax.Array) -> "Kept":
        """Of the K rows of each prompt, those with these numbers."""

        def one(x: jax.Array) -> jax.Array:
            x_BK = x.reshape(*beams_BK.shape, *x.shape[1:])
            return jax.vmap(lambda rows, chosen: rows[chosen])(x_BK, beams_BK).reshape(x.shape)

        return self.replace(cache=jax.tree.map(one, self.cache))


def for_decoding(config: TransformerConfig) -> TransformerConfig:
    """The model without what only a training needs; a kernel that has no cache is replaced by one that has."""
    return dataclasses.replace(config, remat="none", attention="auto")


class Writable(NamedTuple):
    """Which ids may be written.

    Attributes:
      size: ids from here on are no tokens: the table may be longer than the vocabulary.
      first: the tokens that must come first, whatever the model finds most probable; at most one.
      never: tokens that may not be written.
    """

    size: int
    first: tuple[int, ...] = ()
    never: tuple[int, ...] = ()

    def only(self, logits_NV: jax.Array, *, first: bool) -> jax.Array:
        """The logits, -inf for what may not be written. `first`: whether of the first token."""
        ids_1V = jnp.arange(logits_NV.shape[1])[None]
        if first and self.first:
            return jnp.where(ids_1V == self.first[0], logits_NV, -jnp.inf)
        allowed_1V = ids_1V < self.size
        for token in self.never:
            allowed_1V = allowed_1V & (ids_1V != token)
        return jnp.where(allowed_1V, logits_NV, -jnp.inf)


def prefill(
    config: TransformerConfig, params: Any, prompts: Prompts, cache_size: int, writable: Writable
) -> tuple[jax.Array, Kept]:
    """The logits [B, V] of the token after each prompt, and what the model keeps.

    Args:
      cache_size: how many tokens a row may have in the end.
      writable: the logits of other tokens are -inf.
    """
    model = registry.build(config)
    valid_BP = jnp.arange(prompts.tokens_BP.shape[1])[None] < prompts.lengths_B[:, None]
    variables = {"params": params, CACHE: empty_cache(config, len(prompts.tokens_BP), cache_size)}
    if config.architecture == "decoder":
        output, kept = model.apply(variables, prompts.tokens_BP, valid_BT=valid_BP, deterministic=True, mutable=[CACHE])
        logits_BV = writable.only(_logits(output, prompts.lengths_B - 1), first=True)
        return logits_BV, Kept(kept[CACHE])
    memory_BSD = model.apply(
        {"params": params},
        prompts.source_BS,
        valid_BS=prompts.source_valid_BS,
        deterministic=True,
        method="encode",
    )
    output, kept = model.apply(
        variables,
        prompts.tokens_BP,
        valid_BT=valid_BP,
        memory_BSD=memory_BSD,
        memory_valid_BS=prompts.source_valid_BS,
        deterministic=True,
        method="decode",
        mutable=[CACHE, MEMORY],
    )
    logits_BV = writable.only(_logits(output, prompts.lengths_B - 1), first=True)
    return logits_BV, Kept(kept[CACHE], kept[MEMORY], memory_BSD, prompts.source_valid_BS)


def step(
    config: TransformerConfig, params: Any, tokens_N: jax.Array, first_N: jax.Array, kept: Kept, writable: Writable
) -> tuple[jax.Array, Kept]:
    """The logits [N, V] of the token after these, and what the model keeps.

    Args:
      first_N: how many tokens of each row precede this one.
    """
    variables, inputs = {"params": params, CACHE: kept.cache}, {"valid_BT": jnp.ones((len(tokens_N), 1), bool)}
    method = None
    if config.architecture == "encoder_decoder":
        variables[MEMORY], method = kept.memory, "decode"
        inputs |= {"memory_BSD": kept.memory_BSD, "memory_valid_BS": kept.memory_valid_BS}
    output, changed = registry.build(config).apply(
        variables, tokens_N[:, None], **inputs, first_B=first_N, deterministic=True, method=method, mutable=[CACHE]
    )
    logits_NV = writable.only(_logits(output, jnp.zeros_like(first_N)), first=False)
    return logits_NV, kept.replace(cache=changed[CACHE])


def empty_cache(config: TransformerConfig, rows: int, size: int) -> dict[str, Any]:
    """The cache of a decoder's self-attention before any token: zeros, [rows, H, size, K] each."""
    layers = config.num_layers if config.architecture == "decoder" else config.num_decoder_layers
    shape = (rows, config.num_heads, size, config.head_dim)

    def zeros() -> jax.Array:
        return jnp.zeros(shape, jnp.dtype(config.dtype))

    return {"decoder": {f"layer_{i}": {"attention": {"key": zeros(), "value": zeros()}} for i in range(layers)}}


def _logits(output: Output, positions_N: jax.Array) -> jax.Array:
    """Float32 [N, V] at one position of each row: those of the others are not computed."""
    layer = output.output_layers["causal_lm"]
    return layer.replace(hidden=gather_positions(layer.hidden, positions_N[:, None])[:, 0]).logits()

"""The words that a masked LM finds most likely in the place of a mask."""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.config.checks import is_whole
from tx_jax.data.by_length import bucket
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.runs.trained import Trained
from tx_jax.text.tokenizer import Tokenizer


def fill_mask(model: Trained, text: str, *, top: int) -> list[list[tuple[str, float]]]:
    """For each mask in the text, by the name of the tokenizer's mask token, the `top` most likely tokens, as text,
    and their probabilities.

    Raises:
      InputError: no mask in the text, a text longer than the model, a model or tokenizer that cannot fill masks, or
        no number of tokens.
    """
    if not is_whole(top, 1):
        raise InputError(f"top={top!r}: give a number of tokens, 1 or more")
    tokenizer = model.require_masks()
    ids = [tokenizer.cls_id, *tokenizer.encode_masked(text), tokenizer.sep_id]
    if tokenizer.mask_id not in ids:
        raise InputError(f"no {tokenizer.token(tokenizer.mask_id)} in {text!r:.80}")
    if len(ids) > model.model.max_length:
        raise InputError(f"the text has {len(ids)} tokens, but the model takes at most {model.model.max_length}")
    # The model's table may be padded beyond the tokenizer's vocabulary.
    logits = _logits(model, ids, np.flatnonzero(np.array(ids) == tokenizer.mask_id))[:, : tokenizer.vocab_size]
    probabilities, best = jax.lax.top_k(jax.nn.softmax(logits), min(top, tokenizer.vocab_size))
    return [
        [(_text(tokenizer, int(i)), float(p)) for i, p in zip(row, values, strict=True)]
        for row, values in zip(best, probabilities, strict=True)
    ]


def _logits(model: Trained, ids: Sequence[int], places: np.ndarray) -> jax.Array:
    """The masked LM's logits at some places, float32 [P, V]. Texts of similar lengths share what is compiled."""
    tokens = np.zeros((1, bucket(len(ids), model.model.max_length)), np.int32)
    tokens[0, : len(ids)] = ids
    valid = np.arange(tokens.shape[1])[None] < len(ids)
    padded = np.resize(places, 1 << (len(places) - 1).bit_length())
    with jax.set_mesh(model.mesh):
        return _compiled(model.model)(model.params, tokens, valid, padded)[: len(places)]


@functools.lru_cache(maxsize=8)
def _compiled(config: TransformerConfig) -> Callable[..., jax.Array]:
    def logits(params: Any, tokens_BT: jax.Array, valid_BT: jax.Array, places: jax.Array) -> jax.Array:
        output = registry.build(config).apply(
            {"params": params}, tokens_BT, segments_BT=jnp.zeros_like(tokens_BT), valid_BT=valid_BT, deterministic=True
        )
        return output.logits["masked_lm"][0, places].astype(jnp.float32)

    return jax.jit(logits)


def _text(tokenizer: Tokenizer, token_id: int) -> str:
    """A token as text; the vocabulary's entry where it stands for white space or a part of a character."""
    text = tokenizer.decode([token_id]).strip()
    return tokenizer.token(token_id) if not text or "\N{REPLACEMENT CHARACTER}" in text else text

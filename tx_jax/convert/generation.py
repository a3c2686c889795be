"""What transformers' `generate` is told of an encoder-decoder: the keys of generation_config.json."""

from collections.abc import Mapping
from typing import Any

from tx_jax.text import Tokenizer

FILE = "generation_config.json"
KEY = "generation_config"  # of the source's config.json as a `Source` keeps it: the contents of its `FILE`
# Those that config.json has as well.
_OF_MODEL = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id")


def keys_of(tokenizer: Tokenizer, base: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Returns the keys for config.json and the whole generation_config.json.

    Args:
      base: the source's config.json as a `Source` keeps it.

    Raises:
      InputError: see `Tokenizer.pair_tokens`.
    """
    tokens = tokenizer.pair_tokens
    stated = {
        **{f"{role}_token_id": getattr(tokenizer, f"{role}_id") for role in ("pad", "bos", "eos")},
        "decoder_start_token_id": tokens.start,
        "forced_bos_token_id": tokens.first[0] if tokens.first else None,
    }
    generation = {**base.get(KEY, {}), **stated}
    if tokens.never:  # the others' probabilities add up to 1, as here
        generation |= {"bad_words_ids": [[token] for token in tokens.never], "renormalize_logits": True}
    return {key: stated[key] for key in _OF_MODEL}, generation

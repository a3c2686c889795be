"""What transformers' `generate` is told of an encoder-decoder: the keys of generation_config.json."""

from collections.abc import Mapping
from typing import Any

from tx_jax.text import Tokenizer

FILE = "generation_config.json"
KEY = "generation_config"  # of the source's config.json as a `Source` keeps it: the contents of its `FILE`
# Those that config.json has as well.
_OF_MODEL = ("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id", "forced_bos_token_id")


# What they say is done here as well, or is no setting of decoding.
_NO_SETTINGS = (
    *_OF_MODEL,
    "bad_words_ids",
    "do_sample",
    "forced_eos_token_id",  # ends what is cut off anyway
    "max_length",  # of transformers' own, with the prompt
    "renormalize_logits",
    "return_dict_in_generate",
    "use_cache",
)


def suggested(base: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of decoding that come with a model, by transformers' names, such as num_beams.

    Args:
      base: the source's config.json as a `Source` keeps it.
    """
    values = base.get(KEY, {})
    return {
        key: value
        for key, value in values.items()
        if key not in _NO_SETTINGS and not key.startswith(("_", "output_")) and value is not None
    }


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

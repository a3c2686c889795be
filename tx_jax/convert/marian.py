"""Marian (Junczys-Dowmunt et al. 2018), the family of the OPUS-MT translation models: the original Transformer.

Positions are sinusoids of which all sines come first, then all cosines; no file of a checkpoint says so. One table of
tokens serves both sides and the output layer, which has a bias.
"""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert import bart
from tx_jax.convert.family import Family, Field, value_of
from tx_jax.errors import InputError

CHANGED = {"vocab_size": Field("vocab_size", "vocab_size", 58101)}


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    tokens = value_of(config, "vocab_size", 58101)
    if (of_decoder := value_of(config, "decoder_vocab_size", tokens)) != tokens:
        raise InputError(
            f"config.json: decoder_vocab_size={of_decoder} is not supported: only vocab_size={tokens}, one vocabulary "
            "for both sides"
        )
    return bart.read_more(config, heads)


def write_more(config: TransformerConfig) -> dict[str, Any]:
    return {"decoder_vocab_size": config.vocab_size, **bart.write_more(config)}


FAMILY = Family(
    model_types={"marian": "Marian"},
    classes={("causal_lm",): "MTModel", (): "Model"},
    prefix="model.",
    fields=tuple(CHANGED.get(field.ours, field) for field in bart.FIELDS),
    constants=bart.CONSTANTS
    | {"norm_position": "post", "embedding_norm": False, "position_embedding": "sinusoidal_halves"},
    required={
        "is_encoder_decoder": True,
        "tie_word_embeddings": True,
        "share_encoder_decoder_embeddings": True,
        "normalize_before": False,
        "add_final_layer_norm": False,
        "normalize_embedding": False,
        "static_position_embeddings": True,
    },
    rules=bart.rules,
    read_more=read_more,
    write_more=write_more,
    # The sinusoids, which some versions stored.
    ignored=(r"^(model\.)?(encoder|decoder)\.embed_positions\.weight$",),
    zeros=(bart.BIAS,),
    tied=bart.TIED,
)

"""Looks up the family for a model_type in config.json, or for one of our configurations.

To add a family, write a file with a table and a `FAMILY`, and add an entry here; `tx_jax.extend` adds one from outside.
"""

from collections.abc import Mapping
from typing import Any

from tx_jax import added
from tx_jax.config import TransformerConfig
from tx_jax.convert import bart, bert, deberta, distilbert, electra, gpt2, marian, modernbert, roberta
from tx_jax.convert.family import Family
from tx_jax.errors import InputError, did_you_mean

FAMILIES: tuple[Family, ...] = (
    bert.FAMILY,
    roberta.FAMILY,
    distilbert.FAMILY,
    electra.FAMILY,
    deberta.V1,
    deberta.V2,
    modernbert.FAMILY,
    gpt2.FAMILY,
    marian.FAMILY,
    bart.BART,
    bart.MBART,
)
OF_MODEL_TYPE = {model_type: family for family in FAMILIES for model_type in family.model_types}


def of_hf_config(config: Mapping[str, Any]) -> tuple[Family, str]:
    """Returns the family and the model_type of a config.json. Raises InputError for an unsupported model_type."""
    model_type = config.get("model_type")
    if isinstance(model_type, str) and model_type in OF_MODEL_TYPE:
        return OF_MODEL_TYPE[model_type], model_type
    near = added.hint(did_you_mean(model_type, OF_MODEL_TYPE)) if isinstance(model_type, str) else ""
    given = "has no model_type" if model_type is None else f"has model_type {model_type!r}, which is not supported"
    raise InputError(f"config.json {given}: supported are {', '.join(OF_MODEL_TYPE)}.{near}")


def of_config(
    config: TransformerConfig, model_type: str | None = None, *, preferred: str | None = None
) -> tuple[Family, str]:
    """Returns the family and model_type that one of our models can be written as: `model_type` if given.

    Args:
      preferred: the model_type to choose if several fit equally well.

    Raises:
      InputError: transformers has no model with this configuration (the message names the obstacles), or the
        model_type is not supported.
    """
    if model_type not in (None, *OF_MODEL_TYPE):
        near = added.hint(did_you_mean(model_type, OF_MODEL_TYPE))
        raise InputError(f"model_type {model_type!r} is not supported: supported are {', '.join(OF_MODEL_TYPE)}.{near}")
    candidates = {
        name: family.obstacles(config) for name, family in OF_MODEL_TYPE.items() if model_type in (None, name)
    }
    nearest = min(candidates, key=lambda name: (len(candidates[name]), name != preferred))
    if candidates[nearest]:
        raise InputError(
            f"transformers has no class for this model: the nearest, {nearest}, has no {', '.join(candidates[nearest])}"
        )
    return OF_MODEL_TYPE[nearest], nearest

"""Determines which heads a checkpoint has, from its tensors, and from config.json if the tensors are ambiguous."""

import dataclasses
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.config.heads import HEADS, head_of
from tx_jax.convert.family import Family
from tx_jax.convert.hf_folder import Stored
from tx_jax.convert.rules import Shape
from tx_jax.errors import InputError, did_you_mean
from tx_jax.models import registry
from tx_jax.tree import flatten


def shapes_of(config: TransformerConfig) -> dict[str, Shape]:
    """Returns the shapes of a model's parameters by path, without allocating anything."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(registry.param_shapes(config)).items()}


def check_sizes(
    config: TransformerConfig, stored: Mapping[str, Stored], file: str, names: Mapping[str, str] | None = None
) -> None:
    """Raises InputError for sizes larger than the weights can hold, before anything of these sizes is created.

    Args:
      stored: the tensors in the weight files.
      file: the source of the configuration, for the message.
      names: our configuration fields -> their names in that source, if they differ.
    """
    values = sum(math.prod(tensor.shape) for tensor in stored.values())
    limits = {name: 2**31 - 1 for name, value in dataclasses.asdict(config).items() if type(value) is int}
    limits |= {
        "num_layers": len(stored),
        "num_decoder_layers": len(stored),
        "vocab_size": values,
        "dim": values,
        "mlp_dim": values,
        "num_labels": values,
    }
    if config.position_embedding == "learned":
        limits["max_length"] = values
    beyond = {name: getattr(config, name) for name, limit in limits.items() if getattr(config, name) > limit}
    if beyond:
        given = ", ".join(f"{(names or {}).get(name, name)}={value}" for name, value in beyond.items())
        raise InputError(
            f"{file} describes another model, with {given}: the files hold {len(stored)} tensors of {values:,} values"
        )


def names_of_heads(hf_config: Mapping[str, Any], family: Family) -> dict[str, set[str]]:
    """Returns the names of each head's own tensors; empty for a head with none, such as a tied causal LM.

    A layer that maps to our pooler belongs to the head if it is not part of the body, as in RoBERTa's classifier.
    """
    names = {}
    for head in family.heads:
        config = family.read_config(hf_config, heads=(head,))
        owned = set()
        for rule in family.rules(config):
            pools = head_of(rule.paths[0]) == "pooled" and config.needs_pooler
            if head_of(rule.paths[0]) == head or (pools and not rule.hf_names[0].startswith(family.prefix)):
                owned |= set(rule.hf_names)
        names[head] = owned.difference(family.tied, family.zeros)  # they may be present, but are not required
    return names


def detect(
    present: Collection[str], names: Mapping[str, set[str]], hints: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """Returns the heads whose tensors are present, fully or in part; includes "pooled" if there is a pooler.

    Args:
      present: the names of all tensors.
      names: for each head, the names of its own tensors.
      hints: the heads of the class that config.json names, and those that the user wants. If several heads have the
        same tensors, the first conclusive hint decides; only the first hint decides whether a head without tensors is
        present.

    Raises:
      InputError: the tensors could belong to several heads, and nothing determines which.
    """
    whole = [head for head, owned in names.items() if owned <= set(present) and (owned or head in hints[0])]
    explained = set().union(*(names[head] for head in whole))
    partly = [head for head, owned in names.items() if head not in whole and (owned & set(present)) - explained]
    chosen = []
    for head in (*whole, *partly):
        rivals = [other for other in (*whole, *partly) if other == head or names[other] & names[head]]
        favoured = [matching for hint in hints if (matching := [other for other in rivals if other in hint])]
        if len(rivals) > 1 and (not favoured or len(favoured[0]) > 1):
            raise InputError(
                f"{', '.join(sorted(names[head] & set(present)))} may be of the head {' or '.join(rivals)}, and "
                "config.json names no class that tells which: choose with --heads"
            )
        if len(rivals) == 1 or head in favoured[0]:
            chosen.append(head)
    return ordered(chosen)


def ordered(heads: Collection[str]) -> tuple[str, ...]:
    """Sorts heads into the order in which configurations list them."""
    return tuple(head for head in HEADS if head in heads)


def check_wanted(heads: Iterable[str], family: Family) -> tuple[str, ...]:
    """Returns the heads that the user requests, in order. Raises InputError for a head that the family lacks."""
    for head in heads:
        if head not in family.heads:
            near = did_you_mean(head, family.heads)
            raise InputError(f"--heads: no head {head!r} here: there are {', '.join(family.heads)}.{near}")
    return ordered(tuple(heads))

"""Which heads a checkpoint has: told by its tensors, and by config.json where these leave a choice."""

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
    """The shapes of a model's parameters by path; nothing is allocated."""
    return {path: tuple(leaf.shape) for path, leaf in flatten(registry.param_shapes(config)).items()}


def check_sizes(
    config: TransformerConfig, stored: Mapping[str, Stored], file: str, names: Mapping[str, str] | None = None
) -> None:
    """Raises InputError for sizes beyond all that weights hold, before anything is made of these sizes.

    Args:
      stored: the tensors of the weights' files.
      file: what the configuration is from, for the message.
      names: of fields of the configuration there, where they have others.
    """
    values = sum(math.prod(tensor.shape) for tensor in stored.values())
    limits = {name: 2**31 - 1 for name, value in dataclasses.asdict(config).items() if type(value) is int}
    limits |= {"num_layers": len(stored), "vocab_size": values, "dim": values, "mlp_dim": values, "num_labels": values}
    if config.position_embedding == "learned":
        limits["max_length"] = values
    beyond = {name: getattr(config, name) for name, limit in limits.items() if getattr(config, name) > limit}
    if beyond:
        given = ", ".join(f"{(names or {}).get(name, name)}={value}" for name, value in beyond.items())
        raise InputError(
            f"{file} describes another model, with {given}: the files hold {len(stored)} tensors of {values:,} values"
        )


def names_of_heads(hf_config: Mapping[str, Any], family: Family) -> dict[str, set[str]]:
    """For each head of a family the names of its own tensors; empty for one that has none, as a tied causal LM.

    What fills our pooler is a head's own where it is no part of the body: RoBERTa's classifier has such a layer.
    """
    names = {}
    for head in family.heads:
        config = family.read_config(hf_config, heads=(head,))
        owned = set()
        for rule in family.rules(config):
            pools = head_of(rule.paths[0]) == "pooled" and config.needs_pooler
            if head_of(rule.paths[0]) == head or (pools and not rule.hf_names[0].startswith(family.prefix)):
                owned |= set(rule.hf_names)
        names[head] = owned - set(family.tied)  # a copy may be there, but need not
    return names


def detect(
    present: Collection[str], names: Mapping[str, set[str]], hints: Sequence[tuple[str, ...]]
) -> tuple[str, ...]:
    """The heads whose tensors are there, wholly or in part, "pooled" among them where there is a pooler.

    Args:
      present: the names of all tensors.
      names: of each head, the names of its own.
      hints: the heads of the class that config.json names, and those that the user wants. The first that tells decides
        where tensors are the same in several heads, and the first alone whether a head without any is there.

    Raises:
      InputError: the same tensors may be those of several heads, and nothing tells which.
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
    """In the order in which configurations list them."""
    return tuple(head for head in HEADS if head in heads)


def check_wanted(heads: Iterable[str], family: Family) -> tuple[str, ...]:
    """The heads that a user asks for, in order. Raises InputError for one that the family lacks."""
    for head in heads:
        if head not in family.heads:
            near = did_you_mean(head, family.heads)
            raise InputError(f"--heads: no head {head!r} here: there are {', '.join(family.heads)}.{near}")
    return ordered(tuple(heads))

"""Determines which model a checkpoint's tensors form, and which tensors become its parameters. Only the values of tied
copies are read."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.config.heads import head_of, labeled
from tx_jax.convert.family import Family
from tx_jax.convert.heads import check_sizes, detect, names_of_heads, ordered, shapes_of
from tx_jax.convert.hf_folder import Stored
from tx_jax.convert.rules import Rule, Shape, check, covering
from tx_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Match:
    """A model and the tensors that provide its parameters.

    Attributes:
      detected: the heads that the checkpoint has.
      shapes: the shapes of the parameters that the checkpoint provides, by path; the rest must be initialized.
      rules: the rows of the family's table for these parameters.
      tensors: the tensors that those rows read, by their names in the table.
      ignored: the names of tensors that hold no parameters, or copies of tied parameters.
      left_out: the names of tensors of heads that are not wanted.
      zeros: the shapes of the parameters that are zeros because the checkpoint lacks their tensors, by path.
    """

    config: TransformerConfig
    detected: tuple[str, ...]
    shapes: Mapping[str, Shape]
    rules: list[Rule]
    tensors: Mapping[str, Stored]
    ignored: list[str]
    left_out: list[str]
    zeros: Mapping[str, Shape]


def match(
    family: Family,
    hf_config: Mapping[str, Any],
    stored: Mapping[str, Stored],
    *,
    claimed: tuple[str, ...],
    wanted: tuple[str, ...] | None,
    relabelled: bool = False,
) -> Match:
    """Finds the model.

    Args:
      hf_config: the values of config.json.
      claimed: the heads of the class that config.json names.
      wanted: the heads that the model should have; None = those that the checkpoint has.
      relabelled: whether the user set num_labels; heads with a different number of labels are then newly initialized
        instead of read.

    Raises:
      InputError: tensors are missing, unused, or have the wrong shape (all reported together); the heads are
        ambiguous; or a tied copy differs.
    """
    body = family.read_config(hf_config, heads=())
    check_sizes(body, stored, "config.json", family.hf_names)
    by_head = names_of_heads(hf_config, family)
    known = {name for rule in family.table(body) for name in rule.hf_names}
    tensors, ignored = _canonical(family, body, stored, known.union(family.tied, *by_head.values()))
    foreign = set() if wanted is None else _foreign(family, tensors, known.union(family.tied, *by_head.values()))
    detected = detect(tensors, by_head, (claimed, wanted or ()))
    if wanted is None:
        wanted = ordered(set(detected) - {"pooled"})
        if not family.read_config(hf_config, heads=wanted).needs_pooler:
            wanted = detected

    config = family.read_config(hf_config, heads=wanted)
    shapes = shapes_of(config)
    table = covering(family.table(config), shapes)
    present = family.read_config(hf_config, heads=ordered(set(wanted) & set(detected)))
    given = _given(table, shapes_of(present), tensors)
    if relabelled:
        given -= _of_other_labels(table, shapes, tensors)
    absent = set(family.zeros) - set(tensors)
    zeros = {path: shapes[path] for rule in table if absent.issuperset(rule.hf_names) for path in rule.paths}
    shapes = {path: shape for path, shape in shapes.items() if path in given and path not in zeros}
    table = covering(table, shapes)

    needed = {name for rule in table for name in rule.hf_names}
    copies = {name for name in family.tied if name in tensors and name not in needed}
    left_out = (foreign | set().union(*by_head.values()) & set(tensors)) - needed
    # A copy of a tensor that is left out is left out too.
    _check_copies(family, tensors, sorted(name for name in copies if family.tied[name] in needed))
    tensors = {name: tensor for name, tensor in tensors.items() if name not in copies | left_out}
    check({name: tensor.shape for name, tensor in tensors.items()}, table, shapes)
    return Match(config, detected, shapes, table, tensors, sorted({*ignored, *copies}), sorted(left_out), zeros)


def _canonical(
    family: Family, body: TransformerConfig, stored: Mapping[str, Stored], known: set[str]
) -> tuple[dict[str, Stored], list[str]]:
    """Returns the tensors by their names in the table, and the names of tensors that hold no parameters."""
    patterns = (*family.ignored, *family.ignored_more(body))
    tensors: dict[str, Stored] = {}
    ignored = []
    for original, tensor in stored.items():
        if any(re.search(pattern, original) for pattern in patterns):
            ignored.append(original)
            continue
        name = original
        for pattern, replacement in family.renames:
            name = re.sub(pattern, replacement, name)
        if name not in known and family.prefix + name in known:
            name = family.prefix + name
        if name in tensors:
            raise InputError(f"{original} and {tensors[name].name} are the same parameter, {name}")
        tensors[name] = tensor
    for copy, source in family.tied.items():
        if copy not in tensors:
            continue
        # If the bias is not tied, use the output layer's: transformers does not use the other one.
        if source in tensors and copy.endswith("bias") and not body.tie_embeddings:
            ignored.append(tensors.pop(source).name)
        if source not in tensors:
            tensors[source] = tensors.pop(copy)
    return tensors, ignored


def _of_other_labels(table: list[Rule], shapes: Mapping[str, Shape], tensors: Mapping[str, Stored]) -> set[str]:
    """Returns the paths of classifiers that have a different number of labels in the checkpoint."""
    heads = set()
    for rule in table:
        expected = rule.transform.hf_shapes([shapes[path] for path in rule.paths])
        found = [
            tensors[name].shape if name in tensors else shape
            for name, shape in zip(rule.hf_names, expected, strict=True)
        ]
        heads |= {*labeled((head_of(rule.paths[0]),))} if found != expected else set()
    return {path for path in shapes if head_of(path) in heads}


def _foreign(family: Family, tensors: Mapping[str, Stored], known: set[str]) -> set[str]:
    """Returns the names of tensors of an unsupported head: in no table, and not named like tensors of the body."""
    modules = {name.removeprefix(family.prefix).partition(".")[0] for name in known if name.startswith(family.prefix)}
    return {
        name
        for name in set(tensors) - known
        if not name.startswith(family.prefix) and name.partition(".")[0] not in modules
    }


def _check_copies(family: Family, tensors: Mapping[str, Stored], copies: list[str]) -> None:
    for copy in copies:
        one, other = tensors[copy], tensors[family.tied[copy]]
        equal = (one.shape, one.dtype) == (other.shape, other.dtype) and one.read().tobytes() == other.read().tobytes()
        if not equal:
            advice = ' (if they are two parameters, set "tie_word_embeddings": false there)' if one.shape[1:] else ""
            raise InputError(f"{one.name} differs from {other.name}, though config.json ties them{advice}")


def _given(table: list[Rule], present: Mapping[str, Shape], tensors: Mapping[str, Stored]) -> set[str]:
    """Returns the paths that the checkpoint must provide: those of its heads, and the pooler if it has one.

    Parameters that are needed only by heads it lacks are not required; the pooler of such heads is read if present.
    """
    return {
        path
        for rule in table
        for path in rule.paths
        if path in present or (head_of(path) == "pooled" and any(name in tensors for name in rule.hf_names))
    }

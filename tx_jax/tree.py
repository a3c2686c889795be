"""Parameter paths as strings, and tables of regular expressions over them.

A path such as `encoder/layer_3/attention/query/kernel` names a parameter everywhere: in the sharding rules, the
weight-decay mask, the parameter table and the conversion tables.
"""

import re
from collections.abc import Callable, Collection, Container, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import flax.traverse_util
import jax

from tx_jax.errors import InputError, did_you_mean

T = TypeVar("T")


def path_string(key_path: Sequence[Any]) -> str:
    """A `jax.tree_util` key path, joined by slashes."""
    return jax.tree_util.keystr(tuple(key_path), simple=True, separator="/")


def flatten(tree: Any) -> dict[str, Any]:
    """All leaves by path, in the tree's order."""
    return {path_string(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}


def nest(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dicts of leaves by path: the inverse of `flatten` for nested dicts."""
    return flax.traverse_util.unflatten_dict(dict(leaves), sep="/")


def split(tree: dict[str, Any], paths: Container[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Nested dicts of the leaves at these paths, and of the others."""
    leaves = flatten(tree)
    chosen = {path: leaf for path, leaf in leaves.items() if path in paths}
    return nest(chosen), nest({path: leaf for path, leaf in leaves.items() if path not in chosen})


def join(tree: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `split`."""
    return nest(flatten(tree) | flatten(other))


def map_with_path(function: Callable[..., T], tree: Any, *rest: Any) -> Any:
    """`jax.tree.map` with a function whose first argument is the path."""
    return jax.tree_util.tree_map_with_path(lambda path, *leaves: function(path_string(path), *leaves), tree, *rest)


def matches(path: str, patterns: Iterable[str]) -> bool:
    """Does any of the regular expressions occur in the path?"""
    return any(re.search(pattern, path) for pattern in patterns)


def lookup(path: str, table: Iterable[tuple[str, T]]) -> T:
    """The value of the first row whose regular expression occurs in the path.

    Raises:
      KeyError: no row covers the path. A new parameter must be given a row; it is never silently passed over.
    """
    for pattern, value in table:
        if re.search(pattern, path):
            return value
    raise KeyError(f"no rule covers the parameter {path!r}")


def require_matches(key: str, patterns: Iterable[str], paths: Collection[str], kind: str = "parameter") -> None:
    """Raises InputError if a regular expression, given as `key`, occurs in none of the paths of this kind."""
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise InputError(f"{key}: {pattern!r} matches no {kind}.{_nearest(pattern, paths)}")


def _nearest(pattern: str, paths: Collection[str]) -> str:
    """The name in the paths nearest to one in the pattern that they lack; else the top levels of the paths."""
    names = {name for path in paths for name in path.split("/")}
    for word in re.findall(r"\w+", pattern):
        if word not in names and (near := did_you_mean(word, names)):
            return near
    return f" They lie in {', '.join(sorted({path.split('/')[0] for path in paths}))}"

"""What is given to the methods of a `loaded.Model`: texts in the forms that a notebook has them, and arrays of ids.

Each function returns what it was given in the form that the library takes, or raises InputError.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError, did_you_mean


class Column(Protocol):
    """A numpy array, or a column of a table, such as a pandas Series."""

    def tolist(self) -> Any: ...


Texts = Sequence[str] | Column

# The inputs of `Model.apply` besides the tokens: which rows they belong to, and whether they are bool.
_OF_ROWS = {"segments_BT": False, "valid_BT": True, "documents_BT": False, "positions_BT": False}
_INPUTS = {
    "encoder": (*_OF_ROWS, "masked_positions_BP"),
    "decoder": tuple(_OF_ROWS),
    "encoder_decoder": ("valid_BS", "target_tokens_BT", "target_valid_BT"),
}
_SHOWN = "[B, T], rows of equal length, padded, with valid_BT"


def text(given: Any, name: str) -> str:
    """One text."""
    if not isinstance(given, str):
        raise InputError(f"{name} takes a text, not {given!r:.60} ({type(given).__name__})")
    return encodable(given, name)


def encodable(given: str, name: str) -> str:
    """Raises InputError for half a character, as bytes have that were decoded as what they are not."""
    try:
        given.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{name}: {given[error.start]!r} at {error.start} is half a character: decode it again"
        ) from None
    return given


def listed(given: Any, name: str, *, most_axes: int = 1) -> Sequence[Any]:
    """A list that is not empty: any sequence but a text, an array, or a column of a table."""
    axes = getattr(given, "ndim", 1)
    if callable(getattr(given, "tolist", None)) and 1 <= axes <= most_axes:
        given = given.tolist()
    if isinstance(given, str) or not isinstance(given, Sequence):
        told = f"{name} takes a list, not {' '.join(repr(given).split()):.60} ({type(given).__name__})"
        if axes > most_axes:
            raise InputError(f"{told} with {axes} axes: give one column of it")
        raise InputError(f"{told}: give {'list(...) of it' if _may_be_listed(given) else '[...]'}")
    if not given:
        raise InputError(f"{name}: the list is empty")
    return given


def _may_be_listed(given: Any) -> bool:
    return isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping)


def texts(given: Any, name: str) -> list[str]:
    """Texts, of which there is at least one."""
    found = listed(given, name)
    for number, one in enumerate(found, start=1):
        if not isinstance(one, str):
            raise InputError(f"{name}, text {number}: {one!r:.60} is no text ({type(one).__name__})")
    return [encodable(one, f"{name}, text {number}") for number, one in enumerate(found, start=1)]


def texts_or_pairs(given: Any, name: str) -> list[Sequence[str]]:
    """For each example its texts: one, or two."""
    found = [[one] if isinstance(one, str) else one for one in listed(given, name, most_axes=2)]
    for number, parts in enumerate(found, start=1):
        if not isinstance(parts, list | tuple) or not all(isinstance(part, str) for part in parts):
            raise InputError(f"{name}, text {number}: {parts!r:.60} is neither a text nor a pair of texts")
        for part in parts:
            encodable(part, f"{name}, text {number}")
    return found


def of_apply(config: TransformerConfig, tokens: Any, inputs: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The arrays that a model is applied to. Shapes and types are checked always; values where they are known, which
    those that `jax.jit` traces, and those of other hosts, are not.

    Args:
      tokens: int [B, T], of an encoder-decoder [B, S].
      inputs: by the names of the model's arguments; None is as if it was not given.
    """
    inputs = {name: x for name, x in inputs.items() if x is not None}
    known, pairs = _INPUTS[config.architecture], config.architecture == "encoder_decoder"
    for name in inputs.keys() - set(known):
        raise InputError(f"apply: the model takes no {name!r}, but {', '.join(known)}.{did_you_mean(name, known)}")
    if missing := [name for name in known if pairs and name not in inputs]:
        raise InputError(f"apply: an encoder-decoder needs {', '.join(missing)} as well")
    tokens_of = "tokens_BS" if pairs else "tokens_BT"
    tokens = _array(tokens, tokens_of)
    arrays = {name: _array(x, name) for name, x in inputs.items()}
    _check_tokens(config, tokens, tokens_of, counted="positions_BT" not in arrays)
    if not pairs:
        arrays = {"valid_BT": jnp.ones(tokens.shape, bool)} | arrays
    else:
        _check_tokens(config, arrays["target_tokens_BT"], "target_tokens_BT")
        _check_like(arrays["valid_BS"], "valid_BS", tokens, tokens_of, of_bool=True)
        _check_like(
            arrays["target_valid_BT"], "target_valid_BT", arrays["target_tokens_BT"], "target_tokens_BT", of_bool=True
        )
        if (rows := tokens.shape[0]) != (others := arrays["target_tokens_BT"].shape[0]):
            raise InputError(f"apply: tokens_BS has {rows} rows, but target_tokens_BT {others}: give as many of each")
    for name in _OF_ROWS.keys() & arrays.keys():
        _check_like(arrays[name], name, tokens, tokens_of, of_bool=_OF_ROWS[name])
    if config.num_segments and "segments_BT" in arrays:
        _check_range(arrays["segments_BT"], "segments_BT", config.num_segments, "model.num_segments")
    if "positions_BT" in arrays:
        most = config.max_length if _has_table(config) else None
        _check_range(arrays["positions_BT"], "positions_BT", most, "model.max_length")
    if "masked_positions_BP" in arrays:
        _check_ids(places := arrays["masked_positions_BP"], "masked_positions_BP", tokens.shape[0])
        _check_range(places, "masked_positions_BP", tokens.shape[1], "the rows' length")
    return tokens, arrays


def _array(given: Any, name: str) -> Any:
    if hasattr(given, "dtype") and hasattr(given, "shape"):
        return given
    try:
        return np.asarray(given)
    except ValueError:
        raise InputError(f"apply: {name} is no array: give {_SHOWN}") from None


def _check_tokens(config: TransformerConfig, tokens: Any, name: str, *, counted: bool = True) -> None:
    _check_ids(tokens, name, None)
    if not (length := tokens.shape[1]):
        raise InputError(f"apply: {name} has rows without a token")
    if counted and length > config.max_length and _has_table(config):
        raise InputError(
            f"apply: {name} has rows of {length:,} tokens, but the model takes at most {config.max_length:,}: cut them"
        )
    _check_range(tokens, name, config.vocab_size, "model.vocab_size")


def _has_table(config: TransformerConfig) -> bool:
    """Whether there is a row of a table for each position, so that no row may be longer."""
    return config.position_embedding == "learned" or config.enhanced_mask_decoder


def _check_ids(ids: Any, name: str, rows: int | None) -> None:
    if len(ids.shape) != 2 or (rows is not None and ids.shape[0] != rows):
        wanted = _SHOWN if rows is None else f"[{rows}, P]"
        raise InputError(f"apply: {name} has the shape {tuple(ids.shape)}: give {wanted}")
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise InputError(f"apply: {name} is of {ids.dtype}: give int32")


def _check_like(x: Any, name: str, tokens: Any, tokens_of: str, *, of_bool: bool) -> None:
    if tuple(x.shape) != tuple(tokens.shape):
        raise InputError(
            f"apply: {name} has the shape {tuple(x.shape)}, but {tokens_of} {tuple(tokens.shape)}: give one for each"
        )
    if of_bool and x.dtype != bool:
        raise InputError(f"apply: {name} is of {x.dtype}: give bool, True for tokens, such as {name}.astype(bool)")
    if not of_bool and not jnp.issubdtype(x.dtype, jnp.integer):
        raise InputError(f"apply: {name} is of {x.dtype}: give int32")


def _check_range(x: Any, name: str, size: int | None, of: str) -> None:
    """Raises InputError where values are known, and one is not in 0 ... `size` - 1."""
    if isinstance(x, jax.core.Tracer) or (isinstance(x, jax.Array) and not x.is_fully_addressable):
        return
    values = np.asarray(x)
    wrong = (values < 0) | (values >= size) if size is not None else values < 0
    if wrong.any():
        place = tuple(int(i) for i in np.argwhere(wrong)[0])
        most = f" to {size - 1:,} ({of}={size:,})" if size is not None else " or more"
        raise InputError(f"apply: {name}{list(place)}={values[place]} must be from 0{most}")

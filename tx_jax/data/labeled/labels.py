"""Labels: when two values are the same label, the list of labels, each example's label id, and stratified held-out
splits."""

import json
import re
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from tx_jax.data.rng import RowRandom, hash_text, keys
from tx_jax.errors import InputError

_HOLD_OUT = hash_text("hold out")
_FOLDS = hash_text("folds")
_WHOLE_NUMBER = re.compile(r"(-?(?:0|[1-9]\d*))\.0", re.ASCII)
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d{1,3})?")
_TRUTH = {spelling(word): word for word in ("true", "false") for spelling in (str.lower, str.title, str.upper)}


def is_null(value: Any, null_values: Collection[str] = ()) -> bool:
    """Whether a value is missing: null, NaN (which some programs write for null), or a text that stands for null."""
    return value is None or value != value or (isinstance(value, str) and value.strip() in null_values)


def is_null_label(value: Any, null_values: Collection[str] = ()) -> bool:
    """Whether a label is missing; white space counts as missing too."""
    return is_null(value, null_values) or not str(value).strip()


def label_text(value: Any) -> str:
    """A label as the data spells it, without surrounding white space; JSON's true becomes "true"."""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def label_key(value: Any) -> str:
    """A key that values of the same label share: 1, 1.0, "1" and "1.0" are one label, and so are true, "true", "True"
    and "TRUE". Every other text is a label of its own: "01", "1.10", "1e3" and "NA" are four labels."""
    text = label_text(value)
    if whole := _WHOLE_NUMBER.fullmatch(text):
        return str(int(whole[1]))
    return _TRUTH.get(text, text)


def label_list(value: Any, separator: str = "") -> list[Any] | None:
    """The labels of an example that may have several; None if the value is not a list of labels.

    Args:
      value: a list; a string with a JSON list, as in a table's cell; or, with a separator, a string of labels.
    """
    if isinstance(value, str) and not separator and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return None
    if isinstance(value, list):
        return value
    if isinstance(value, dict) or not separator:
        return None
    return [label for part in str(value).split(separator) if (label := part.strip())]


def labels_of(values: Sequence[Any]) -> tuple[str, ...]:
    """All labels of the training data, in the order of the model's outputs: sorted, as numbers if all are numbers.
    Each is spelled as in its first occurrence.

    Raises:
      InputError: fewer than two labels.
    """
    spelling = _spelling(values)
    if all(map(_NUMBER.fullmatch, spelling)):
        order = sorted(sorted(spelling), key=Decimal)
    elif _TRUTH.keys() >= spelling.keys():
        order = sorted(spelling)  # false before true, however they are spelled
    else:
        order = sorted(spelling, key=spelling.__getitem__)
    if len(order) < 2:
        only = f"every example has the label {spelling[order[0]]!r}" if order else "there are no examples"
        raise InputError(f"{only}: classification needs two labels")
    return tuple(spelling[key] for key in order)


def classes_of(values: Sequence[Any]) -> np.ndarray:
    """A number for each value, the same for the same label: int64 [N]."""
    spelling = _spelling(values)
    return np.unique([spelling[label_key(value)] for value in values], return_inverse=True)[1]


def _spelling(values: Sequence[Any]) -> dict[str, str]:
    """Maps each label's key to the spelling of its first occurrence."""
    spelling: dict[str, str] = {}
    for value in values:
        spelling.setdefault(label_key(value), label_text(value))
    return spelling


def rare_labels(values: Sequence[Any], labels: Sequence[str]) -> list[str]:
    """A one-line message about the labels with fewer than two examples; an empty list if there are none."""
    counts = np.bincount(label_ids(values, labels), minlength=len(labels)).tolist()
    rare = [f"{text!r} {count}" for text, count in zip(labels, counts, strict=True) if count < 2]
    shown = ", ".join(rare[:5]) + (", ..." if len(rare) > 5 else "")
    return [f"{len(rare)} of {len(labels)} labels have fewer than two training examples: {shown}"] if rare else []


def label_ids(values: Sequence[Any], labels: Sequence[str], *, unit: str = "example") -> np.ndarray:
    """The label id of each value, its index in `labels`: int32 [N].

    Args:
      unit: what is labeled, for messages.

    Raises:
      InputError: the model has no output for some of the labels.
    """
    by_text, by_key = _numbers_of(labels)
    texts = list(map(label_text, values))
    ids = [by_text.get(text, by_key.get(label_key(text))) for text in texts]
    if unknown := Counter(text for text, number in zip(texts, ids, strict=True) if number is None):
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise InputError(
            f"{unknown.total()} {unit}s have a label that training does not know: "
            f"{', '.join(map(repr, list(unknown)[:5]))}, the first of them {unit} {ids.index(None) + 1}; it knows "
            f"{known}. A label without a training example must be named in data.labels, with all others"
        )
    return np.array(ids, np.int32)


def spelled(values: Sequence[Any], labels: Sequence[str], *, unit: str = "example") -> list[str]:
    """Each value, spelled as the matching label in `labels`. Raises the same errors as `label_ids`."""
    return [labels[number] for number in label_ids(values, labels, unit=unit)]


def _numbers_of(labels: Sequence[str]) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """The id of each label by its spelling, and by its key if no other label has the same key: runs from before keys
    were introduced may have "True" and "true" as two labels."""
    counts = Counter(map(label_key, labels))
    by_key = {label_key(text): number for number, text in enumerate(labels) if counts[label_key(text)] == 1}
    return {text: number for number, text in enumerate(labels)}, by_key


def numbers(values: Sequence[Any], *, decimal: str = ".") -> np.ndarray:
    """Regression targets: float32 [N].

    Args:
      decimal: the decimal separator in strings: "." or ",".

    Raises:
      InputError: a value is not a finite number.
    """
    result = np.empty(len(values), np.float32)
    for i, value in enumerate(values):
        with np.errstate(over="ignore"):  # values that float32 cannot hold
            result[i] = _number(value, decimal)
        if not np.isfinite(result[i]):
            has_comma = "," in str(value) and decimal != "," and np.isfinite(_number(value, ","))
            raise InputError(
                f"example {i + 1} has {value!r} where regression needs a number"
                + (" with a decimal point, or --config.data.decimal=," if has_comma else "")
                + (" with a decimal comma, as data.decimal says" if decimal == "," else "")
                + "; for classes give --config.task=classification"
            )
    return result


def _number(value: Any, decimal: str) -> float:
    """The value as a number; NaN if it is not a number."""
    if isinstance(value, bool):
        return np.nan
    if isinstance(value, str):
        text = value.strip()
        if decimal == ",":
            text = text.translate({ord(","): ".", ord("."): ","})
        return float(text) if _NUMBER.fullmatch(text) else np.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return np.nan


def hold_out(
    num_examples: int, fraction: float, seed: int, classes: np.ndarray | None = None, *, unit: str = "example"
) -> np.ndarray:
    """Which examples are held out: bool [N]; depends only on the arguments.

    The same fraction of every class is held out, and no class loses all its examples. What is left after rounding goes
    to the classes with the largest remainders.

    Args:
      classes: int [N]; None: all examples are in one class.
      unit: what is held out, for messages.

    Raises:
      InputError: there are so few examples that one part would be empty.
    """
    classes = np.zeros(num_examples, np.int64) if classes is None else classes
    _, classes, counts = np.unique(classes, return_inverse=True, return_counts=True)
    wanted = round(fraction * num_examples)
    quotas = fraction * counts
    held = np.minimum(np.floor(quotas), counts - 1).astype(np.int64)
    room = np.flatnonzero(held < counts - 1)
    order = room[np.argsort(held[room] - quotas[room], kind="stable")]
    held[order[: max(0, wanted - int(held.sum()))]] += 1
    if not 0 < held.sum() < num_examples:
        raise InputError(
            f"{num_examples} {unit}s are too few to hold out {fraction:.0%} of them: give a file, "
            "--config.data.validation=..., or a larger --config.data.validation_fraction"
        )
    draws = RowRandom(keys(seed, _HOLD_OUT, np.arange(num_examples))).uniform()
    order = np.lexsort((draws, classes))  # class by class, in random order
    rank = np.empty(num_examples, np.int64)
    rank[order] = np.arange(num_examples) - np.repeat(np.cumsum(counts) - counts, counts)
    return rank < held[classes]


def folds_of(num_examples: int, folds: int, classes: np.ndarray | None = None, *, unit: str = "example") -> np.ndarray:
    """The part that each example is in: int64 [N], from 0 to folds - 1; depends only on the arguments.

    Parts differ by one example at most, and so do their examples of every class.

    Args:
      classes, unit: see `hold_out`.

    Raises:
      InputError: there are fewer examples than parts.
    """
    if num_examples < folds:
        raise InputError(f"data.folds={folds}: there are only {num_examples} {unit}s; give fewer folds")
    draws = RowRandom(keys(0, _FOLDS, np.arange(num_examples))).uniform()
    order = np.lexsort((draws, np.zeros(num_examples) if classes is None else classes))
    part = np.empty(num_examples, np.int64)
    part[order] = np.arange(num_examples) % folds
    return part

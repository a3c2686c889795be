"""Labels: which there are, the number of each example's, and a split that has its share of every one."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from tx_jax.data.rng import RowRandom, hash_text, keys
from tx_jax.errors import InputError

_HOLD_OUT = hash_text("hold out")


def label_text(value: Any) -> str:
    """A label as it is shown and compared: that of a CSV file's 1 is that of a JSON file's."""
    return str(value).lower() if isinstance(value, bool) else str(value).strip()


def labels_of(values: Sequence[Any]) -> tuple[str, ...]:
    """All labels of the training data, in the order of the model's outputs: sorted; integers as such.

    Raises:
      InputError: fewer than two labels.
    """
    texts = set(map(label_text, values))
    labels = tuple(sorted(texts))
    if all(map(_is_integer, labels)):
        labels = tuple(sorted(labels, key=int))
    if len(labels) < 2:
        raise InputError(f"every example has the label {labels[0]!r}: there is nothing to tell apart")
    return labels


def _is_integer(text: str) -> bool:
    return text.removeprefix("-").isdecimal()


def rare_labels(values: Sequence[Any], labels: Sequence[str]) -> list[str]:
    """A line about the labels that fewer than two examples have; none where there are no such."""
    counts = Counter(map(label_text, values))
    rare = [f"{text!r} {counts[text]}" for text in labels if counts[text] < 2]
    shown = ", ".join(rare[:5]) + (", ..." if len(rare) > 5 else "")
    return [f"{len(rare)} of {len(labels)} labels have fewer than two training examples: {shown}"] if rare else []


def label_ids(values: Sequence[Any], labels: Sequence[str], *, unit: str = "example") -> np.ndarray:
    """The number of each value among the labels: int32 [N].

    Args:
      unit: what has a label, for messages.

    Raises:
      InputError: labels that the model has no output for.
    """
    number_of = {text: number for number, text in enumerate(labels)}
    texts = [label_text(value) for value in values]
    if unknown := Counter(text for text in texts if text not in number_of):
        first = next(number for number, text in enumerate(texts, start=1) if text in unknown)
        known = ", ".join(labels[:10]) + (", ..." if len(labels) > 10 else "")
        raise InputError(
            f"{unknown.total()} {unit}s have a label that training does not know: "
            f"{', '.join(map(repr, list(unknown)[:5]))}, the first of them {unit} {first}; it knows {known}"
        )
    return np.array([number_of[text] for text in texts], np.int32)


def numbers(values: Sequence[Any]) -> np.ndarray:
    """Values to be predicted as such: float32 [N].

    Raises:
      InputError: one is not a finite number.
    """
    result = np.empty(len(values), np.float32)
    for i, value in enumerate(values):
        try:
            result[i] = float(value)
        except (TypeError, ValueError):
            result[i] = np.nan
        if not np.isfinite(result[i]):
            raise InputError(
                f"example {i + 1} has {value!r} where regression needs a number; for classes give "
                "--config.task=classification"
            )
    return result


def hold_out(
    num_examples: int, fraction: float, seed: int, classes: np.ndarray | None = None, *, unit: str = "example"
) -> np.ndarray:
    """Which examples are held out: bool [N]; a function of the arguments alone.

    Of every class the fraction is held out, and none loses all its examples; what rounding leaves goes to the classes
    with the largest remainders.

    Args:
      classes: int [N]; None: all are of one.
      unit: what is held out, for messages.

    Raises:
      InputError: so few examples that one part would have none.
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

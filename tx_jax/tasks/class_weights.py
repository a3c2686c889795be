"""Class weights: how much each label counts in the loss, for rare but important labels.

Shapes: L labels.
"""

import math
from collections.abc import Sequence

import numpy as np

from tx_jax.errors import InputError, did_you_mean

BALANCED = ("balanced",)


def resolved(given: Sequence[str], labels: Sequence[str], balanced: np.ndarray) -> tuple[str, ...]:
    """`data.class_weights` with a weight for every label, as LABEL=WEIGHT; () if none are given.

    Args:
      given: ("balanced",), or rows LABEL=WEIGHT; labels without a row have weight 1.
      balanced: [L], the weights that "balanced" stands for.

    Raises:
      InputError: a row has another form, a label is not in `labels`, or a label is given twice.
    """
    if not given:
        return ()
    if tuple(given) == BALANCED:
        weights = dict(zip(labels, map(float, balanced), strict=True))
    else:
        weights = dict.fromkeys(labels, 1.0) | _parsed(given, labels)
    return tuple(f"{label}={weight!r}" for label, weight in weights.items())


def weights_of(config: Sequence[str], labels: Sequence[str]) -> np.ndarray | None:
    """float32 [L], from the result of `resolved`; None if all labels have the same weight."""
    if not config or tuple(config) == BALANCED:  # not resolved yet: balanced weights are known only from the data
        return None
    weights = _parsed(config, labels)
    return np.array([weights[label] for label in labels], np.float32)


def _parsed(rows: Sequence[str], labels: Sequence[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for row in rows:
        label, _, number = row.rpartition("=")
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not label or not 0 < weight < math.inf:
            raise InputError(
                f'data.class_weights: {row!r} must be LABEL=WEIGHT with a weight above 0; or give just ("balanced",)'
            )
        if label not in labels:
            raise InputError(f"data.class_weights: {label!r} is not a label of the data.{did_you_mean(label, labels)}")
        if label in weights:
            raise InputError(f"data.class_weights: {label!r} is given twice")
        weights[label] = weight
    return weights

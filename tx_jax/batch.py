"""The table of batch keys: what a `Batch`, a dict of arrays, may contain. Which keys it has depends on the task.

The loader, sharding, the shapes of plans and the tasks use this table.
Shapes: B examples, C choices per example, T sequence length, P predictions, L labels.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

Batch = Mapping[str, Any]


class Key(NamedTuple):
    """One key.

    Attributes:
      dtype: its dtype on the devices.
      axes: the axes after the first, which is that of the examples: "choices" (only if the examples have choices),
        "length", "predictions" and "labels".
      about: what it contains.
      counts: whether it is a weight, which is 0 in padding rows; their other keys have values like any example's.
    """

    dtype: str
    axes: tuple[str, ...]
    about: str
    counts: bool = False


KEYS: dict[str, Key] = {
    "tokens": Key("int32", ("choices", "length"), "the model's input, corrupted where the task corrupts"),
    "segments": Key("int32", ("choices", "length"), "0 for the first segment, 1 for the second"),
    "valid": Key("bool", ("choices", "length"), "True for tokens, False for padding"),
    "documents": Key("int32", ("length",), "packed documents: number within the row, from 1; 0 for padding"),
    "positions": Key("int32", ("length",), "packed documents: position within the document; 0 for padding"),
    "example_weights": Key("float32", (), "1 for an example, 0 for a row that only pads the batch", counts=True),
    # Pretraining.
    "masked_positions": Key("int32", ("predictions",), "where the masked LM predicts; unused ones point at 0"),
    "masked_targets": Key("int32", ("predictions",), "the original tokens there"),
    "masked_weights": Key("float32", ("predictions",), "1 for a prediction, 0 for an unused one", counts=True),
    "masked_dropped": Key("float32", (), "predictions that the rate asks for and P has no space for", counts=True),
    "next_sentence_labels": Key("int32", (), "0: B follows A; 1: B is from another document"),
    "targets": Key("int32", ("length",), "causal LM, translation: the next token"),
    "target_weights": Key("float32", ("length",), "1 for a prediction, 0 for padding", counts=True),
    "target_tokens": Key(
        "int32", ("length",), "translation: what the decoder reads, which begins with the start token"
    ),
    "target_words": Key("float32", (), "words of text that the targets stand for", counts=True),
    "target_bytes": Key("float32", (), "UTF-8 bytes of text that the targets stand for", counts=True),
    # Labeled examples.
    "example": Key("int32", (), "which row of the split's table this is"),
    "labels": Key("int32", (), "classification, multiple choice: the number of the label, or of the choice"),
    "values": Key("float32", (), "regression: the number to predict"),
    "label_sets": Key("float32", ("labels",), "several labels for a text: 1 for those it has, 0 for others"),
    "token_labels": Key("int32", ("length",), "tagging: the number of the label; -1 where none is to be learned"),
    "answer_start": Key("int32", (), "question answering: the answer's first token; 0: not here; -1: not known"),
    "answer_end": Key("int32", (), "its last token"),
}


_COUNTING = frozenset(name for name, key in KEYS.items() if key.counts)


def shapes(names: Iterable[str], **sizes: int) -> dict[str, tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each of these keys.

    Args:
      sizes: the sizes of "examples" and of each axis; examples have choices if the size of "choices" is above 0.
    """
    return {
        name: (
            (sizes["examples"], *(sizes[axis] for axis in KEYS[name].axes if axis != "choices" or sizes.get(axis))),
            np.dtype(KEYS[name].dtype),
        )
        for name in names
    }


def without_filling(batch: dict[str, np.ndarray], weights: np.ndarray) -> dict[str, np.ndarray]:
    """The batch with these `example_weights`; all weights are 0 in padding rows.

    Args:
      weights: float32 [B], 1 for an example, 0 for a padding row.
    """
    counted = {
        name: batch[name] * weights.reshape(-1, *[1] * (batch[name].ndim - 1)) for name in batch.keys() & _COUNTING
    }
    return batch | counted | {"example_weights": weights}


def token_weights(batch: Batch) -> Any:
    """float32 [B, T]: 1 for a token of an example, 0 for padding and for padding rows."""
    return batch["valid"] * batch["example_weights"][:, None]

"""Maps each piece of a text to the characters that it stands for."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from tokenizers import Tokenizer as Engine


class Aligned(NamedTuple):
    """An encoded text of n pieces.

    Attributes:
      ids: n token ids.
      spans: int32 [n, 2], the start and (exclusive) end of each piece in the text, in characters, without surrounding
        white space. Pieces of the same character (bytes, or a "▁" alone) share its span; a piece of white space has an
        empty span.
    """

    ids: list[int]
    spans: np.ndarray


def align(engine: Engine, texts: Sequence[str]) -> list[Aligned]:
    """Encode texts with the engine, without special tokens, and align each piece with its characters."""
    encodings = engine.encode_batch(texts, add_special_tokens=False)
    return [
        Aligned(encoding.ids, _without_space(text, np.array(encoding.offsets, np.int32).reshape(-1, 2)))
        for text, encoding in zip(texts, encodings, strict=True)
    ]


def _without_space(text: str, spans: np.ndarray) -> np.ndarray:
    """Strip white space from both ends of spans. Byte-level pieces include the space before their word."""
    is_space = np.array([character.isspace() for character in text] + [False])
    starts, ends = spans.T
    numbers = np.arange(len(text) + 1)
    # For each position: the first non-space character at or after it, and the end of the last one before it.
    following = np.minimum.accumulate(np.where(is_space, len(text), numbers)[::-1])[::-1]
    preceding = np.maximum.accumulate(np.where(np.append([True], is_space[:-1]), 0, numbers))
    starts = np.minimum(following[starts], ends)
    return np.stack([starts, np.maximum(preceding[ends], starts)], axis=1).astype(np.int32)

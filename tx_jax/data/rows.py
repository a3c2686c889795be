"""Putting runs of tokens into padded rows.

Shapes: B rows, T sequence length, N runs.
"""

import numpy as np

from tx_jax.data.corpus.token_store import Split
from tx_jax.errors import InputError


def place(rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices that put flat runs of tokens into a padded [B, T] array.

    Run i of `lengths[i]` tokens goes to row `rows[i]`, from column `columns[i]` on. Returns flat row and column
    indices, one per token, in the order of the runs.
    """
    return np.repeat(rows, lengths), ranges(columns, lengths)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, … (lengths[0] of them), then those of starts[1], and so on: int64 [sum(lengths)]."""
    begins = np.cumsum(lengths) - lengths
    return np.repeat(starts - begins, lengths) + np.arange(int(lengths.sum()))


def document_bounds(split: Split) -> np.ndarray:
    """int64 [num_documents + 1]: the token offset where each document begins, and the total."""
    return split.sentence_offsets[split.document_offsets]


def spread(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists the members of the intervals first[i] … last[i], ends included: (interval of each member, member)."""
    counts = last - first + 1
    return np.repeat(np.arange(len(first)), counts), ranges(first, counts)


def require_room(sequence_length: int, num_specials: int, layout: str, *, least: int = 1) -> int:
    """Tokens that fit beside the special ones. Raises InputError where fewer than `least` do."""
    if sequence_length - num_specials < least:
        raise InputError(
            f"sequence_length={sequence_length} leaves no room for text: {layout} takes {num_specials} special tokens "
            f"and at least {least} of text"
        )
    return sequence_length - num_specials


def require_documents(split: Split) -> None:
    """Raises InputError where the split is empty."""
    if not split.num_documents:
        raise InputError(
            f"no sentences in {split.name}: nothing to train on or to evaluate. Prepare the store with more text "
            "or another --validation_fraction"
        )

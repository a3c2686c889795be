"""Places runs of tokens in padded rows.

Shapes: B rows, T sequence length, N runs.
"""

from collections.abc import Iterator

import numpy as np

from tx_jax.data.corpus.token_store import Split
from tx_jax.errors import InputError


def put(
    padded_BT: np.ndarray, rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray, values: np.ndarray | bool
) -> None:
    """Put flat runs of tokens into a padded array, in place.

    Run i of `lengths[i]` tokens goes to row `rows[i]`, starting at column `columns[i]`.
    """
    padded_BT.reshape(-1)[place(rows, columns, lengths, padded_BT.shape[1])] = values


def place(rows: np.ndarray, columns: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Where `put` puts each token: indices into the flattened array, whose rows have `width` columns."""
    return ranges(rows * width + columns, lengths)


def ranges(starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """starts[0], starts[0] + 1, … (lengths[0] of them), then those of starts[1], and so on: int64 [sum(lengths)]."""
    begins = np.cumsum(lengths) - lengths
    numbers = np.repeat(starts - begins, lengths)
    numbers += np.arange(len(numbers))
    return numbers


def document_bounds(split: Split, first: int = 0, last: int | None = None) -> np.ndarray:
    """int64 [last - first + 1]: token offset where each document from `first` begins, and where the last ends."""
    last = split.num_documents if last is None else last
    return split.sentence_offsets[split.document_offsets[first : last + 1]]


def document_blocks(split: Split, tokens: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges [first, last) of consecutive documents with at most `tokens` tokens in total, or one longer
    document. They allow a pass over all documents without holding anything in memory for each of them.
    """
    sentences, documents = split.sentence_offsets, split.document_offsets
    first = 0
    while first < split.num_documents:
        fitting = np.searchsorted(sentences, sentences[documents[first]] + tokens, side="right") - 1
        last = max(int(np.searchsorted(documents, fitting, side="right")) - 1, first + 1)
        yield first, last
        first = last


def spread(first: np.ndarray, last: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lists the members of the inclusive intervals first[i] … last[i]: (interval of each member, member)."""
    counts = last - first + 1
    return np.repeat(np.arange(len(first)), counts), ranges(first, counts)


def require_room(sequence_length: int, num_specials: int, layout: str, *, least: int = 1) -> int:
    """Number of tokens that fit in addition to the special tokens. Raises InputError if fewer than `least` do."""
    if sequence_length - num_specials < least:
        raise InputError(
            f"sequence_length={sequence_length} leaves no room for text: {layout} takes {num_specials} special tokens "
            f"and at least {least} of text"
        )
    return sequence_length - num_specials


def require_documents(split: Split) -> None:
    """Raises InputError if the split is empty."""
    if not split.num_documents:
        raise InputError(
            f"no sentences in {split.name}: nothing to train on or to evaluate. Prepare the store with more text "
            "or another --validation_fraction"
        )

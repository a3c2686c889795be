"""Several documents in a row that do not attend to each other, with hardly any padding.

Shapes: B examples, T sequence length, N pieces of documents in the batch.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from tx_jax.data.corpus.index import Recipe, count_type, open_index
from tx_jax.data.corpus.token_store import Split
from tx_jax.data.pretraining.best_fit import best_fit
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import document_blocks, document_bounds, place, ranges, require_documents, require_room

_BLOCK = 1 << 25  # tokens looked at together


class _Pieces(NamedTuple):
    """The pieces of documents in a batch, row after row; all int64 [N].

    row: of the batch; number: within the row, from 1; column: where it begins; document; offset: where it begins in
    its document, in inputs (see `PackedDocuments`); length: inputs.
    """

    row: np.ndarray
    number: np.ndarray
    column: np.ndarray
    document: np.ndarray
    offset: np.ndarray
    length: np.ndarray


class PackedDocuments:
    """Rows of whole documents, packed by best fit. Which documents share a row is fixed; each epoch reorders the rows.

    A document that does not fit is cut into full rows and a remainder, which is packed like a document. Two layouts:

    - for masked models, [CLS] text [SEP], each document (or piece) with its own special tokens;
    - for causal ones (`causal=True`), the inputs E d1 … dn and the targets d1 … dn E, with E the end-of-text id, so
      that every token and every end is predicted exactly once in an epoch.

    There is little padding if many documents are shorter than half a row, and much if most fill 60% of one; see
    `padding`.

    Attributes:
      padding: share of all positions that are padding.
      nbytes: memory held, in bytes.
    """

    def __init__(self, split: Split, *, sequence_length: int, pad_id: int, begin_id: int, end_id: int, causal: bool):
        require_documents(split)
        self.split, self.length, self.causal = split, sequence_length, causal
        self.pad_id, self.begin_id, self.end_id = pad_id, begin_id, end_id
        self.num_specials = 0 if causal else 2
        self.capacity = require_room(sequence_length, self.num_specials, "[CLS] text [SEP]")
        settings = {"length": sequence_length, "num_specials": self.num_specials, "causal": causal}
        documents = count_type(split.num_documents)
        # The rows that one piece fills come after the packed ones; of each, the document is kept.
        columns = {"begins": np.dtype("<i8"), "members": documents, "full_documents": documents}
        title = f"rows of {sequence_length} tokens of documents"
        self._index = open_index(split, Recipe("packed_documents", title, settings, columns, self._pack))
        self._begins, self._members, self._full_documents = map(self._index.__getitem__, columns)
        self._num_packed = len(self._begins) - 1
        num_pieces = len(self._members) + len(self._full_documents)
        used = split.num_tokens + causal * split.num_documents + self.num_specials * num_pieces
        self.padding = 1 - used / (len(self) * sequence_length)
        self.nbytes = self._index.nbytes

    def _pack(self) -> Iterator[dict[str, np.ndarray]]:
        """`begins`, where each packed row begins among the members, and the total; `members`, their documents;
        `full_documents`, one for each row that it fills alone."""
        # The remainder of each document, with its special tokens; 0 if there is none.
        rests = np.empty(self.split.num_documents, np.min_scalar_type(self.length))
        for first, last in document_blocks(self.split, _BLOCK):
            inputs = np.diff(document_bounds(self.split, first, last)) + self.causal
            full, rest = np.divmod(inputs, self.capacity)
            rests[first:last] = np.where(rest, rest + self.num_specials, 0)
            yield {"full_documents": np.repeat(np.arange(first, last), full)}
        total = 0
        yield {"begins": np.array([0])}
        for members, sizes in best_fit(rests, self.length):
            yield {"members": members, "begins": total + np.cumsum(sizes)}
            total += len(members)

    def __len__(self) -> int:
        return self._num_packed + len(self._full_documents)

    def rows(self, indices: np.ndarray, rng: RowRandom) -> dict[str, np.ndarray]:
        """Draws nothing.

        Returns:
          tokens int32 [B, T]; targets int32 [B, T] (causal) or segments int32 [B, T], all 0 (masked); valid bool
          [B, T]; documents int32 [B, T], 0 for padding, else the number of the document within the row, from 1;
          positions int32 [B, T], within the document (or piece), 0 for padding.
        """
        pieces = self._pieces(np.asarray(indices, np.int64))
        shape = len(indices), self.length
        width = pieces.length + self.num_specials
        at = place(pieces.row, pieces.column, width, self.length)
        documents, positions = np.zeros((2, *shape), np.int32)
        documents.reshape(-1)[at] = np.repeat(pieces.number, width)
        positions.reshape(-1)[at] = ranges(np.zeros_like(width), width)
        batch = {"valid": documents > 0, "documents": documents, "positions": positions}
        stream, begins = self._streams(pieces)
        if not self.causal:
            return batch | {"tokens": self._fill(shape, at, stream), "segments": np.zeros(shape, np.int32)}
        inputs = ranges(begins, width)
        return batch | {
            "tokens": self._fill(shape, at, stream[inputs]),
            "targets": self._fill(shape, at, stream[inputs + 1]),
        }

    def _fill(self, shape: tuple[int, int], at: np.ndarray, values: np.ndarray) -> np.ndarray:
        filled = np.full(shape, self.pad_id, np.int32)
        filled.reshape(-1)[at] = values
        return filled

    def _pieces(self, indices: np.ndarray) -> _Pieces:
        is_full = indices >= self._num_packed
        packed = np.minimum(indices, self._num_packed)
        begins = self._begins[packed]
        counts = np.where(is_full, 1, self._begins[np.minimum(packed + 1, self._num_packed)] - begins)
        row = np.repeat(np.arange(len(indices)), counts)
        number = ranges(np.ones_like(counts), counts)
        document = np.zeros(len(row), np.int64)
        from_full = is_full[row]
        full_rows = (indices - self._num_packed)[is_full]
        document[from_full] = self._full_documents[full_rows]
        document[~from_full] = self._members[ranges(begins[~is_full], counts[~is_full])]
        inputs = self._inputs(document)
        offset = inputs - inputs % self.capacity
        full_documents = document[from_full].astype(self._full_documents.dtype)  # another type would cost a copy of all
        first_of_document = np.searchsorted(self._full_documents, full_documents)
        offset[from_full] = (full_rows - first_of_document) * self.capacity
        length = np.where(from_full, self.capacity, inputs % self.capacity)
        # Columns restart in every row: the sum of the widths before, less that at the row's first piece.
        before = np.cumsum(length + self.num_specials) - (length + self.num_specials)
        column = before - np.repeat(before[np.cumsum(counts) - counts], counts)
        return _Pieces(row, number, column, document, offset, length)

    def _inputs(self, documents: np.ndarray) -> np.ndarray:
        offsets, begins = self.split.sentence_offsets, self.split.document_offsets
        return offsets[begins[documents + 1]] - offsets[begins[documents]] + self.causal

    def _streams(self, pieces: _Pieces) -> tuple[np.ndarray, np.ndarray]:
        """The tokens of each piece, flat, and where each begins: [CLS] text [SEP], or its inputs and one more token."""
        begin = self.split.sentence_offsets[self.split.document_offsets[pieces.document]]
        stop = begin + self._inputs(pieces.document) - self.causal
        width = pieces.length + (1 if self.causal else 2)
        at = np.cumsum(width) - width
        stream = np.full(int(width.sum()), self.end_id, np.int32)
        # A causal piece begins with the token before its offset; the first piece of a document has no such token.
        start = begin + pieces.offset - self.causal
        first = start < begin
        lead = first if self.causal else np.ones_like(first)
        start = np.maximum(start, begin)
        length = np.minimum(start + width - lead - (not self.causal), stop) - start
        stream[at[lead]] = self.begin_id
        stream[ranges(at + lead, length)] = self.split.read(start, start + length)
        return stream, at

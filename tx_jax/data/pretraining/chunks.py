"""One stream of all documents, cut into equal chunks, for causal language models (Radford et al. 2019; nanoGPT).

Shapes: B examples, T sequence length.
"""

import functools
from collections.abc import Iterator

import numpy as np

from tx_jax.data.corpus.index import Recipe, count_type, open_index
from tx_jax.data.corpus.token_store import Split
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import document_blocks, document_bounds, put, require_documents, require_room, spread

_BLOCK = 1 << 25  # tokens looked at together


class Chunks:
    """The stream E d1 E d2 … dn E, with the end-of-text id E between documents and at both ends, in chunks of T inputs.

    The inputs of chunk i are the stream's tokens iT … iT + T - 1, its targets are shifted by one. So every token of
    every document, the first included, and every end of a document is predicted exactly once in an epoch. The last
    chunk is padded. Attention crosses document boundaries; see `PackedDocuments` for rows where it does not.

    Attributes:
      begins: unsigned or int64 [num_documents + 1], the position in the stream of the end-of-text before each document,
        and of the last one.
      nbytes: memory held, in bytes.
    """

    def __init__(self, split: Split, *, sequence_length: int, pad_id: int, end_id: int):
        require_documents(split)
        require_room(sequence_length, 0, "a chunk")
        self.split, self.length = split, sequence_length
        self.pad_id, self.end_id = pad_id, end_id
        self.num_targets = split.num_tokens + split.num_documents
        columns = {"begins": count_type(self.num_targets)}
        recipe = Recipe("stream", "stream of documents", {}, columns, functools.partial(_begins, split))
        self._index = open_index(split, recipe)
        self.begins = self._index["begins"]
        self.nbytes = self._index.nbytes

    def __len__(self) -> int:
        return -(-self.num_targets // self.length)

    def rows(self, indices: np.ndarray, rng: RowRandom) -> dict[str, np.ndarray]:
        """tokens int32 [B, T], targets int32 [B, T] (the next tokens), valid bool [B, T]. Draws nothing."""
        start = np.asarray(indices, np.int64) * self.length
        stop = np.minimum(start + self.length + 1, self.num_targets + 1)
        ends = np.stack([start, stop - 1]).astype(self.begins.dtype)  # of another type, all would be copied
        first, last = np.searchsorted(self.begins, ends, side="right") - 1
        row, document = spread(first, np.minimum(last, self.split.num_documents - 1))
        begins = np.maximum(self.begins[document].astype(np.int64) + 1, start[row])
        ends = np.maximum(np.minimum(self.begins[document + 1].astype(np.int64), stop[row]), begins)
        stream = np.full((len(start), self.length + 1), self.end_id, np.int32)
        within = begins - document - 1  # documents before and their ends: from the stream to the split
        put(stream, row, begins - start[row], ends - begins, self.split.read(within, within + ends - begins))
        valid = np.arange(self.length)[None] < (stop - 1 - start)[:, None]
        return {
            "tokens": np.where(valid, stream[:, :-1], np.int32(self.pad_id)),
            "targets": np.where(valid, stream[:, 1:], np.int32(self.pad_id)),
            "valid": valid,
        }


def _begins(split: Split) -> Iterator[dict[str, np.ndarray]]:
    for first, last in document_blocks(split, _BLOCK):
        yield {"begins": document_bounds(split, first, last)[:-1] + np.arange(first, last)}
    yield {"begins": np.array([split.num_tokens + split.num_documents])}

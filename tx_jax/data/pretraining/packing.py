"""Inputs of one segment of whole sentences: [CLS] sentences [SEP] (Liu et al. 2019, section 4.2).

A sentence longer than the sequence gets a row of its own, truncated at a place that every epoch draws anew.
Shapes: B examples, T sequence length.
"""

import functools
from collections.abc import Iterator

import numpy as np

from tx_jax.data.corpus.index import Recipe, count_type, open_index
from tx_jax.data.corpus.token_store import Split
from tx_jax.data.pretraining.spans import Spans, chain
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import put, require_documents, require_room, spread

NUM_SPECIALS = 2
_BLOCK = 1 << 20  # sentences looked at together


class DocSentences:
    """DOC-SENTENCES: consecutive whole sentences of one document, as many as fit.

    Attributes:
      nbytes: memory held, in bytes.
    """

    def __init__(self, split: Split, *, sequence_length: int, pad_id: int, cls_id: int, sep_id: int):
        require_documents(split)
        self.split, self.length = split, sequence_length
        self.max_tokens = require_room(sequence_length, NUM_SPECIALS, "[CLS] text [SEP]")
        self.pad_id, self.cls_id, self.sep_id = pad_id, cls_id, sep_id
        self.spans = Spans(split, target=self.max_tokens, min_sentences=1, overshoot=False)
        self.nbytes = self.spans.nbytes

    def __len__(self) -> int:
        return len(self.spans)

    def rows(self, indices: np.ndarray, rng: RowRandom) -> dict[str, np.ndarray]:
        """tokens int32 [B, T], segments int32 [B, T] (all 0), valid bool [B, T]."""
        first, stop = self.spans.sentences(indices)
        documents = self.spans.documents[indices].astype(np.int64)
        return _rows(self, first, stop - 1, documents, documents, rng)


class FullSentences:
    """FULL-SENTENCES: consecutive whole sentences of the corpus, as many as fit, with an extra separator where a row
    continues in the next document: [CLS] end of one document [SEP] beginning of the next [SEP].

    Attributes:
      starts: unsigned or int64 [rows + 1], the sentence that each row begins with, and the total.
      nbytes: memory held, in bytes.
    """

    def __init__(self, split: Split, *, sequence_length: int, pad_id: int, cls_id: int, sep_id: int):
        require_documents(split)
        self.split, self.length = split, sequence_length
        self.max_tokens = require_room(sequence_length, NUM_SPECIALS, "[CLS] text [SEP]")
        self.pad_id, self.cls_id, self.sep_id = pad_id, cls_id, sep_id
        columns = {"starts": count_type(split.num_sentences)}
        pack = functools.partial(pack_across_documents, split, self.max_tokens)
        title, settings = f"rows of {self.max_tokens} tokens", {"target": self.max_tokens}
        self._index = open_index(split, Recipe("full_sentences", title, settings, columns, pack))
        self.starts = self._index["starts"]
        self.nbytes = self._index.nbytes

    def __len__(self) -> int:
        return len(self.starts) - 1

    def rows(self, indices: np.ndarray, rng: RowRandom) -> dict[str, np.ndarray]:
        """tokens int32 [B, T], segments int32 [B, T] (all 0), valid bool [B, T]."""
        first, last = self.starts[indices].astype(np.int64), self.starts[indices + 1].astype(np.int64) - 1
        documents = np.searchsorted(self.split.document_offsets, np.stack([first, last]), side="right") - 1
        return _rows(self, first, last, *documents, rng)


def pack_across_documents(split: Split, target: int) -> Iterator[dict[str, np.ndarray]]:
    """Greedy packing of all sentences in order: `starts`, where each row begins, a block at a time, and the total.

    A row has at most `target` tokens, including one separator for every document that begins inside it; a longer
    sentence gets a row of its own.
    """
    start = 0
    while start < split.num_sentences:
        # A row reaches over at most `target` sentences, so this much of the offsets decides about the whole block.
        begin, end = start, min(start + _BLOCK, split.num_sentences)
        stop = min(end + target, split.num_sentences)
        first, last = np.searchsorted(split.document_offsets, (begin, stop - 1), side="right") - 1
        inside = split.document_offsets[first + 1 : last + 1]
        document = first + np.searchsorted(inside, np.arange(begin, stop), side="right")
        offsets = split.sentence_offsets[begin : stop + 1]
        # Offsets and separators in one number: a row of the sentences i to j takes ends[j] - begins[i].
        begins, ends = offsets[:-1] + document, offsets[1:] + document
        follows = begin + np.searchsorted(ends, begins[: end - begin] + target, side="right")
        links = chain(np.maximum(follows, np.arange(begin + 1, end + 1)), begin)
        yield {"starts": links[:-1]}  # each row begins where the one before it ends
        start = int(links[-1])
    yield {"starts": np.array([start], np.int64)}


def _rows(
    examples: DocSentences | FullSentences,
    first: np.ndarray,
    last: np.ndarray,
    first_document: np.ndarray,
    last_document: np.ndarray,
    rng: RowRandom,
) -> dict[str, np.ndarray]:
    """Rows of the sentences `first` to `last`, which lie in the documents given."""
    split, size = examples.split, len(first)
    offsets = split.sentence_offsets
    start, stop = offsets[first], offsets[last + 1]
    excess = np.maximum(stop - start - examples.max_tokens, 0)  # only a sentence alone is too long
    start = start + rng.integers(excess + 1)
    stop = np.minimum(stop, start + examples.max_tokens)
    length = stop - start + (last_document - first_document) + NUM_SPECIALS
    valid = np.arange(examples.length)[None] < length[:, None]
    # Everything that is not text is a separator: the end, and the gaps between documents.
    tokens = np.where(valid, np.int32(examples.sep_id), np.int32(examples.pad_id))
    tokens[:, 0] = examples.cls_id
    row, document = spread(first_document, last_document)
    starts = np.maximum(offsets[split.document_offsets[document]], start[row])
    stops = np.minimum(offsets[split.document_offsets[document + 1]], stop[row])
    columns = 1 + (starts - start[row]) + (document - first_document[row])
    put(tokens, row, columns, stops - starts, split.read(starts, stops))
    return {"tokens": tokens, "segments": np.zeros((size, examples.length), np.int32), "valid": valid}

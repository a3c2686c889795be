"""Inputs of one segment: [CLS] sentences [SEP].

Shapes: B examples, T sequence length.
"""

import numpy as np

from tx_jax.data.corpus import Split
from tx_jax.data.rng import RowRandom
from tx_jax.data.spans import Spans, pack, place
from tx_jax.errors import InputError

NUM_SPECIALS = 2


class DocSentences:
    """Consecutive whole sentences of one document, as many as fit (DOC-SENTENCES of Liu et al. 2019, section 4.2).

    A sentence longer than the sequence is cut at a place drawn anew in every epoch.
    """

    def __init__(self, split: Split, *, sequence_length: int, pad_id: int, cls_id: int, sep_id: int):
        self.split, self.length = split, sequence_length
        self.max_tokens = sequence_length - NUM_SPECIALS
        self.pad_id, self.cls_id, self.sep_id = pad_id, cls_id, sep_id
        self.spans: Spans = pack(split, target=self.max_tokens, min_sentences=1, overshoot=False)
        if not len(self.spans):
            raise InputError(
                f"no sentences in {split.name}: nothing to train on or to evaluate. Prepare the store with more text "
                "or another --validation_fraction"
            )

    def __len__(self) -> int:
        return len(self.spans)

    def rows(self, indices: np.ndarray, rng: RowRandom) -> dict[str, np.ndarray]:
        """tokens int32 [B, T], segments int32 [B, T] (all 0), valid bool [B, T]."""
        offsets = self.split.sentence_offsets
        first = self.spans.starts[indices]
        start, stop = offsets[first], offsets[first + self.spans.counts[indices]]
        excess = np.maximum(stop - start - self.max_tokens, 0)
        start = start + rng.integers(excess + 1)
        length = np.minimum(stop - start, self.max_tokens)
        row = np.arange(len(indices))
        tokens = np.full((len(indices), self.length), self.pad_id, np.int32)
        tokens[:, 0] = self.cls_id
        tokens[row, 1 + length] = self.sep_id
        tokens[place(row, np.ones_like(row), length)] = self.split.read(start, start + length)
        valid = np.arange(self.length)[None] < (length + NUM_SPECIALS)[:, None]
        return {"tokens": tokens, "segments": np.zeros_like(tokens), "valid": valid}

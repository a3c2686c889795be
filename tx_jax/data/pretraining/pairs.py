"""Sentence pairs for next-sentence prediction (Devlin et al. 2018, appendix A.2; google-research/bert).

Deliberate differences from `create_pretraining_data.py`, so that any example can be built alone and labels are fair:
- Spans are fixed. If B is random, that program returns the unused sentences of the span for the next pair; here A is
  the head or the tail of its span, by a fair coin, so that neither is left out more often.
- That program draws a short target once per document and packs all of it to that length; here an example is short with
  the same probability, made from a random run of sentences inside its span.
- A single sentence has no true next sentence. That program always gives it a random one, so the label can be guessed
  from the shape of the pair. Here a document of one sentence is left out, and a single sentence at the end of a
  document joins the previous span, so that labels are 50/50 whatever the shape.

Shapes: B examples, T sequence length.
"""

import functools

import numpy as np

from tx_jax.data.corpus.index import Recipe, count_type, open_index
from tx_jax.data.corpus.token_store import Split
from tx_jax.data.pretraining.spans import Spans, documents_of_sentences
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import put, require_room
from tx_jax.errors import InputError


class SentencePairs:
    """The pairs of one split. `rows` builds any of them.

    Parts are segments of several sentences that fill the sequence (BERT; SEGMENT-PAIR of Liu et al. 2019, section 4.2)
    or single sentences (SENTENCE-PAIR there). There are one or more separators between the parts: [CLS] A [SEP] B [SEP]
    in BERT, <s> A </s></s> B </s> in RoBERTa.

    Attributes:
      nbytes: memory held, in bytes.
    """

    def __init__(
        self,
        split: Split,
        *,
        sequence_length: int,
        short_sequence_probability: float,
        pad_id: int,
        cls_id: int,
        sep_id: int,
        single_sentences: bool = False,
        num_separators: int = 1,
    ):
        """
        Args:
          single_sentences: two neighboring sentences of a span of two, or of three at the end of a document; such
            pairs are never shortened by `short_sequence_probability`.
          num_separators: number of separators between the parts.

        Raises:
          InputError: a sequence too short for two parts; or fewer than two documents of two sentences, so that
            next-sentence prediction is impossible.
        """
        self.split, self.length = split, sequence_length
        self.num_separators, self.num_specials = num_separators, 2 + num_separators
        self.max_tokens = require_room(sequence_length, self.num_specials, "[CLS] A [SEP] B [SEP]", least=2)
        self.single_sentences = single_sentences
        self.short_sequence_probability = 0.0 if single_sentences else short_sequence_probability
        self.pad_id, self.cls_id, self.sep_id = pad_id, cls_id, sep_id
        target = 1 if single_sentences else self.max_tokens
        self._index = open_index(split, _eligible(split))
        self.eligible = self._index["documents"]  # those that pairs are drawn from
        if len(self.eligible) < 2:
            raise InputError(
                f"next-sentence prediction needs at least two documents of two sentences; of the {split.num_documents} "
                f"documents in {split.name} {len(self.eligible)} have that many. Split documents or sentences "
                "differently (python -m experiments.prepare --documents=… --sentences=…), hold out more "
                "(--validation_fraction) if the split is validation, or train without it: "
                "--config.data.packing=doc_sentences --config.model.heads=\"('masked_lm',)\""
            )
        self.spans = Spans(split, target=target, min_sentences=2, overshoot=True)
        self.nbytes = self.spans.nbytes + self._index.nbytes

    def __len__(self) -> int:
        return len(self.spans)

    def rows(self, indices: np.ndarray, rng: RowRandom) -> dict[str, np.ndarray]:
        """The pairs made of the given spans.

        Returns:
          tokens int32 [B, T], segments int32 [B, T], valid bool [B, T], next_sentence_labels int32 [B] (0: B follows A;
          1: B is from another document).
        """
        offsets = self.split.sentence_offsets
        start, stop, target = self._sub_spans(indices, rng)
        # A gets 1 .. n-1 of the n sentences; with a random B it is the head or the tail of the span.
        cut = start + 1 + rng.integers(stop - start - 1)
        random_next = rng.uniform() < 0.5
        tail = random_next & (rng.uniform() < 0.5)
        if self.single_sentences:
            start, stop = cut - 1, cut + 1
        a_start, a_stop = offsets[np.where(tail, cut, start)], offsets[np.where(tail, stop, cut)]
        wanted = np.ones_like(target) if self.single_sentences else target - (a_stop - a_start)
        b_start, b_stop = self._random_next(indices, wanted, rng)
        b_start = np.where(random_next, b_start, offsets[cut])
        b_stop = np.where(random_next, b_stop, offsets[stop])
        a_start, a_stop, b_start, b_stop = truncate_pair(a_start, a_stop, b_start, b_stop, self.max_tokens, rng)
        return {
            **self._assemble(a_start, a_stop, b_start, b_stop),
            "next_sentence_labels": random_next.astype(np.int32),
        }

    def _sub_spans(self, indices: np.ndarray, rng: RowRandom) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """First sentence, end and target length of each example: the whole span, or a short run inside it."""
        start, stop = self.spans.sentences(indices)
        short = rng.uniform() < self.short_sequence_probability
        target = np.where(short, 2 + rng.integers(self.max_tokens - 1), self.max_tokens)
        short_start = start + rng.integers(stop - start - 1)
        offsets = self.split.sentence_offsets
        short_stop = np.searchsorted(offsets, offsets[short_start] + target)
        short_stop = np.clip(short_stop, short_start + 2, stop)
        return np.where(short, short_start, start), np.where(short, short_stop, stop), target

    def _random_next(self, indices: np.ndarray, wanted: np.ndarray, rng: RowRandom) -> tuple[np.ndarray, np.ndarray]:
        """Token ranges of whole sentences of another document, from a random one on, of at least `wanted` tokens."""
        offsets, documents = self.split.sentence_offsets, self.split.document_offsets
        own = np.searchsorted(self.eligible, self.spans.documents[indices])  # of one type: else all would be copied
        other = rng.integers(len(self.eligible) - 1)
        other = self.eligible[other + (other >= own)].astype(np.int64)
        first, last = documents[other], documents[other + 1]
        start = first + rng.integers(last - first)
        stop = np.minimum(np.searchsorted(offsets, offsets[start] + np.maximum(wanted, 1)), last)
        return offsets[start], offsets[stop]

    def _assemble(self, a_start, a_stop, b_start, b_stop) -> dict[str, np.ndarray]:
        size = len(a_start)
        a_length, b_length = a_stop - a_start, b_stop - b_start
        row, column = np.arange(size), np.arange(self.length)[None]
        b_begin = 1 + a_length + self.num_separators
        total = (a_length + b_length + self.num_specials)[:, None]
        # Everything is a separator that is not text: the end, and what stands between the parts.
        tokens = np.where(column < total, np.int32(self.sep_id), np.int32(self.pad_id))
        tokens[:, 0] = self.cls_id
        flat = self.split.read(np.stack([a_start, b_start], 1).ravel(), np.stack([a_stop, b_stop], 1).ravel())
        runs = np.stack([a_length, b_length], 1).ravel()
        columns = np.stack([np.ones_like(a_length), b_begin], 1).ravel()
        put(tokens, np.repeat(row, 2), columns, runs, flat)
        second = (column >= b_begin[:, None]) & (column < total)
        return {"tokens": tokens, "segments": second.astype(np.int32), "valid": column < total}


def _eligible(split: Split) -> Recipe:
    columns = {"documents": count_type(split.num_documents)}
    find = functools.partial(documents_of_sentences, split, 2)
    return Recipe("documents", "list of documents of two sentences", {"least": 2}, columns, find)


def truncate_pair(a_start, a_stop, b_start, b_stop, max_tokens: int, rng: RowRandom):
    """Truncates pairs to `max_tokens`: always the longer part (B on a tie), token by token, front or back by a coin.

    The loop of google-research/bert's `truncate_seq_pair` in closed form: final lengths follow from the two lengths,
    and the number of tokens lost at the front is binomial.
    """
    a_length, b_length = a_stop - a_start, b_stop - b_start
    a_kept, b_kept = kept_lengths(a_length, b_length, max_tokens)
    a_lost, b_lost = a_length - a_kept, b_length - b_kept
    a_front, b_front = rng.binomial_half(a_lost), rng.binomial_half(b_lost)
    return a_start + a_front, a_stop - (a_lost - a_front), b_start + b_front, b_stop - (b_lost - b_front)


def kept_lengths(a_length: np.ndarray, b_length: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The lengths after the longer part of each pair (B on a tie) has lost tokens one by one until both fit."""
    a_half, b_half = -(-max_tokens // 2), max_tokens // 2
    a_kept = np.where(a_length <= a_half, a_length, np.where(b_length <= b_half, max_tokens - b_length, a_half))
    b_kept = np.where(b_length <= b_half, b_length, np.where(a_length <= a_half, max_tokens - a_length, b_half))
    fits = a_length + b_length <= max_tokens
    return np.where(fits, a_length, a_kept), np.where(fits, b_length, b_kept)

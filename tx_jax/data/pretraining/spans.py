"""Spans: which runs of sentences make one example, computed from the store's offsets with vectorised numpy.

Nothing is tokenised again for another sequence length, and the spans are the same in every epoch; what an epoch does
with a span (its split, its partner, its corruption) is drawn from (seed, epoch, index).
"""

import dataclasses

import numpy as np

from tx_jax.data.corpus.token_store import Split


@dataclasses.dataclass(frozen=True)
class Spans:
    """N runs of sentences, in corpus order. A run never leaves its document.

    Attributes:
      starts: int64 [N], global index of the first sentence.
      counts: int32 [N], sentences.
      documents: int64 [N], the document of each span.
    """

    starts: np.ndarray
    counts: np.ndarray
    documents: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nbytes(self) -> int:
        """Memory held, in bytes."""
        return self.starts.nbytes + self.counts.nbytes + self.documents.nbytes


def pack(split: Split, *, target: int, min_sentences: int, overshoot: bool) -> Spans:
    """Packs consecutive sentences of each document greedily, `target` tokens to a span.

    Args:
      target: tokens.
      min_sentences: shortest span; documents with fewer sentences give no span, and a shorter remainder at a
        document's end joins the span before it.
      overshoot: True closes a span with the sentence that reaches the target (google-research/bert), False before the
        one that would exceed it. A sentence longer than the target makes a span of its own either way.
    """
    tokens, documents = split.sentence_offsets, split.document_offsets
    first, last = documents[:-1], documents[1:]
    active = np.flatnonzero(last - first >= min_sentences)
    starts, ends = np.asarray(first[active]), np.asarray(last[active])
    spans = []
    while len(active):  # one span of every document at a time
        goal = tokens[starts] + target
        stops = np.searchsorted(tokens, goal, side="left" if overshoot else "right") - (0 if overshoot else 1)
        stops = np.minimum(np.maximum(stops, starts + min_sentences), ends)
        stops = np.where(ends - stops < min_sentences, ends, stops) if min_sentences > 1 else stops
        spans.append((starts, stops - starts, active))
        more = stops < ends
        starts, ends, active = stops[more], ends[more], active[more]
    if not spans:
        return Spans(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int64))
    starts, counts, owners = (np.concatenate(parts) for parts in zip(*spans, strict=True))
    order = np.argsort(starts)
    return Spans(starts[order].astype(np.int64), counts[order].astype(np.int32), owners[order].astype(np.int64))

"""Spans: which runs of sentences make one example, computed from the store's offsets with vectorized numpy.

Nothing is tokenized again for another sequence length, and the spans are the same in every epoch; what an epoch does
with a span (its split, its partner, its corruption) is drawn from (seed, epoch, index). So spans are computed once and
kept next to the store.
"""

import functools
from collections.abc import Callable, Iterator

import numpy as np

from tx_jax.data.corpus.index import Recipe, count_type, open_index
from tx_jax.data.corpus.token_store import Split
from tx_jax.data.rows import document_blocks

_BLOCK = 1 << 25  # tokens looked at together
_FEW = 8  # so few documents are processed faster one after another than together
_SENTENCES = 1 << 20  # of one document looked at together
Runs = tuple[np.ndarray, np.ndarray, np.ndarray]


class Spans:
    """N runs of sentences, in corpus order. A run never leaves its document.

    Attributes:
      starts: unsigned or int64 [N], global index of the first sentence.
      counts: int32 [N], sentences.
      documents: unsigned or int64 [N], the document of each span.
      nbytes: memory held, in bytes.
    """

    def __init__(self, split: Split, *, target: int, min_sentences: int, overshoot: bool):
        """The spans of `pack`."""
        settings = {"target": target, "min_sentences": min_sentences, "overshoot": overshoot}
        columns = {
            "starts": count_type(split.num_sentences),
            "counts": np.dtype("<i4"),
            "documents": count_type(split.num_documents),
        }
        find = functools.partial(pack, split, **settings)
        self._index = open_index(split, Recipe("spans", f"spans of {target} tokens", settings, columns, find))
        self.starts, self.counts, self.documents = map(self._index.__getitem__, columns)
        self.nbytes = self._index.nbytes

    def __len__(self) -> int:
        return len(self.starts)

    def sentences(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of these spans, the first sentences and those after the last: int64 [B] each."""
        starts = self.starts[indices].astype(np.int64)
        return starts, starts + self.counts[indices]


def pack(split: Split, *, target: int, min_sentences: int, overshoot: bool) -> Iterator[dict[str, np.ndarray]]:
    """Packs consecutive sentences of each document greedily, `target` tokens to a span.

    Args:
      target: tokens.
      min_sentences: shortest span; documents with fewer sentences give no span, and a shorter remainder at a
        document's end joins the span before it.
      overshoot: True closes a span with the sentence that reaches the target (google-research/bert), False before the
        one that would exceed it. A sentence longer than the target makes a span of its own either way.

    Yields the columns of `Spans`, a block of documents at a time.
    """
    for first, last in document_blocks(split, _BLOCK):
        documents = split.document_offsets[first : last + 1]
        begin = documents[0]
        tokens = split.sentence_offsets[begin : documents[-1] + 1]
        rule = functools.partial(
            _stops, tokens, target=target, min_sentences=min_sentences, side="left" if overshoot else "right"
        )
        pieces = _pieces(documents - begin, min_sentences, rule)
        # A document alone, which may be of any length, comes in order; many are taken side by side.
        for some in ([piece] for piece in pieces) if last - first == 1 else [list(pieces)]:
            if some:
                starts, stops, owners = (np.concatenate(parts) for parts in zip(*some, strict=True))
                order = np.argsort(starts)
                starts, stops, owners = starts[order], stops[order], owners[order]
                yield {"starts": begin + starts, "counts": stops - starts, "documents": first + owners}


def _stops(
    tokens: np.ndarray, starts: np.ndarray, ends: np.ndarray, *, target: int, min_sentences: int, side: str
) -> np.ndarray:
    """Where spans stop that begin with the sentences `starts` of documents that end before `ends`."""
    stops = np.searchsorted(tokens, tokens[starts] + target, side=side) - (side == "right")
    stops = np.minimum(np.maximum(stops, starts + min_sentences), ends)
    return np.where(ends - stops < min_sentences, ends, stops) if min_sentences > 1 else stops


def _pieces(documents: np.ndarray, min_sentences: int, rule: Callable[..., np.ndarray]) -> Iterator[Runs]:
    """The spans of some documents: starts, stops and documents of some of them at a time."""
    active = np.flatnonzero(np.diff(documents) >= min_sentences)
    starts, ends = documents[active], documents[active + 1]
    while len(active) > _FEW:  # one span of every document at a time
        stops = rule(starts, ends)
        yield starts, stops, active
        more = stops < ends
        starts, ends, active = stops[more], ends[more], active[more]
    for document, start, end in zip(active.tolist(), starts.tolist(), ends.tolist(), strict=True):
        while start < end:  # many spans of one document at a time
            sentences = np.arange(start, min(start + _SENTENCES, end))
            links = chain(rule(sentences, np.full_like(sentences, end)), start)
            yield links[:-1], links[1:], np.full(len(links) - 1, document)
            start = int(links[-1])


def chain(follows: np.ndarray, start: int) -> np.ndarray:
    """From `start` on, each number's follower, up to the first that has none: int64. 50 ns a link.

    Args:
      follows: of start, start + 1 and so on, each larger than its number.
    """
    links, end, followers = [start], start + len(follows), follows.tolist()
    while links[-1] < end:
        links.append(followers[links[-1] - start])
    return np.array(links, np.int64)


def documents_of_sentences(split: Split, least: int) -> Iterator[dict[str, np.ndarray]]:
    """The documents that have at least so many sentences, in order, a block at a time."""
    for first, last in document_blocks(split, _BLOCK):
        sentences = np.diff(split.document_offsets[first : last + 1])
        yield {"documents": first + np.flatnonzero(sentences >= least)}

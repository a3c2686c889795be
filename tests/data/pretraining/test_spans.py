"""Spans are those of a sentence-by-sentence walk, however many documents are looked at together."""

import itertools

import numpy as np
import pytest

from tests.data.synthetic import SyntheticSplit
from tx_jax.data.pretraining import spans
from tx_jax.data.pretraining.spans import Spans, chain, documents_of_sentences


def walked(documents, target, min_sentences, overshoot):
    """(first sentence, sentences, document) of each span, one sentence at a time."""
    found, begin = [], 0
    for number, lengths in enumerate(documents):
        at = 0
        while len(lengths) >= min_sentences and at < len(lengths):
            stop, tokens = at, 0
            while stop < len(lengths) and (
                stop - at < min_sentences or (tokens < target if overshoot else tokens + lengths[stop] <= target)
            ):
                tokens += lengths[stop]
                stop += 1
            if len(lengths) - stop < min_sentences and min_sentences > 1:
                stop = len(lengths)
            found.append((begin + at, stop - at, number))
            at = stop
        begin += len(lengths)
    return found


@pytest.mark.parametrize(("block", "few", "sentences"), [(1 << 25, 8, 1 << 20), (1, 8, 7), (600, 0, 1), (600, 100, 50)])
def test_spans_are_those_of_a_walk(monkeypatch, block, few, sentences):
    for name, value in (("_BLOCK", block), ("_FEW", few), ("_SENTENCES", sentences)):
        monkeypatch.setattr(spans, name, value)
    rng = np.random.default_rng(0)
    counts = [1, 2, 3, 400, *rng.integers(1, 12, 40), 90, 1]  # a few documents are far longer than the others
    documents = [rng.integers(1, 60, count).tolist() for count in counts]
    split = SyntheticSplit(documents)
    for target, min_sentences, overshoot in itertools.product((1, 30, 125), (1, 2), (True, False)):
        made = Spans(split, target=target, min_sentences=min_sentences, overshoot=overshoot)
        found = zip(made.starts.tolist(), made.counts.tolist(), made.documents.tolist(), strict=True)
        assert list(found) == walked(documents, target, min_sentences, overshoot)
    eligible = np.concatenate([part["documents"] for part in documents_of_sentences(split, 2)])
    assert eligible.tolist() == [number for number, lengths in enumerate(documents) if len(lengths) >= 2]


def test_a_chain_ends_with_the_first_number_that_has_no_follower():
    assert chain(np.array([12, 13, 15, 14]), 10).tolist() == [10, 12, 15]

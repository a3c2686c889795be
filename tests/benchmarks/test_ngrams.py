"""The n-gram baselines are probabilities, and orders differ as they must."""

import numpy as np
import pytest

from benchmarks.ngrams import BEGIN, END, KneserNey, bits_per_byte

TEXTS = [b"abracadabra", b"abba", b"cabbage and a cab", b"bad"]


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_probabilities_add_up_to_one(order):
    model = KneserNey(order, TEXTS)
    for context in ([BEGIN] * (order - 1), [*b"abbac"[: order - 1]], [*b"zzzzz"[: order - 1]]):
        total = sum(model.probability(tuple(context), symbol) for symbol in range(END + 1))
        assert total == pytest.approx(1)


def test_a_longer_context_tells_more_where_text_repeats():
    texts = [b"the cat sat on the mat. "] * 8
    found = [bits_per_byte(KneserNey(order, texts), texts[:1]) for order in (1, 2, 4, 6)]
    assert np.all(np.diff(found) < 0)
    assert 0 < found[-1] < 1

import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.attention import cases, formula
from tx_jax.nn.masks import Mask


def pairs(condition, length=7):
    return [[[[condition(query, key) for key in range(length)] for query in range(length)]]]


def test_no_mask():
    assert Mask().dense(3, 4) is None


def test_padding_hides_keys_from_every_query():
    valid = cases.valid(3, 2, 1)
    mask = Mask(valid).dense(3, 3)
    assert mask.shape == (2, 1, 1, 3)
    np.testing.assert_array_equal(mask[:, 0, 0], valid)


def test_causal():
    np.testing.assert_array_equal(Mask(causal=True).dense(7, 7), pairs(lambda query, key: key <= query))


@pytest.mark.parametrize(("window", "side"), [(2, 1), (4, 2), (6, 3), (20, 10)])
def test_window(window, side):
    expected = pairs(lambda query, key: abs(query - key) <= side)
    np.testing.assert_array_equal(Mask(window=window).dense(7, 7), expected)


def test_documents():
    documents = [[1, 1, 2, 2, 2, 3, 0], [4, 4, 4, 4, 4, 4, 4]]
    mask = Mask(documents_BT=jnp.asarray(documents)).dense(7, 7)
    assert mask.shape == (2, 1, 7, 7)
    for row, numbers in zip(mask, documents, strict=True):
        np.testing.assert_array_equal(row[None], pairs(lambda query, key, n=numbers: n[query] == n[key]))


@pytest.mark.parametrize("name", cases.masks(8))
def test_all_fields_must_allow(name):
    mask = cases.masks(8)[name]
    if (dense := mask.dense(8, 8)) is not None:
        np.testing.assert_array_equal(
            np.broadcast_to(dense, (2, 1, 8, 8)), np.broadcast_to(formula.may(mask, 8, 8), (2, 1, 8, 8))
        )


def test_the_queries_may_begin_later():
    mask = Mask(causal=True, window=4, first_query=jnp.int32(5))
    np.testing.assert_array_equal(mask.dense(2, 8), formula.may(mask, 2, 8))

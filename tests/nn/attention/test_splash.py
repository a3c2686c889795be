"""Splash attention, interpreted on the CPU, is the attention that one would write down."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.attention import plain
from tx_jax.nn.attention import splash
from tx_jax.nn.attention.case import Case
from tx_jax.nn.masks import Mask

SHAPE = (2, 256, 2, 64)
attend = functools.partial(splash.attend, interpret=True)


@pytest.mark.parametrize("name", plain.masks(*SHAPE[:2]))
def test_values_and_gradients(name):
    inputs, mask = plain.arrays(SHAPE), plain.masks(*SHAPE[:2])[name]
    expected = plain.value_and_gradients(plain.attend, *inputs, mask)
    plain.assert_equal(plain.value_and_gradients(attend, *inputs, mask), expected, 2e-4)


def test_blocks():
    """A length that 512 does not divide, with more than one block, some of which the window skips."""
    inputs, mask = plain.arrays((1, 640, 1, 64)), Mask(valid_BS=plain.lengths(1, 640), window=64)
    expected = plain.value_and_gradients(plain.attend, *inputs, mask)
    plain.assert_equal(plain.value_and_gradients(attend, *inputs, mask), expected, 2e-4)


def test_blocks_of_the_backward_kernel():
    """Large ones, so that few gradients of the queries are written before they are summed up; smaller where a mask lets
    it skip some. Those that are larger than what is computed at once give the same."""
    assert [splash.backward_block(length, False) for length in (128, 640, 1024, 4096)] == [128, 640, 1024, 2048]
    assert [splash.backward_block(length, True) for length in (128, 640, 1024, 4096)] == [128, 128, 512, 1024]
    assert splash.block(1024) == 512
    inputs, mask = plain.arrays((1, 1024, 1, 64)), Mask(valid_BS=plain.lengths(1, 1024))
    expected = plain.value_and_gradients(plain.attend, *inputs, mask)
    plain.assert_equal(plain.value_and_gradients(attend, *inputs, mask), expected, 2e-4)


def test_cross_attention_where_one_row_has_no_tokens():
    """All queries read the keys that are tokens; a row without any changes nothing in the others, and stays finite."""
    inputs = plain.arrays(SHAPE, keys=128)
    mask = Mask(valid_BS=plain.lengths(2, 128).at[0].set(False))
    actual = plain.value_and_gradients(attend, *inputs, mask)
    expected = plain.value_and_gradients(plain.attend, *inputs, mask)
    assert all(np.isfinite(x).all() for x in actual)
    plain.assert_equal([x[1:] for x in actual], [x[1:] for x in expected], 2e-4)


def test_bfloat16():
    inputs = plain.arrays((1, 128, 1, 64), dtype=jnp.bfloat16)
    expected = plain.value_and_gradients(plain.attend, *inputs, Mask())
    plain.assert_equal(plain.value_and_gradients(attend, *inputs, Mask()), expected, 0.02)


POSSIBLE = Case(platform="tpu", dtype="bfloat16", queries=512, keys=512, head_dim=64)


def test_what_it_can_do():
    assert splash.reason_against(POSSIBLE) is None
    assert splash.reason_against(dataclasses.replace(POSSIBLE, documents=True, causal=True, window=128)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"platform": "cpu"}, "TPUs, not on a CPU"),
        ({"dropout": 0.1}, "attention_dropout=0.1"),
        ({"relative": True}, "relative positions"),
        ({"capture": True}, "probabilities"),
        ({"cached": True}, "cache"),
        ({"length_parts": 2}, "split over 2 devices"),
        ({"queries": 100, "keys": 128}, "not 100 queries and 128 keys"),
        ({"dtype": "float16"}, "not in float16"),
        ({"head_dim": 80}, "multiple of 64, not 80"),
    ],
)
def test_reasons(changes, reason):
    assert reason in splash.reason_against(dataclasses.replace(POSSIBLE, **changes))

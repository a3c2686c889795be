"""Our kernels for short rows, interpreted on the CPU, are the attention that one would write down, dropout included."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.attention import plain
from tx_jax.nn.attention import rows
from tx_jax.nn.attention.case import Case
from tx_jax.nn.dropout import dropout_key, kept
from tx_jax.nn.masks import Mask

SHAPE = (2, 256, 2, 64)
attend = functools.partial(rows.attend, interpret=True)


def compare(inputs, mask, tolerance=1e-4, **options):
    expected = plain.value_and_gradients(plain.attend, *inputs, mask, **options)
    plain.assert_equal(plain.value_and_gradients(attend, *inputs, mask, **options), expected, tolerance)


@pytest.mark.parametrize("name", plain.masks(*SHAPE[:2]))
def test_values_and_gradients(name):
    compare(plain.arrays(SHAPE), plain.masks(*SHAPE[:2])[name], dropout_rate=0.1, dropout_key=dropout_key(5))


def test_without_dropout():
    compare(plain.arrays(SHAPE), plain.masks(*SHAPE[:2])["padded"])


@pytest.mark.parametrize(
    ("heads", "head_dim"),
    [(3, 64), (1, 128), (5, 32)],
    ids=["half a group beyond the last head", "one head a group", "four heads a group, and one in the last"],
)
def test_heads(heads, head_dim):
    inputs = plain.arrays((1, 128, heads, head_dim))
    compare(inputs, Mask(valid_BS=plain.lengths(1, 128) & False), dropout_rate=0.3, dropout_key=dropout_key(6))
    compare(inputs, Mask(), dropout_rate=0.3, dropout_key=dropout_key(6))


def test_loops():
    """Several blocks of queries in a loop, several groups of heads, and several steps of the grid."""
    inputs = plain.arrays((1, 1024, 2, 64))
    assert len(rows.make_plan(inputs[0].shape, 1024, Mask()).spans()) == 4
    compare(inputs, Mask(valid_BS=plain.lengths(1, 1024)), dropout_rate=0.1, dropout_key=dropout_key(7))
    shape = (1, 256, 12, 64)
    plan = rows.make_plan(shape, 256, Mask())
    assert plan.groups == 3
    assert plan.steps == 2
    compare(plain.arrays(shape), Mask(), dropout_rate=0.1, dropout_key=dropout_key(7))


@pytest.mark.parametrize("causal", [False, True])
def test_keys_that_a_window_skips(causal):
    """The last queries see none of the first keys, of which no scores are made; dropout still counts them."""
    inputs, mask = plain.arrays((1, 384, 1, 64)), Mask(valid_BS=plain.lengths(1, 384), causal=causal, window=32)
    assert rows.make_plan(inputs[0].shape, 384, mask).spans()[-1] == (256, 128, 384)
    compare(inputs, mask, dropout_rate=0.3, dropout_key=dropout_key(5))


def test_cross_attention_where_one_row_has_no_tokens():
    """A row that may attend to nothing gives zeros, its gradients are 0, and it changes nothing in the others."""
    inputs, mask = plain.arrays(SHAPE, keys=128), Mask(valid_BS=plain.lengths(2, 128).at[0].set(False))
    compare(inputs, mask, dropout_rate=0.1, dropout_key=dropout_key(8))
    for x in plain.value_and_gradients(attend, *inputs, mask):
        assert (x[0] == 0).all()


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_dropout_keeps_what_it_keeps_elsewhere(rate):
    """With equal scores and unit vectors as values, the result is the mask itself."""
    B, T, H, K = 2, 128, 2, 64
    key = jax.random.fold_in(dropout_key(9), 3)
    q = jnp.zeros((B, T, H, K))
    for part in range(T // K):
        v = jnp.broadcast_to(jnp.eye(T, K, -part * K)[None, :, None], (B, T, H, K))
        y = jax.jit(lambda q, v: attend(q, q, v, Mask(), dropout_rate=rate, dropout_key=key))(q, v)
        keep = kept(key, rate, (B, H, T, T))[0][..., part * K : (part + 1) * K]
        np.testing.assert_array_equal(np.asarray(y) > 0, np.asarray(keep).swapaxes(1, 2))


def test_bfloat16():
    inputs = plain.arrays((1, 128, 2, 64), dtype=jnp.bfloat16)
    compare(inputs, Mask(), 0.02, dropout_rate=0.1, dropout_key=dropout_key(5))


def test_the_kernels_have_names_and_costs():
    """XLA schedules by the cost, and the names are how a compiled program's calls are found."""
    q = jnp.zeros(SHAPE)
    text = str(jax.make_jaxpr(lambda q: jax.vjp(lambda q: attend(q, q, q, Mask()), q)[1](q))(q))
    for name in (rows.FORWARD, rows.BACKWARD):
        assert name in text
    scores = 2 * 2 * 256 * 256
    assert f"flops={2 * 2 * scores * 64}" in text
    assert f"flops={2 * 5 * scores * 64}" in text


POSSIBLE = Case(platform="tpu", dtype="bfloat16", queries=512, keys=512, head_dim=64, dropout=0.1)


def test_what_it_can_do():
    assert rows.reason_against(POSSIBLE) is None
    assert rows.reason_against(dataclasses.replace(POSSIBLE, documents=True, causal=True, window=128)) is None


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"platform": "gpu"}, "TPUs, not on a GPU"),
        ({"relative": True}, "relative positions"),
        ({"capture": True}, "probabilities"),
        ({"cached": True}, "cache"),
        ({"length_parts": 2}, "split over 2 devices"),
        ({"keys": 2048}, "up to 1024, not 512 queries and 2048 keys"),
        ({"queries": 100}, "not 100 queries"),
        ({"dtype": "float16"}, "not in float16"),
        ({"head_dim": 48}, "32, 64 or 128, not 48"),
    ],
)
def test_reasons(changes, reason):
    assert reason in rows.reason_against(dataclasses.replace(POSSIBLE, **changes))

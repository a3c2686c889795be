"""The model of what attention's TPU kernels cost."""

import dataclasses

import pytest

from tx_jax.nn.attention.case import Case
from tx_jax.planning.kernel_costs import CHIPS, cost, costs

CASE = Case(platform="tpu", dtype="bfloat16", queries=512, keys=512, head_dim=64)


def test_rows_by_hand():
    """512 x 512 scores of 64: twice 2, then 5 products of 128 lanes; q, k, v, y in, as many gradients out."""
    forward, backward = costs("rows", CASE, batch=3, heads=12)
    scores = 3 * 12 * 512 * 512
    assert forward.flops == 2 * 2 * 128 * scores
    assert backward.flops == 2 * 5 * 128 * scores
    array, sums = 3 * 512 * 768 * 2, 3 * 12 * 512 * 4
    assert forward.bytes == 4 * array + sums
    assert backward.bytes == 7 * array + sums


def test_dropout_costs_operations_only():
    for one, other in zip(
        costs("rows", CASE, 1, 12), costs("rows", dataclasses.replace(CASE, dropout=0.1), 1, 12), strict=True
    ):
        assert other.operations > 2 * one.operations
        assert dataclasses.replace(other, operations=one.operations) == one


@pytest.mark.parametrize(("name", "share"), [("rows", 0.625), ("splash", 0.75)])
def test_hidden_blocks_are_skipped(name, share):
    whole = dataclasses.replace(CASE, queries=1024, keys=1024)
    causal = dataclasses.replace(whole, causal=True)
    assert costs(name, causal, 1, 12)[0].flops == share * costs(name, whole, 1, 12)[0].flops
    window = dataclasses.replace(whole, window=128, queries=4096 if name == "splash" else 1024)
    assert costs(name, window, 1, 12)[0].flops < costs(name, dataclasses.replace(window, window=0), 1, 12)[0].flops


def test_what_binds():
    """Short rows wait for memory, as there are few scores for each number that is read; longer ones compute."""
    short = dataclasses.replace(CASE, queries=128, keys=128)
    assert cost("rows", short, 64, 12, "v5e")[1] == "memory"
    seconds, binds = cost("rows", CASE, 64, 12, "v5e")
    assert binds == "matrix units"
    assert seconds == pytest.approx(2 * (2 + 5) * 128 * 64 * 12 * 512**2 / CHIPS["v5e"].flops)
    dropout = dataclasses.replace(CASE, dropout=0.1)
    assert cost("rows", dropout, 64, 12, "v5e", backward=False)[1] == "vector units"
    assert cost("rows", CASE, 64, 12, "v5p")[0] < seconds

"""The model of what attention's TPU kernels cost."""

import dataclasses

import pytest

from tx_jax.nn.attention.case import Case
from tx_jax.planning import hlo
from tx_jax.planning.kernel_costs import CHIPS, costs, seconds_of_step

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


def test_relative_by_hand():
    """512 x 512 scores: q k^T, and two terms with 640 columns for 512; backward two gradients of q k^T, and for each
    term two of 640 columns, the gradient turned upside down, and 128 columns for its tokens; scores in float32."""
    forward, backward = costs("relative", CASE, batch=3, heads=12)
    scores, array = 3 * 12 * 512 * 512, 3 * 512 * 768 * 2
    assert forward.flops == 2 * 128 * scores * (1 + 2 * 1.25)
    assert backward.flops == 2 * 128 * scores * (2 + 2 * (2 * 1.25 + 1 + 0.25))
    assert forward.bytes == 2 * array + 4 * scores
    assert backward.bytes == 4 * array + 2 * scores


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


def seconds(case: Case, chip: str = "v5e") -> tuple[float, float]:
    return tuple(part.longest(chip)[0] for part in costs("rows", case, 64, 12))


def test_what_binds():
    """Short rows wait for memory, as there are few scores for each number that is read; longer ones compute."""
    short = dataclasses.replace(CASE, queries=128, keys=128)
    assert costs("rows", short, 64, 12)[1].longest("v5e")[1] == "memory"
    assert costs("rows", CASE, 64, 12)[1].longest("v5e")[1] == "matrix units"
    assert sum(seconds(CASE)) == pytest.approx(2 * (2 + 5) * 128 * 64 * 12 * 512**2 / CHIPS["v5e"].flops)
    dropout = dataclasses.replace(CASE, dropout=0.1)
    assert costs("rows", dropout, 64, 12)[0].longest("v5e")[1] == "vector units"
    assert sum(seconds(CASE, "v5p")) < sum(seconds(CASE))


def test_the_calls_of_a_step():
    """Two forward calls, one of them in a loop of three, and a backward call; others cost nothing."""

    def instruction(name: str, times: int = 1, opcode: str = "custom-call") -> hlo.Instruction:
        return hlo.Instruction(name, opcode, "jit(step)/layer_0", "bf16[2]", times, None, 0, "tpu_custom_call")

    step = [
        instruction("tx_rows_forward.1"),
        instruction("tx_rows_forward.2", times=3),
        instruction("tx_rows_backward.1"),
        instruction("another_kernel"),
        instruction("tx_rows_forward.3", opcode="get-tuple-element"),
    ]
    forward, backward = seconds(CASE)
    assert seconds_of_step(step, [(CASE, 12)], 64, 12, "v5e") == pytest.approx(4 * forward + backward)
    window = dataclasses.replace(CASE, window=128)
    mean = (4 * forward + 8 * seconds(window)[0]) / 12
    assert seconds_of_step(step[:1], [(CASE, 4), (window, 8)], 64, 12, "v5e") == pytest.approx(mean)

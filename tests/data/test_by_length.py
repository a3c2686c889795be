"""Every row comes once, in few shapes, with little padding."""

import numpy as np
import pytest

from tx_jax.data.by_length import CPU_TOKENS, STEP_BATCHES, batches_by_length, bucket


def lengths_of(count, longest=128):
    """Lengths as of sentences: most are short."""
    return np.clip(np.random.default_rng(0).lognormal(3, 0.6, count).astype(int), 2, longest)


@pytest.mark.parametrize("on_cpu", [False, True])
@pytest.mark.parametrize("devices", [1, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 500, 20_000])
@pytest.mark.parametrize("longest", [100, 128])
def test_each_row_comes_once_and_fits(longest, count, devices, on_cpu):
    lengths = lengths_of(count, longest)
    batches = list(batches_by_length(lengths, longest, 16, devices, on_cpu=on_cpu))
    assert sorted(i for indices, _, _ in batches for i in indices) == list(range(count))
    limit = min(16 * longest, CPU_TOKENS * devices) if on_cpu else 16 * longest
    for indices, rows, length in batches:
        assert lengths[indices].max() <= length <= longest
        assert len(indices) <= rows
        assert rows % devices == 0
        assert rows * length <= max(limit, devices * length)
    assert [length for _, _, length in batches] == sorted(length for _, _, length in batches)


def test_many_rows_have_little_padding_and_few_shapes():
    lengths = lengths_of(20_000)
    batches = list(batches_by_length(lengths, 128, 32))
    assert sum(rows * length for _, rows, length in batches) < 1.2 * lengths.sum()
    assert len({(rows, length) for _, rows, length in batches}) <= 4 * 3 + 2


@pytest.mark.parametrize(
    ("count", "length", "expected"),
    [
        (STEP_BATCHES * (32 * 128 // 20), 20, {20, 128}),
        (STEP_BATCHES * (32 * 128 // 28) - 1, 20, {32, 64, 128}),
        (128, 32, {32, 128}),
        (127, 32, {64, 128}),
        (63, 32, {128}),
    ],
)
def test_a_length_of_its_own_is_compiled_for_enough_rows_only(count, length, expected):
    batches = list(batches_by_length(np.array([length] * count + [128] * 3), 128, 32))
    assert {length for _, _, length in batches} == expected


def test_few_rows_are_one_batch_of_a_size_that_others_have_too():
    for count, longest, expected in ((3, 30, (4, 32)), (64, 21, (64, 32)), (1, 5, (1, 16)), (5, 128, (8, 128))):
        ((_, rows, length),) = batches_by_length(np.full(count, longest), 128, 32)
        assert (rows, length) == expected


@pytest.mark.parametrize(
    ("length", "longest", "expected"), [(1, None, 16), (17, None, 32), (33, 40, 40), (64, 128, 64)]
)
def test_buckets_are_powers_of_two_up_to_the_longest(length, longest, expected):
    assert bucket(length, longest) == expected

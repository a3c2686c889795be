"""Batches left out: the others keep their order and what they are."""

import dataclasses

import numpy as np
import pytest

from tests.data.test_loader import batches, equal  # noqa: F401 - a fixture
from tx_jax.config.skipped import batch_of, parse


@pytest.mark.parametrize(
    ("text", "ranges"),
    [
        ("", ()),
        ("7", ((7, 7),)),
        ("100-120, 7", ((7, 7), (100, 120))),
        ("3-5,6,1-2", ((1, 6),)),
        ("1-9,2-3", ((1, 9),)),
    ],
)
def test_ranges_are_put_in_order_and_joined(text, ranges):
    assert parse(text) == ranges


@pytest.mark.parametrize("start", [0, 4, 10])
def test_steps_take_the_batches_that_are_left_in_their_order(start):
    rng = np.random.default_rng(0)
    for _ in range(50):
        out = sorted(set(rng.integers(1, 40, rng.integers(0, 20)).tolist()))
        left = [batch for batch in range(start + 1, 100) if batch not in out]
        skipped = parse(",".join(map(str, out)))
        assert [batch_of(step, skipped, start) for step in range(start + 1, 60)] == left[: 59 - start]


def test_a_batch_that_moves_up_is_the_one_it_was(batches):  # noqa: F811
    skipping = dataclasses.replace(batches, skipped=parse("3-4,6"))
    for step, moved in enumerate((0, 1, 4, 6, 7)):
        assert equal(skipping.batch_at(step), batches.batch_at(moved))


def test_a_later_phase_counts_on(batches):  # noqa: F811
    phase = dataclasses.replace(batches, first_step=10)
    skipping = dataclasses.replace(phase, skipped=parse("5,12"))
    assert equal(skipping.batch_at(10), phase.batch_at(10))
    assert equal(skipping.batch_at(11), phase.batch_at(12))

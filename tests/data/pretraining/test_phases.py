"""Phases of training: each an order of its own, the first that of a training without phases."""

import dataclasses
import threading

import numpy as np
import pytest

from tests.data.test_loader import batches, equal, originals  # noqa: F401 - a fixture
from tx_jax.data.loader import PhasedBatches, phase_seed, read_ahead
from tx_jax.data.pretraining.targets import RateSchedule


@pytest.fixture
def phased(batches):  # noqa: F811
    """Three steps of 16 rows, three of 4, and the rest of 8."""
    parts = [
        dataclasses.replace(batches, batch_size=size, seed=phase_seed(0, number), first_step=start)
        for number, (start, size) in enumerate(((0, 16), (3, 4), (6, 8)))
    ]
    return PhasedBatches((0, 3, 6), parts)


def test_the_first_phase_has_the_order_of_a_training_without_phases(batches, phased):  # noqa: F811
    assert phase_seed(17, 0) == 17
    assert all(equal(phased.batch_at(step), batches.batch_at(step)) for step in range(3))


def test_each_phase_begins_an_order_of_its_own(batches, phased):  # noqa: F811
    assert [len(phased.batch_at(step)["tokens"]) for step in range(8)] == [16] * 3 + [4] * 3 + [8] * 2
    rows = originals(batches.batch_at(0))
    for number, start in ((1, 3), (2, 6)):
        own = dataclasses.replace(phased.parts[number], first_step=0)
        assert equal(phased.batch_at(start + 1), own.batch_at(1))
        got = originals(phased.batch_at(start))
        assert not np.array_equal(got, rows[: len(got)])
    assert len({phase_seed(seed, number) for seed in range(9) for number in range(9)}) == 81


def test_a_rate_of_masking_goes_on_through_the_phases(batches, phased):  # noqa: F811
    targets = dataclasses.replace(batches.targets, rate=RateSchedule(0.02, 0.15, 6))
    part = dataclasses.replace(phased.parts[1], targets=targets)
    shares = [part.batch_at(step)["masked_weights"].sum() / part.batch_at(step)["valid"].sum() for step in (3, 6)]
    assert shares[0] == pytest.approx(0.085, abs=0.02)
    assert shares[1] == pytest.approx(0.15, abs=0.02)


def test_reading_ahead_does_not_stop_at_the_boundary(phased):
    """The first batches of the second phase are built while the first phase still waits to be read."""
    ahead = threading.Event()

    class Noticing:
        def batch_at(self, step):
            if step == 4:
                ahead.set()
            return phased.batch_at(step)

    source = read_ahead(Noticing(), 1, 7, depth=4)
    assert equal(next(source), phased.batch_at(1))
    assert ahead.wait(timeout=60)
    for step in range(2, 7):
        assert equal(next(source), phased.batch_at(step))

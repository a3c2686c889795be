"""The other side of a comparison works in a process of its own, and its errors arrive."""

import os
import time

import pytest

from benchmarks import measure
from benchmarks.apart import Apart


class Side:
    def __init__(self, start: int, *, step: int = 1):
        if step < 0:
            raise ValueError("step must not be negative")
        self.value, self._step = start, step

    def add(self, count: int) -> int:
        self.value += count * self._step
        return self.value

    def __call__(self) -> int:
        return os.getpid()

    def work(self) -> None:
        end = time.process_time() + 0.05
        while time.process_time() < end:
            pass


@pytest.fixture(scope="module")
def side():
    made = Apart(Side, 1, step=2)
    yield made
    made.close()


def test_it_lives_in_another_process_and_keeps_its_state(side):
    assert side() == side() != os.getpid()
    assert [side.call("add", 1), side.call("add", 2)] == [3, 7]


def test_its_errors_arrive_and_it_goes_on(side):
    with pytest.raises(RuntimeError, match="AttributeError: 'Side' object has no attribute 'multiply'"):
        side.call("multiply")
    assert side() != os.getpid()
    with pytest.raises(RuntimeError, match="step must not be negative"):
        Apart(Side, 1, step=-1)


def test_the_processor_time_of_a_part_is_that_of_its_process(side):
    (processor,) = measure.interleaved({"theirs": side.part("work")}, rounds=1).processor.values()
    assert processor[0] >= 0.05

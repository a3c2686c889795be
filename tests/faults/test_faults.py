"""The quick form of `python -m tests.faults.run`: a fault of each kind that only whole processes show."""

import pytest

from tests.faults import faults
from tests.faults.driver import POINTS
from tests.faults.processes import Place, pretraining


@pytest.fixture(scope="module")
def place(tiny_store, tmp_path_factory):
    return Place(tmp_path_factory.mktemp("faults"), pretraining(tiny_store.path))


def attempt(fault, place, *arguments):
    try:
        fault(place, *arguments)
    except faults.Impossible as error:
        pytest.skip(f"not possible here: {error}")


def test_a_kill_while_a_save_is_committed_loses_nothing(place):
    attempt(faults.killed, place, 1 + list(POINTS).index("rename"))


def test_sigterm_before_the_loop_loses_nothing(place):
    attempt(faults.terminated, place, "imports")


def test_without_permission_the_checkpoint_before_stays(place):
    attempt(faults.no_permission, place, "checkpoints")


def test_a_full_disk_leaves_the_checkpoint_before(place):
    attempt(faults.disk_full, place, "checkpoint")


def test_without_a_good_checkpoint_nothing_begins_anew(place):
    attempt(faults.none_valid, place, "a byte flipped")

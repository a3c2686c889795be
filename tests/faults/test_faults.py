"""The quick form of `python -m tests.faults.run`: a fault of each kind, most of them in whole processes and thus long
tests; the others are of the short form."""

import functools
import shutil

import pytest

from tests.faults import driver, faults, starts
from tests.faults.driver import POINTS
from tests.faults.processes import Place, Run, pretraining
from tests.fine_tuning import train


@pytest.fixture(scope="module")
def place(tiny_store, tmp_path_factory):
    return Place(tmp_path_factory.mktemp("faults"), pretraining(tiny_store.path))


def attempt(fault, place, *arguments):
    try:
        fault(place, *arguments)
    except faults.Impossible as error:
        pytest.skip(f"not possible here: {error}")


@pytest.mark.long
def test_a_kill_while_a_save_is_committed_loses_nothing(place):
    attempt(faults.killed, place, 1 + list(POINTS).index("rename"))


@pytest.mark.long
def test_sigterm_before_the_loop_loses_nothing(place):
    attempt(faults.terminated, place, "imports")


@pytest.mark.long
def test_without_permission_the_checkpoint_before_stays(place):
    attempt(faults.no_permission, place, "checkpoints")


@pytest.mark.long
def test_a_full_disk_leaves_the_checkpoint_before(place):
    attempt(faults.disk_full, place, "checkpoint")


def test_without_a_good_checkpoint_nothing_begins_anew(place):
    attempt(faults.none_valid, place, "a byte flipped")


def train_with_kills(run: Run, points, monkeypatch) -> list[Run]:
    """Trains to the end in this process. Returns what a kill -9 at each point would have left: the run directory as it
    was then."""
    killed = [
        Run(run.workdir.with_name(f"{run.workdir.name} {point} {number}"), run.recipe) for point, number in points
    ]
    with monkeypatch.context() as patched:
        for (point, number), copy in zip(points, killed, strict=True):
            act = functools.partial(shutil.copytree, run.workdir, copy.workdir)
            driver.at(point, number, act, put=patched.setattr)
        train(run.recipe.in_process(), run.workdir)
    return killed


@pytest.mark.long
def test_a_run_from_a_model_outlives_a_kill_in_its_first_save(place, monkeypatch):
    """Of classification and distillation: tests/runs/test_killed_first_save.py, and the long table."""
    place = starts.from_model(place, "LoRA")
    for run in train_with_kills(place.run("uninterrupted"), [("rename", 1)], monkeypatch):
        assert not run.committed()
        train(run.recipe.in_process(), run.workdir)
        place.check_story(run)


@pytest.mark.long
def test_a_kill_between_history_and_config_loses_nothing(place, tmp_path, monkeypatch):
    place = Place(tmp_path, place.recipe)
    points = [("history", 1), ("committed", 2)]
    first, later = train_with_kills(place.run("uninterrupted"), points, monkeypatch)
    (again,) = train_with_kills(later, [("history", 1)], monkeypatch)
    assert not (first.workdir / "config.json").exists()
    assert again.committed() == [10, 20]
    for run in (first, again):
        train(run.recipe.in_process(), run.workdir)
        place.check_story(run)

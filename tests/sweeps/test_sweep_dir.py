"""What the directory of a sweep tells, and what it refuses."""

import pytest

from tests.sweeps import runs
from tx_jax.errors import InputError
from tx_jax.runs.run_dir import RunDir
from tx_jax.sweeps.listed import Listed
from tx_jax.sweeps.settings import trials
from tx_jax.sweeps.sweep_dir import State, SweepDir

TRIALS = trials([{"optimizer.learning_rate": rate} for rate in ("1", "2", "3", "4", "5")])


@pytest.fixture
def directory(tmp_path):
    return SweepDir(tmp_path / "sweep")


def test_the_state_of_a_trial_is_what_its_run_directory_says(directory):
    done, failed, killed, pruned, new = TRIALS
    runs.finish(directory, done, 0.5)
    runs.begin(directory, failed)
    directory.mark(failed, State.FAILED, "no memory")
    runs.begin(directory, killed)
    runs.begin(directory, pruned)
    directory.mark(pruned, State.PRUNED, "bad")
    states = [State.DONE, State.FAILED, State.STOPPED, State.PRUNED, State.NEW]
    assert [directory.state(one) for one in TRIALS] == states
    assert directory.reason(failed) == "no memory"
    assert {one.name for one in directory.begun()} == {one.name for one in TRIALS[:4]}
    assert next(directory.begun()).setting == done.setting
    with RunDir(directory.folder(killed)).lock():
        assert directory.state(killed) == State.RUNNING
        source = Listed(TRIALS, directory, retry=False)
        assert [source.next(), source.next()] == [new, None]  # the other is left to the process that trains it
        assert source.waits()
    assert source.next() == killed
    assert source.next() is None
    assert not source.waits()
    retried = Listed(TRIALS, directory, retry=True)
    assert [retried.next() for _ in range(4)] == [failed, killed, new, None]
    directory.prepare(failed)
    assert directory.state(failed) == State.STOPPED


def test_a_run_without_its_evaluation_is_not_done(directory):
    runs.finish(directory, TRIALS[0], 0.5)
    (directory.folder(TRIALS[0]) / "evaluation.json").unlink()
    assert directory.state(TRIALS[0]) == State.STOPPED


def test_another_sweep_is_refused_with_what_differs(directory):
    directory.begin({"axes": {"seed": ("0", "1")}, "search": "grid"})
    directory.begin({"axes": {"seed": ("0", "1")}, "search": "grid"})
    with pytest.raises(InputError, match=r"holds another sweep: axes.seed: \['0', '1'\] -> \['0'\]. Give what it"):
        directory.begin({"axes": {"seed": ("0",)}, "search": "grid"})
    (directory.path / "config.json").write_text("{}")
    with pytest.raises(InputError, match="holds a run: give another --workdir"):
        directory.begin({"axes": {"seed": ("0", "1")}, "search": "grid"})


def test_two_at_once_are_refused(directory):
    with directory.lock(), pytest.raises(InputError, match=r"process \d+ on .* runs the sweep in .*sweep: wait"):
        directory.lock().__enter__()


def test_a_training_keeps_its_own_words_about_its_failure(directory):
    folder = runs.begin(directory, TRIALS[0])
    (folder / "FAILED").write_text("the loss is not finite\n")
    directory.mark(TRIALS[0], State.FAILED, "exit code 1")
    assert directory.reason(TRIALS[0]) == "the loss is not finite"

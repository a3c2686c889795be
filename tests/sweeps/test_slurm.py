"""Trials as jobs, by submitit's executor for this machine; programs instead of trainings."""

import importlib.util
import sys
import time

import pytest

from tests.sweeps import runs
from tx_jax.errors import InputError
from tx_jax.sweeps import slurm, workers
from tx_jax.sweeps.listed import Listed
from tx_jax.sweeps.settings import trials
from tx_jax.sweeps.sweep_dir import LOG, State, SweepDir

HAS_SUBMITIT = importlib.util.find_spec("submitit") is not None
needs_submitit = pytest.mark.skipif(not HAS_SUBMITIT, reason="needs submitit, which the extra `slurm` installs")
TRIALS = trials([{"a": str(number)} for number in range(3)])


def run(directory, programs, stopping=lambda: False):
    ends = {}

    def command(one):
        return [sys.executable, "-c", f"folder = {str(directory.folder(one))!r}\n" + programs[int(one.setting["a"])]]

    jobs = slurm.Jobs(directory.path / slurm.FOLDER, slurm.parse(["cluster=local"]))
    source = Listed(TRIALS[: len(programs)], directory, retry=False)
    report = lambda one, state, words: ends.__setitem__(one.name, (state, words))  # noqa: E731
    workers.run(directory, source, [slurm.SHARE] * 2, command, report, stopping, jobs.start)
    return [ends[one.name] for one in TRIALS[: len(programs)]]


@needs_submitit
def test_how_a_job_ends_decides_the_state_of_its_trial(tmp_path):
    directory = SweepDir(tmp_path)
    runs.finish(directory, TRIALS[0], 0.5)
    (directory.folder(TRIALS[0]) / "DONE").unlink()
    ends = run(
        directory,
        [
            "import tx_jax.config; print('trains'); open(folder + '/DONE', 'w').close()",
            "print('error: no such file'); raise SystemExit(2)",
            "raise SystemExit(75)",
        ],
    )
    assert [state for state, _ in ends] == [State.DONE, State.FAILED, State.STOPPED]
    assert directory.reason(TRIALS[1]) == "error: no such file"
    assert (directory.folder(TRIALS[0]) / LOG).read_text() == "trains\n"
    assert list((tmp_path / slurm.FOLDER).iterdir())


@needs_submitit
def test_a_sweep_that_stops_has_its_jobs_save(tmp_path):
    directory = SweepDir(tmp_path)
    waits = (
        "import signal, sys, time; signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))\n"
        "open(folder + '/config.json', 'w').close()\ntime.sleep(60)"
    )
    begun = directory.folder(TRIALS[0]) / "config.json"
    deadline = time.monotonic() + 60
    ends = run(directory, [waits], stopping=lambda: begun.exists() or time.monotonic() > deadline)
    assert ends[0][0] == State.STOPPED
    assert time.monotonic() < deadline


@needs_submitit
@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("partition", "give KEY=VALUE, such as"),
        ("partitoin=gpu", "submitit has no parameter 'partitoin'. Did you mean 'partition'?"),
        ("nodes=2", "each trial is one process: leave it out"),
    ],
)
def test_bad_parameters(entry, said):
    with pytest.raises(InputError, match=f"--slurm={entry}: {said}"):
        slurm.parse([entry])


@needs_submitit
def test_parameters_go_to_submitit_as_what_they_are(tmp_path):
    assert slurm.parse(["partition=gpu", "timeout_min=240"]) == {"partition": "gpu", "timeout_min": 240}
    with pytest.raises(InputError, match=r"--slurm: "):  # there is no SLURM here
        slurm.Jobs(tmp_path, {"partition": "gpu"})


def test_without_submitit_it_is_said(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'--slurm needs submitit, which is missing: pip install -e ".\[slurm\]"'):
        slurm.parse(["partition=gpu"])

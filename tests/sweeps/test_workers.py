"""Trials run by processes, without trainings."""

import os
import subprocess
import sys
import time

import pytest

from tests.sweeps import runs
from tx_jax.sweeps import workers
from tx_jax.sweeps.devices import Share
from tx_jax.sweeps.listed import Listed
from tx_jax.sweeps.settings import trials
from tx_jax.sweeps.sweep_dir import LOG, State, SweepDir

SHARES = [Share({"SHARE": str(number)}, None, f"share {number}") for number in range(2)]
TRIALS = trials([{"a": str(number)} for number in range(5)])


@pytest.fixture
def directory(tmp_path):
    return SweepDir(tmp_path)


def run(directory, programs, source=None, stopping=lambda: False, shares=SHARES):
    """Runs a program of Python for each trial; returns what was reported of each end."""
    ends = {}

    def report(one, state, words):
        if state != State.RUNNING or one.name in ends:
            ends[one.name] = (state, words)

    def command(one):
        return [sys.executable, "-c", f"folder = {str(directory.folder(one))!r}\n" + programs[int(one.setting["a"])]]

    source = source or Listed(TRIALS[: len(programs)], directory, retry=False)
    workers.run(directory, source, shares, command, report, stopping)
    return [ends[one.name] for one in TRIALS[: len(programs)] if one.name in ends]


def test_how_a_trial_ends_decides_its_state(directory):
    runs.finish(directory, TRIALS[0], 0.5)
    (directory.folder(TRIALS[0]) / "DONE").unlink()
    ends = run(
        directory,
        [
            "open(folder + '/DONE', 'w').close()",
            "print('error: no such file'); raise SystemExit(2)",
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "raise SystemExit(75)",
            "pass",
        ],
    )
    assert [state for state, _ in ends] == [State.DONE, State.FAILED, State.STOPPED, State.STOPPED, State.FAILED]
    assert "error: no such file" in ends[1][1]
    assert "killed by SIGKILL; the same command continues it" in ends[2][1]
    assert "the training ended, but is not done" in ends[4][1]
    assert directory.reason(TRIALS[1]) == "error: no such file"
    assert not (directory.folder(TRIALS[2]) / "FAILED").exists()


def test_each_has_its_share_and_its_log(directory):
    run(directory, ["import os, time; time.sleep(0.5); print(os.environ['SHARE'], os.environ['PYTHONPATH'])"] * 3)
    said = [(directory.folder(one) / LOG).read_text().split() for one in TRIALS[:3]]
    assert {share for share, _ in said} == {"0", "1"}
    assert os.path.isfile(os.path.join(said[0][1].split(os.pathsep)[0], "experiments/train.py"))


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="no affinity here")
def test_a_worker_keeps_to_its_cores(directory):
    core = min(os.sched_getaffinity(0))
    run(directory, ["import os; print(os.sched_getaffinity(0))"], shares=[Share({}, frozenset({core}), "a core")])
    assert (directory.folder(TRIALS[0]) / LOG).read_text().strip() == f"{{{core}}}"


WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(75))
open(folder + '/ready', 'w').close()
time.sleep(60)
"""


def test_a_stop_ends_all_and_begins_none(directory):
    stopping = lambda: all((directory.folder(one) / "ready").exists() for one in TRIALS[:2])  # noqa: E731
    ends = run(directory, [WAITS] * 3, stopping=stopping)
    assert [state for state, _ in ends] == [State.STOPPED] * 2
    assert directory.state(TRIALS[2]) == State.NEW


def test_a_trial_is_given_up_when_its_source_says_so(directory, monkeypatch):
    monkeypatch.setattr(workers, "PRUNE_SECONDS", 0.0)

    class Strict(Listed):
        def verdict(self, trial):
            return "bad curve" if (directory.folder(trial) / "ready").exists() else ""

    ((state, words),) = run(directory, [WAITS], Strict(TRIALS[:1], directory, retry=False))
    assert state == State.PRUNED
    assert "bad curve" in words
    assert directory.state(TRIALS[0]) == State.PRUNED
    assert Listed(TRIALS[:1], directory, retry=True).next() is None


def test_an_error_leaves_no_process_behind(directory):
    class Broken(Listed):
        def ended(self, trial, state):
            raise RuntimeError("broken")

    ready = directory.folder(TRIALS[0]) / "ready"
    waits = f"import os, time\nwhile not os.path.exists({str(ready)!r}):\n    time.sleep(0.1)"
    says = WAITS.replace("import", "import os; print(os.getpid(), flush=True); import", 1)
    with pytest.raises(RuntimeError, match="broken"):
        run(directory, [says, waits], Broken(TRIALS[:2], directory, retry=False))
    pid = int((directory.folder(TRIALS[0]) / LOG).read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a process that its parent died")
def test_a_trial_is_stopped_when_the_sweep_is_killed(tmp_path):
    trial = f"folder = {str(tmp_path)!r}\n" + WAITS.replace(
        "sys.exit(75)", "sys.exit(open(folder + '/stopped', 'w').close())"
    )
    program = (
        "import sys, time\n"
        "from tx_jax.sweeps import workers\n"
        "from tx_jax.sweeps.devices import Share\n"
        f"with open({str(tmp_path / LOG)!r}, 'ab') as log:\n"
        f"    workers.start_process([sys.executable, '-c', {trial!r}], Share({{}}, None, ''), log)\n"
        "time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program])
    wait_for(tmp_path / "ready")
    process.kill()
    process.wait()
    wait_for(tmp_path / "stopped")


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)

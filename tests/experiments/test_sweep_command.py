"""Sweeps as a user runs them: a grid with a setting that fails, again, continued; TPE; one killed at random points."""

import csv
import json
import random
import signal
import subprocess
import sys
import time

import pytest

from tests import labeled_files, programs
from tests.data.labeled.configs import labeled
from tests.experiments.test_command_lines import executed
from tx_jax.runs import metrics_log


def sweep(*arguments):
    return programs.run("tests.experiments.sweep_in_forks", *arguments, asks=True)


@pytest.fixture(scope="module")
def arguments(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    labeled_files.write(folder / "texts.csv", labeled(), count=30)
    labeled_files.write(folder / "test.csv", labeled(), count=9, seed=1)
    labeled_files.write_model(folder / "model", tiny_store.tokenizer())
    return [
        "--config=configs/classification.py:smoke",
        f"--config.data.train={folder / 'texts.csv'}",
        f"--config.data.test={folder / 'test.csv'}",
        f"--config.start_from={folder / 'model'}",
        "--config.training.num_steps=4",
        "--config.training.eval_every=2",
        "--config.training.checkpoint_every=2",
    ]


@pytest.fixture(scope="module")
def grid(arguments):
    """Texts of 4096 tokens are more than the model takes, so these trials fail."""
    return [*arguments, "--sweep.data.sequence_length=16,4096", "--sweep.seed=0,1"]


@pytest.fixture(scope="module")
def done(grid, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweeps") / "grid"
    return workdir, sweep(*grid, f"--workdir={workdir}")


NAMES = [f"sequence_length_{length}__seed_{seed}" for length in (16, 4096) for seed in (0, 1)]


@pytest.mark.long
def test_a_trial_that_fails_is_marked_and_stops_no_other(done):
    workdir, process = done
    assert process.returncode == 1, process.stderr
    assert sorted(path.parent.name for path in workdir.glob("*/trial.json")) == sorted(NAMES)
    assert [(workdir / name / "DONE").exists() for name in NAMES] == [True, True, False, False]
    assert "data.sequence_length=4096 exceeds model.max_length=64" in (workdir / NAMES[2] / "FAILED").read_text()
    results = json.loads((workdir / "results.json").read_text())
    values = [json.loads((workdir / name / "evaluation.json").read_text()) for name in NAMES[:2]]
    scores = [one["validation"]["metrics"]["macro_f1"] for one in values]
    assert results["best"]["mean"] == pytest.approx(sum(scores) / 2)
    assert results["best"]["setting"] == {"data.sequence_length": "16"}
    assert "--config.data.sequence_length=16 --seeds=0,1" in results["best"]["command"]
    assert process.stdout.count("on test data") == 1
    assert results["best"]["command"] in process.stdout
    with (workdir / "trials.csv").open() as file:
        assert [row["state"] for row in csv.DictReader(file)] == ["done", "done", "failed", "failed"]
    assert (workdir / "sweep.png").stat().st_size > 0


def test_again_only_what_is_not_done(done, grid):
    workdir, _ = done
    (workdir / NAMES[1] / "evaluation.json").unlink()  # as if it had been killed before its evaluation
    logs = [metrics_log.read(workdir / name) for name in NAMES[:2]]
    again = sweep(*grid, f"--workdir={workdir}")
    assert again.returncode == 1, again.stderr
    assert "1 are done already." in again.stdout
    assert "2 are failed already; --retry trains them again." in again.stdout
    assert [name for name in NAMES if f"{name}: started" in again.stdout] == [NAMES[1]]
    assert [metrics_log.read(workdir / name) for name in NAMES[:2]] == logs
    retried = sweep(*grid, f"--workdir={workdir}", "--retry")
    assert [name for name in NAMES if f"{name}: started" in retried.stdout] == NAMES[2:]
    other = sweep(*grid[:-1], "--sweep.seed=0,2", f"--workdir={workdir}")
    assert other.returncode == 2
    assert "holds another sweep" in other.stderr
    assert len(other.stderr.strip().splitlines()) == 1


def test_a_dry_run_trains_nothing(grid, tmp_path):
    shown = executed("sweep", *grid, f"--workdir={tmp_path / 'new'}", "--dry_run")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("python -m experiments.train") == 4
    assert "data.sequence_length: 32 -> 16" in shown.stdout
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (["--search=random"], "--search=random needs --trials=N"),
        (["--trials=3"], "--trials=N is for --search=random and tpe"),
        (["--study=sqlite:///x.db"], "--study is for --search=tpe"),
        (["--workers=999"], "and each worker needs one"),
        (["--sweep.optimizer.lr=1"], "Did you mean 'optimizer.learning_rate'?"),
        (["--sweep.seed"], "give values, such as --sweep.seed=0,1,2"),
    ],
)
def test_bad_input(grid, tmp_path, flags, expected):
    refused = sweep(*grid, f"--workdir={tmp_path / 'new'}", *flags)
    assert refused.returncode == 2
    assert expected in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "new/sweep.json").exists()


def _result(workdir, name):
    """All that does not depend on the clock."""
    folder = workdir / name
    log = [{k: v for k, v in one.items() if not metrics_log.is_timed(k)} for one in metrics_log.read(folder)]
    return log, (folder / "evaluation.json").read_text()


@pytest.mark.long
def test_a_sweep_killed_at_random_points_ends_with_the_results_of_one_that_was_not(arguments, tmp_path):
    """`kill -9` of the sweep, four times, then SIGTERM; its trials are asked to stop by the system."""
    given = [argument for argument in arguments if "num_steps" not in argument] + ["--config.training.num_steps=200"]
    given += ["--sweep.optimizer.learning_rate=1e-3,2e-3", "--sweep.seed=0,1"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert executed("sweep", *given, f"--workdir={whole}").returncode == 0
    rng = random.Random(0)
    command = [sys.executable, "-m", "experiments.sweep", *map(str, given), f"--workdir={killed}"]
    for sent in (signal.SIGKILL,) * 4 + (signal.SIGTERM,):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        time.sleep(rng.uniform(5, 20))
        process.send_signal(sent)
        errors = process.communicate()[1]
        assert process.returncode in (-sent, 75, 0), errors  # -SIGTERM: in its imports
    last = executed("sweep", *given, f"--workdir={killed}")
    assert last.returncode == 0, last.stderr
    names = [path.parent.name for path in whole.glob("*/DONE")]
    assert len(names) == 4
    for name in names:
        assert _result(killed, name) == _result(whole, name)
    for file in ("results.csv", "trials.csv"):
        assert (killed / file).read_text() == (whole / file).read_text()


@pytest.mark.long
def test_tpe_ends_with_a_table(arguments, tmp_path):
    pytest.importorskip("optuna")
    given = [*arguments, "--sweep.optimizer.learning_rate=log(1e-5,1e-2)", "--search=tpe", f"--workdir={tmp_path}"]
    done = executed("sweep", *given, "--trials=2")
    assert done.returncode == 0, done.stderr
    more = executed("sweep", *given, "--trials=3")
    assert more.returncode == 0, more.stderr
    assert more.stdout.count(": started") == 1
    assert len(json.loads((tmp_path / "results.json").read_text())["settings"]) == 3

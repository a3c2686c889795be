"""Sweeps as a user runs them: a grid with a setting that fails, again, continued; TPE; one killed at random points."""

import csv
import json

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

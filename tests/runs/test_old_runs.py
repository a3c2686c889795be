"""What version 0.1 wrote (commit e67427e): run directories and a converted model still open, go on and evaluate.

tests/golden/old_runs.tar.gz was made with its commands: a store; a pretraining run of 8 steps, killed after its
checkpoint of step 4, with the metrics of the whole run beside it; a classification and a regression that are done; and
a converted model. The pretraining is without dropout, whose masks are others now.
"""

import json
import pathlib
import tarfile

import numpy as np
import pytest

from tests import golden
from tests.training.test_loop import Silent
from tx_jax.config import to_dict
from tx_jax.evaluation import report
from tx_jax.evaluation.fill_mask import fill_mask
from tx_jax.runs import history, metrics_log, trained
from tx_jax.runs.run_dir import RunDir
from tx_jax.tasks.registry import open_task
from tx_jax.training import loop


@pytest.fixture
def old(tmp_path, monkeypatch):
    """Their folder, which the paths in them are relative to."""
    with tarfile.open(pathlib.Path(golden.__file__).with_name("old_runs.tar.gz")) as archive:
        archive.extractall(tmp_path, filter="data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_run_goes_on_with_the_numbers_that_it_would_have_had(old):
    config = RunDir(old / "interrupted").load_config()
    assert config.task == "masked_lm"
    loop.train(config, open_task(config), old / "interrupted", Silent())
    expected = [json.loads(line) for line in (old / "expected.jsonl").read_text().splitlines()]
    found = metrics_log.read(old / "interrupted")
    assert [(r["step"], r["split"]) for r in found] == [(r["step"], r["split"]) for r in expected]
    for one, other in zip(found, expected, strict=True):
        for name in [n for n in other if n not in ("step", "split", "time") and not metrics_log.is_timed(n)]:
            # Other machines, and the flags of the tests, round otherwise.
            np.testing.assert_allclose(one[name], other[name], rtol=1e-3, err_msg=f"{name} at {other['step']}")
    before, start = history.read(old / "interrupted")
    assert (before["to_step"], start["after_step"], start["to_step"]) == (4, 4, 8)


@pytest.mark.parametrize(
    ("name", "task", "score"),
    [("classification", "classification", "accuracy"), ("regression", "regression", "pearson")],
)
def test_a_fine_tuned_model_is_evaluated(old, name, task, score):
    reports = report.evaluate_run(old / name)
    config = RunDir(old / name).load_config()
    assert config.task == task
    assert "regression" not in to_dict(config)["data"]
    stored = json.loads((old / name / "evaluation.json").read_text())["validation"]
    assert reports["validation"].step == stored["step"]
    assert reports["validation"].metrics["loss"] == pytest.approx(stored["metrics"]["loss"], rel=1e-4)
    assert reports["validation"].metrics[score] == pytest.approx(stored["metrics"][score], abs=1e-4)


def test_a_converted_model_is_used(old):
    model = trained.load(old / "model")
    assert model.tokenizer.vocab_size == 121
    (candidates,) = fill_mask(model, "[MASK] abcdefghij", top=3)
    assert len(candidates) == 3

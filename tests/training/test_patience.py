"""A run that no longer improves ends, keeps its best checkpoint, and stays ended."""

import pytest

from tests import labeled_files
from tests.runs.test_manifest import flip, largest
from tests.tasks.test_classification import tokenizer
from tests.training.test_loop import Silent
from tx_jax.config import from_config_dict
from tx_jax.runs import metrics_log, trained
from tx_jax.runs.start import open_start
from tx_jax.tasks.registry import open_task
from tx_jax.training import loop


@pytest.fixture
def c(tmp_path):
    from configs import classification

    c = classification.get_config("smoke")
    c.data.train = str(tmp_path / "train.jsonl")
    labeled_files.write(tmp_path / "train.jsonl", from_config_dict(c).data, count=200)
    labeled_files.write_model(tmp_path / "model", tokenizer())  # one that knows the words
    c.start_from = str(tmp_path / "model")
    c.training.update(num_steps=40, eval_every=2, checkpoint_every=2, patience=2, best_metric="accuracy")
    return c


def train(c, workdir):
    values, start = open_start(c.to_dict(), workdir)
    task = open_task(from_config_dict(values), tokenizer=start.tokenizer)
    display = Silent()
    return loop.train(task.config, task, workdir, display, start), display


def evaluations(workdir):
    return {r["step"]: r["accuracy"] for r in metrics_log.read(workdir) if r["split"] == "validation"}


def test_it_ends_and_the_best_is_kept(c, tmp_path, monkeypatch, caplog):
    values = iter([0.5, 0.3, 0.4, 0.2])
    monkeypatch.setattr(loop.Run, "evaluate", lambda run, stop: {"accuracy": next(values)})
    with caplog.at_level("INFO", logger="tx_jax"):
        train(c, tmp_path / "run")
    assert caplog.messages == [
        "step 6: accuracy is best at step 2, and was no better in training.patience=2 evaluations since: training ends"
    ]
    assert list(evaluations(tmp_path / "run")) == [2, 4, 6]
    assert (tmp_path / "run/DONE").read_text() == "step 6: accuracy no longer improved\n"
    assert sorted(p.name for p in (tmp_path / "run/checkpoints").iterdir() if p.name.isdigit()) == ["2", "6"]
    assert trained.load(tmp_path / "run").step == 2
    assert trained.load(tmp_path / "run", 6).step == 6
    # The same call again does no more.
    _, display = train(c, tmp_path / "run")
    assert display.started[0] == 6
    assert list(evaluations(tmp_path / "run")) == [2, 4, 6]
    # A damaged best checkpoint is not used.
    flip(largest(tmp_path / "run/checkpoints/2"), 100)
    with pytest.warns(match="is damaged.*; using the newest"):
        assert trained.load(tmp_path / "run").step == 6


def test_what_can_be_learned_is(c, tmp_path):
    """The first of a few words tells which of three labels it is."""
    c.optimizer.learning_rate = 3e-3
    c.training.update(patience=0, num_steps=150, eval_every=0, checkpoint_every=0, eval_batches=0)
    result, _ = train(c, tmp_path / "run")
    assert result["accuracy"] > 0.9
    assert result["macro_f1"] > 0.9
    assert (tmp_path / "run/DONE").read_text() == "step 150\n"

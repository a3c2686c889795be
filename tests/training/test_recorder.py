"""What is logged: means over the interval, bit for bit the same after a resume; speeds without compilation."""

import json
import math
import types

import jax.numpy as jnp
import pytest

from tests.training.test_loop import Accident, Silent, StopAt, accident, train
from tx_jax.config import from_config_dict
from tx_jax.runs import metrics_log
from tx_jax.runs.best import Evaluations
from tx_jax.tasks.base import WeightedSum
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training import loop
from tx_jax.training import recorder as recorder_module
from tx_jax.training.goodput import TimeSpent
from tx_jax.training.recorder import Recorder


@pytest.fixture
def small(smoke_config):
    smoke_config.model.num_layers = 1
    smoke_config.training.update(num_steps=4, log_every=3, eval_every=0, eval_batches=2, checkpoint_every=2)
    return smoke_config


def lines(workdir):
    """The log but for what depends on the clock, exactly as it is written."""
    return [
        json.dumps({name: value for name, value in record.items() if not metrics_log.is_timed(name)})
        for record in metrics_log.read(workdir)
    ]


def test_a_resumed_run_logs_the_same_lines(small, tiny_store, tmp_path, monkeypatch):
    """Two steps, then the two others: the line of step 3 is about both."""
    train(small, tiny_store, tmp_path / "whole")
    at, later = [], Recorder.later

    def breaking(self, step, metrics):
        at.append(step)
        if step == 3 and len(at) == 3:
            accident()
        later(self, step, metrics)

    monkeypatch.setattr(Recorder, "later", breaking)
    with pytest.raises(Accident):
        train(small, tiny_store, tmp_path / "run")
    train(small, tiny_store, tmp_path / "run")
    assert at == [1, 2, 3, 3, 4]
    assert lines(tmp_path / "run") == lines(tmp_path / "whole")


def test_the_line_is_the_mean_of_the_steps_since_the_line_before(small, tiny_store, tmp_path):
    train(small, tiny_store, tmp_path / "means")
    small.training.log_every = 1
    train(small, tiny_store, tmp_path / "each")
    each = {r["step"]: r for r in metrics_log.read(tmp_path / "each") if r["split"] == "train"}
    third, fourth = (r for r in metrics_log.read(tmp_path / "means") if r["split"] == "train")
    for name in ("loss", "gradient_norm"):
        assert third[name] == math.fsum(each[step][name] for step in (1, 2, 3)) / 3
    for name in ("learning_rate", "skipped_updates"):
        assert third[name] == each[3][name]
    assert fourth["loss"] == each[4]["loss"]


def recorder(log, notes=None, num_steps=100, log_every=4):
    training = types.SimpleNamespace(
        max_skipped_updates=10, log_every=log_every, num_steps=num_steps, keep_best=0, patience=0
    )
    config = types.SimpleNamespace(training=training, trains_all=False)
    run = types.SimpleNamespace(
        config=config,
        tokens=lambda start, stop: stop - start,
        phase_of=lambda step: types.SimpleNamespace(start=0),
        mesh=types.SimpleNamespace(devices=None),
        spent=TimeSpent(),
    )
    return Recorder(run, log, Silent(), Evaluations(""), notes or {})


class Log:
    def __init__(self):
        self.records = {}

    def write(self, step, split, values):
        self.records[step] = values

    def sync(self):
        pass


def metrics(loss, weight=1.0, **more):
    ones = {"loss": loss, "gradient_norm": 1.0, "learning_rate": 0.5, "skipped_updates": 0.0} | more
    values = {name: WeightedSum(jnp.float32(value), jnp.float32(1)) for name, value in ones.items()}
    return values | {"masked_lm_loss": WeightedSum(jnp.float32(loss * weight), jnp.float32(weight))}


def test_weights_count_and_what_is_not_finite_does_not():
    log = Log()
    of = recorder(log)
    for step, (loss, weight) in enumerate([(1.0, 1.0), (math.nan, 2.0), (4.0, 2.0), (5.0, 0.0)], start=1):
        of.later(step, metrics(loss, weight, learning_rate=step / 10, skipped_updates=2.0))
    of.flush()
    found = log.records[4]
    assert found["masked_lm_loss"] == 9 / 3
    assert found["loss"] == 10 / 3
    assert found["learning_rate"] == pytest.approx(0.4)
    assert found["skipped_updates"] == 2


def test_an_interval_of_a_billion_predictions_is_added_up_exactly():
    """float32 has no odd numbers above 2**24, and so adds no 1 to it."""
    log = Log()
    of = recorder(log)
    for step, weight in enumerate([2.0**24, 1.0, 1.0, 1.0], start=1):
        of.later(step, metrics(1.0) | {"masked_lm_loss": WeightedSum(jnp.float32(0 if step == 1 else 1), weight)})
    of.flush()
    assert log.records[4]["masked_lm_loss"] == 3 / (2**24 + 3)


def test_the_sums_pass_through_the_notes_and_old_checkpoints_have_none():
    log = Log()
    first, second = recorder(log), recorder(log)
    for step in (1, 2):
        first.later(step, metrics(0.1 * step))
        second.later(step, metrics(0.1 * step))
    first.settle()
    continued = recorder(log, json.loads(json.dumps(first.notes())))
    for step in (3, 4):
        continued.later(step, metrics(0.1 * step))
        second.later(step, metrics(0.1 * step))
    continued.flush()
    resumed = log.records.pop(4)
    second.flush()
    resumed, whole = ({k: v for k, v in x.items() if not metrics_log.is_timed(k)} for x in (resumed, log.records[4]))
    assert resumed == whole
    old = recorder(log, {"skipped_in_a_row": 2})
    assert old.skipped_in_a_row == 2
    for step in (3, 4):
        old.later(step, metrics(float(step)))
    old.flush()
    assert log.records[4]["loss"] == 3.5


def test_a_speed_after_an_evaluation_that_came_first_has_no_compilation_in_it(monkeypatch):
    """A resumed run that was stopped while it evaluated: that comes before the train step is compiled."""
    log, clock = Log(), [0.0]
    monkeypatch.setattr(recorder_module, "time", types.SimpleNamespace(perf_counter=lambda: clock[0]))
    of = recorder(log, log_every=1)
    of.evaluation(4, {"loss": 1.0})
    clock[0] += 60  # compiles
    of.later(5, metrics(1.0))
    clock[0] += 1
    of.later(6, metrics(1.0))
    clock[0] += 1
    of.flush()
    assert "tokens_per_second" not in log.records[5]
    assert log.records[6]["tokens_per_second"] == 1


def test_the_best_checkpoint_stays_though_its_evaluation_was_interrupted(small, tiny_store, tmp_path, monkeypatch):
    """The evaluation at step 2 is stopped, and made after the resume: it is the best of the run."""
    small.training.update(num_steps=8, eval_every=2, keep_last=1, keep_best=1, best_metric="masked_lm_loss")
    config = from_config_dict(small)
    evaluate = loop.Run.evaluate
    with pytest.raises(loop.Stopped, match="after step 2"):
        loop.train(config, MaskedLM(config, tiny_store), tmp_path, Silent(), stop=StopAt(3))
    values = {2: 1.0, 4: 3.0, 6: 2.0, 8: 2.5}

    def evaluated(run, stop):
        return evaluate(run, stop) | {"masked_lm_loss": values[int(run.state.step)]}

    monkeypatch.setattr(loop.Run, "evaluate", evaluated)
    train(small, tiny_store, tmp_path)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.name.isdigit()) == ["2", "8"]


def test_what_is_not_finite_is_null_in_the_log(tmp_path):
    with metrics_log.MetricsLog(tmp_path, start_step=0) as log:
        log.write(1, "validation", {"loss": math.nan, "f1": math.inf, "accuracy": 0.5})
    text = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(text, parse_constant=lambda name: pytest.fail(name)) == {
        "step": 1,
        "split": "validation",
        "loss": None,
        "f1": None,
        "accuracy": 0.5,
    }
    (record,) = metrics_log.read(tmp_path)
    assert math.isnan(record["loss"])
    with metrics_log.MetricsLog(tmp_path, start_step=1):
        assert (tmp_path / "metrics.jsonl").read_text() == text


def test_a_best_metric_without_a_value_is_told(small, tiny_store, tmp_path, monkeypatch, caplog):
    """Which checkpoint is best is then not to be known."""
    monkeypatch.setattr(loop.Run, "evaluate", lambda run, stop: {"masked_lm_loss": math.nan, "loss": 1.0})
    small.training.keep_best = 1
    with caplog.at_level("INFO", logger="tx_jax"):
        train(small, tiny_store, tmp_path / "run")
    (line,) = [line for line in caplog.messages if "no value" in line]
    assert line.startswith(
        "warning: step 4: masked_lm_loss has no value on what was evaluated (training.eval_batches=2;"
    )
    caplog.clear()
    small.training.keep_best = 0
    train(small, tiny_store, tmp_path / "other")
    assert not caplog.messages

import json
import math

from tx_jax.runs.best import Evaluations


def evaluations(metric, values):
    found = Evaluations(metric)
    for step, value in values.items():
        found.add(step, {metric: value, "other": 1.0})
    return found


def test_the_best_and_how_long_ago_it_was():
    f1 = evaluations("f1", {5: 0.1, 10: 0.7, 15: 0.7, 20: 0.2})
    assert f1.best([5, 10, 15, 20]) == 10  # the first of equals
    assert f1.best([5, 20, 99]) == 20
    assert f1.best([99]) is None
    assert [f1.out_of_patience(patience) for patience in (0, 1, 2, 3)] == [False, True, True, False]
    assert not evaluations("f1", {}).out_of_patience(1)
    assert not evaluations("f1", {5: 0.1}).out_of_patience(1)


def test_a_loss_is_better_when_lower_and_what_is_not_finite_never_is():
    loss = evaluations("some_loss", {5: math.nan, 10: 2.0, 15: 1.0, 20: math.inf})
    assert loss.best([5, 10, 15, 20]) == 15
    assert loss.out_of_patience(1)
    assert not loss.out_of_patience(2)
    assert evaluations("f1", {5: math.nan, 10: -0.5}).best([5, 10]) == 10
    assert evaluations("bits_per_byte", {5: 2.0, 10: 1.0, 15: 3.0}).best([5, 10, 15]) == 10


def test_they_are_read_from_the_log(tmp_path):
    records = [
        {"step": 5, "split": "train", "f1": 9.0},
        {"step": 5, "split": "validation", "f1": 0.2},
        {"step": 9, "split": "validation", "loss": 0.2},
        {"step": 10, "split": "validation", "f1": 0.1},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert Evaluations.read(tmp_path, "f1").items() == [(5, 0.2), (10, 0.1)]
    assert Evaluations.read(tmp_path / "none", "f1").items() == []


def test_several_of_the_best():
    f1 = evaluations("f1", {5: 0.1, 10: 0.7, 15: 0.7, 20: 0.2, 25: math.nan})
    assert f1.best_of(2, [5, 10, 15, 20, 25]) == [10, 15]
    assert f1.best_of(3, [5, 20, 25, 99]) == [20, 5, 25]
    assert f1.best_of(0, [5]) == []


def test_those_up_to_a_step_and_what_was_not_finite(tmp_path):
    records = [{"step": step, "split": "validation", "f1": value} for step, value in ((5, 0.2), (6, None), (7, 0.3))]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert Evaluations.read(tmp_path, "f1", up_to=6).items() == [(5, 0.2), (6, -math.inf)]


def test_metrics_of_former_versions_count_under_their_new_names():
    evaluations = Evaluations("window_accuracy")
    for step, values in ((1, {"accuracy": 0.3}), (2, {"window_accuracy": 0.5}), (3, {"accuracy": 0.4})):
        evaluations.add(step, values)
    assert evaluations.best([1, 2, 3]) == 2
    assert evaluations.best([1, 3]) == 3

"""Question answering: against the definitions, and that it can be learned."""

import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tests import labeled_files
from tests.models import small
from tests.tasks.batch_shapes import assert_shapes_agree
from tests.tasks.test_classification import tokenizer
from tests.tasks.test_tagging import evaluated
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.tasks.question_answering import QuestionAnswering
from tx_jax.tasks.registry import objective_of, open_task


def make_task(tmp_path, *, content=None, **data):
    from configs import squad

    c = squad.get_config("smoke")
    c.data.train = str(tmp_path / "train.json")
    c.data.validation = ""
    c.data.validation_fraction = 0.25
    c.model = {
        **vars(small.config(vocab_size=tokenizer().vocab_size, max_length=64, num_layers=1)),
        "heads": ("question_answering",),
    }
    for name, value in data.items():
        c.data[name] = value
    (tmp_path / "train.json").write_text(json.dumps(content or labeled_files.squad(16)))
    return open_task(from_config_dict(c), tokenizer=tokenizer())


def test_the_shapes_of_a_batch_are_known_without_data(tmp_path):
    task = make_task(tmp_path)
    assert_shapes_agree(task, objective_of(task.config))


def test_whole_articles_are_held_out(tmp_path):
    task = make_task(tmp_path)
    assert isinstance(task, QuestionAnswering)
    titles = [{record["title"] for record in task.records(split)} for split in ("train", "validation")]
    assert not titles[0] & titles[1]
    assert len(titles[1]) == 4
    assert len(task.records("validation")) == 8
    content = labeled_files.squad(8)
    for article in content["data"]:
        article["title"] = ""
    contexts = make_task(tmp_path, content=content)
    assert len({record["context"] for record in contexts.records("validation")}) == 2
    for article in content["data"]:
        article["title"] = "Warsaw"
    one_article = make_task(tmp_path, content=content)
    assert one_article.records("validation") == [
        record | {"title": "Warsaw"} for record in contexts.records("validation")
    ]
    with pytest.raises(InputError, match="1 contexts are too few to hold out 25% of them"):
        make_task(tmp_path, content=labeled_files.squad(1)).records("validation")


def test_nothing_to_learn_from(tmp_path):
    """As of a file whose answers begin at bytes, or one character too late."""
    content = labeled_files.squad(16)
    for article in content["data"]:
        for question in article["paragraphs"][0]["qas"]:
            question["answers"][0]["answer_start"] += 1
    task = make_task(tmp_path, content=content)
    task.batches("validation", batch_size=4, repeat=False)
    expected = r"train data: there is nothing to learn from in 24 examples \(answer is not in the context where .*: 24"
    with pytest.raises(InputError, match=expected):
        task.batches("train", batch_size=4, repeat=True)


def test_the_case_of_answers_that_all_begin_elsewhere(tmp_path):
    folder = pathlib.Path(__file__).parents[2] / ".." / "shared" / "cases" / "squad_all_off"
    if not folder.is_dir():
        pytest.skip("the folder ../shared/cases is not there")
    task = make_task(tmp_path, content=json.loads((folder / "train.json").read_text()), validation_fraction=0.1)
    with pytest.raises(InputError, match="there is nothing to learn from in 36 examples"):
        task.batches("train", batch_size=4, repeat=True)


def test_loss_and_accuracy(tmp_path):
    content = labeled_files.squad(16)
    content["data"][0]["paragraphs"][0]["qas"][0]["answers"][0]["answer_start"] += 1
    task = make_task(tmp_path, content=content, validation=str(tmp_path / "train.json"), sequence_length=12, stride=4)
    assert task.notices()[:2] == [
        "train: answer is not in the context where it should begin, not trained on: 1 of 32",
        "train: in several windows: 32 of 32",
    ]
    rows, _ = evaluated(task)
    params = small.params(task.config.model)
    losses, correct = [], []
    total = None
    for batch in rows:
        part = jax.jit(task.objective.metrics)(params, batch, dropout_rng=None)
        total = part if total is None else {name: total[name] + part[name] for name in part}
        logits = np.asarray(
            task.objective.apply(params, batch, dropout_rng=None).logits["question_answering"], np.float64
        )
        for i in np.flatnonzero((batch["answer_start"] >= 0) & (batch["example_weights"] > 0)):
            inside = logits[i][batch["valid"][i]]
            log_odds = inside - np.log(np.exp(inside).sum(axis=0))
            start, end = batch["answer_start"][i], batch["answer_end"][i]
            losses.append(-(log_odds[start, 0] + log_odds[end, 1]) / 2)
            correct.append(tuple(inside.argmax(axis=0)) == (start, end))
    # float32 sums of some dozen terms of order 1
    assert total["loss"].mean() == pytest.approx(np.mean(losses), rel=1e-5)
    assert total["window_accuracy"].mean() == pytest.approx(np.mean(correct))
    table = task.split("validation").table
    assert len(losses) == (table.columns["answer_start"] >= 0).sum() < len(table)


def test_it_learns_to_answer_and_predicts_with_probabilities(tmp_path):
    """By heart: one article, both questions."""
    task = make_task(tmp_path, content=labeled_files.squad(1), validation=str(tmp_path / "train.json"), n_best=3)
    table = task.split("train").table
    batch = table.rows(np.arange(len(table))) | {"example_weights": np.ones(len(table), np.float32)}
    params, adam = small.params(task.config.model), optax.adam(1e-2)
    state = adam.init(params)

    @jax.jit
    def step(params, state):
        def loss(params):
            metric = jax.jit(task.objective.metrics)(params, batch, dropout_rng=None)["loss"]
            return metric.total / metric.weight

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = adam.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    for _ in range(60):
        params, state, value = step(params, state)
    assert value < 0.1
    outputs = {
        name: np.asarray(x) for name, x in task.objective.outputs(params, jax.tree.map(jnp.asarray, batch)).items()
    }
    assert task.scores(outputs | {"example": np.arange(len(table))}, "train") == {"f1": 1.0, "exact_match": 1.0}
    records = task.records("train")
    for record, one in zip(records, task.predictions(outputs, records, table), strict=True):
        assert one["prediction"] == record["answers"]["text"][0] == one["n_best"][0]["text"]
        assert one["start"] == record["answers"]["answer_start"][0]
        assert one["probability"] == one["n_best"][0]["probability"] > 0.7
        assert len(one["n_best"]) == 3
        assert json.loads(json.dumps(one)) == one


def test_no_answer_and_its_threshold(tmp_path):
    content = labeled_files.squad(4)
    for article in content["data"][:2]:
        for question in article["paragraphs"][0]["qas"]:
            question |= {"answers": [], "is_impossible": True}
    metrics = ("f1", "no_answer_accuracy", "has_answer_f1", "best_f1", "best_f1_threshold")
    arguments = {"content": content, "validation": str(tmp_path / "train.json"), "metrics": metrics}
    task = make_task(tmp_path, **arguments, unanswerable=True)
    rows, outputs = evaluated(task, "train")
    values = task.scores(outputs, "train")
    assert list(values) == list(metrics)
    at_best = make_task(tmp_path, **arguments, unanswerable=True, null_threshold=values["best_f1_threshold"])
    assert at_best.scores(outputs, "train")["f1"] == pytest.approx(values["best_f1"])
    assert values["best_f1"] >= max(values["f1"], 0.5)
    never = make_task(tmp_path, **arguments, unanswerable=True, null_threshold=-1e6)
    assert never.scores(outputs, "train")["no_answer_accuracy"] == 1.0
    assert never.scores(outputs, "train")["f1"] == 0.5
    predicted = never.predictions(outputs, never.records("train"), never.split("train").table)
    assert {one["prediction"] for one in predicted} == {""}
    assert all(0 < one["probability"] < 1 and one["start"] == -1 for one in predicted)
    assert never.baselines(rows, "train")["f1"] == (0.5, "never an answer")
    with pytest.raises(InputError, match="train data: example 1 is a question without an answer"):
        make_task(tmp_path, **arguments | {"metrics": ("f1",)}).split("train")
    with pytest.raises(InputError, match=r"'best_f1' is not one of exact_match, f1, with data.unanswerable=True"):
        make_task(tmp_path, **arguments | {"metrics": ("best_f1",)})


def test_the_baseline_is_the_likeliest_sentence(tmp_path):
    context = "Warsaw is the capital of Poland. It lies on the Vistula.\nThe river Vistula is long."
    question = {"question": "What is the river of Warsaw?", "answers": [{"text": "Vistula", "answer_start": 48}]}
    other = {"question": "Where does it lie?", "answers": [{"text": "Vistula", "answer_start": 48}]}
    assert context[48:].startswith("Vistula")
    content = {"data": [{"paragraphs": [{"context": context, "qas": [question, other]}]}]}
    task = make_task(tmp_path, content=content, validation=str(tmp_path / "train.json"))
    rows, _ = evaluated(task, "train", batch_size=3)
    values = task.baselines(rows, "train")
    # "is", "of", "warsaw" are in the first sentence; "it" in the second: normalized, 5 and 4 words.
    assert values["f1"][0] == pytest.approx((0 + 2 / 5) / 2)
    assert values["exact_match"][0] == 0


def test_baselines_are_of_the_questions_that_the_scores_are_of(tmp_path):
    """Those with all of their windows in the batches: of the others nothing is known."""
    task = make_task(tmp_path, content=labeled_files.squad(16), sequence_length=12, stride=4)
    batches = task.batches("validation", batch_size=1, repeat=False)
    record_of = task.split("validation").table.alignment["record"]
    rows = [batches.batch_at(i) for i in range(len(batches))]
    windows = [row for row in rows if record_of[row["example"][0]] == 0]
    assert len(windows) > 1
    assert math.isnan(task.baselines(windows[:-1], "validation")["f1"][0])
    words = task.records("validation")[0]["context"].split()  # one sentence, a word of which is the answer
    assert task.baselines(windows, "validation")["f1"][0] == pytest.approx(2 / (len(words) + 1))


def test_the_first_batches_hold_whole_questions(tmp_path):
    """Else the scores of a part were those of questions with few windows, or of none."""
    task = make_task(tmp_path, content=labeled_files.squad(16), sequence_length=12, stride=4)
    record_of = task.split("validation").table.alignment["record"]
    batches = task.batches("validation", batch_size=3, repeat=False)
    parts = [batches.batch_at(i) for i in range(len(batches))]
    rows = np.concatenate([part["example"][part["example_weights"] > 0] for part in parts])
    assert sorted(rows) == list(range(len(record_of)))
    found = record_of[rows]
    changes = np.flatnonzero(np.diff(found)) + 1
    assert len(changes) + 1 == len(set(found.tolist()))
    assert (np.diff(found) < 0).any()  # no order of the file
    assert not math.isnan(task.baselines(parts[:2], "validation")["f1"][0])


def test_window_accuracy_has_the_baseline_of_the_most_frequent_place(tmp_path):
    """Counted anew here: how often the most frequent place of training is right."""
    task = make_task(tmp_path, content=labeled_files.squad(16), sequence_length=12, stride=4)
    train, validation = (task.split(name).table.columns for name in ("train", "validation"))
    places = np.stack([train["answer_start"], train["answer_end"]], axis=1)
    found, counts = np.unique(places[places[:, 0] >= 0], axis=0, return_counts=True)
    commonest = found[counts.argmax()]
    known = validation["answer_start"] >= 0
    same = (validation["answer_start"] == commonest[0]) & (validation["answer_end"] == commonest[1])
    batches = task.batches("validation", batch_size=8, repeat=False)
    value, name = task.baselines([batches.batch_at(i) for i in range(len(batches))], "validation")["window_accuracy"]
    assert value == same[known].mean() > 0
    assert name == "the most frequent place in training"


def test_a_run_that_chose_accuracy_goes_on_with_its_new_name(tmp_path):
    task = make_task(tmp_path, content=labeled_files.squad(16))
    config = task.config
    config = dataclasses.replace(config, training=dataclasses.replace(config.training, best_metric="accuracy"))
    assert task.with_labels(config).training.best_metric == "window_accuracy"

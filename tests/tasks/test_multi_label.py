"""Several labels for a text: read, trained on, scored and predicted. scikit-learn and NumPy say what is right."""

import json

import jax
import numpy as np
import pytest
from sklearn.metrics import f1_score

from tests.labeled_files import WORDS
from tests.models import small
from tests.tasks.batch_shapes import assert_shapes_agree
from tests.tasks.test_classification import params_of, tokenizer
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.tasks.registry import objective_of, open_task

LABELS = ("cat", "dog", "tree")


def rows(count=30):
    """Texts whose words are their labels, beside others."""
    rng = np.random.default_rng(0)
    for _ in range(count):
        labels = [label for label in LABELS if rng.random() < 0.4]
        yield " ".join(rng.permutation([*labels, *rng.choice(WORDS[3:], 3)])), labels


def make_task(tmp_path, *, separator="", task="multi_label", **data):
    from configs import classification

    path = tmp_path / ("train.csv" if separator else "train.jsonl")
    if separator:
        path.write_text("text,label\n" + "".join(f"{text},{separator.join(labels)}\n" for text, labels in rows()))
    else:
        path.write_text("".join(json.dumps({"text": text, "label": labels}) + "\n" for text, labels in rows()))
    c = classification.get_config("smoke")
    c.task, c.data.train, c.data.validation_fraction, c.data.sequence_length = task, str(path), 0.3, 16
    c.data.metrics = ("micro_f1", "macro_f1", "label_f1")
    c.data.label_separator = separator
    c.model = vars(small.config(vocab_size=tokenizer("wordpiece").vocab_size, max_length=64, num_layers=1)) | {
        "heads": ("sequence_classification",)
    }
    c.data.update(data)
    return open_task(from_config_dict(c), tokenizer=tokenizer("wordpiece"))


def batch_and_logits(task):
    batch = task.batches("validation", batch_size=16, repeat=False).batch_at(0)
    real = int(batch["example_weights"].sum())
    assert real == 9
    logits = jax.device_get(jax.jit(task.objective.outputs)(params_of(task), batch))["logits"]
    return batch, real, np.float64(logits)


@pytest.mark.parametrize("separator", ["", "|"])
def test_labels_are_read_from_lists_and_from_texts(tmp_path, separator):
    task = make_task(tmp_path, separator=separator)
    assert task.config.data.labels == LABELS
    assert task.config.model.num_labels == 3
    table = task.split("train").table
    wanted = dict(rows())
    for record, row in zip(task.records("train"), table.columns["label_sets"], strict=True):
        assert [label for label, has in zip(LABELS, row, strict=True) if has] == wanted[record["text"]]
    assert_shapes_agree(task, objective_of(task.config))
    assert any("without any label" in line for line in task.notices())


def test_loss_and_scores_are_those_of_numpy_and_scikit_learn(tmp_path):
    task = make_task(tmp_path)
    batch, real, logits = batch_and_logits(task)
    targets, logits = batch["label_sets"][:real], logits[:real]
    metrics = jax.jit(task.objective.metrics)(params_of(task), batch, dropout_rng=None)
    losses = np.logaddexp(0, np.where(targets > 0, -logits, logits))
    np.testing.assert_allclose(metrics["loss"].mean(), losses.mean(), rtol=1e-5)
    assert metrics["subset_accuracy"].mean() == pytest.approx(((logits > 0) == (targets > 0)).all(axis=1).mean())
    assert float(metrics["loss"].weight) == real
    values = task.scores({"logits": logits, "example": batch["example"][:real]}, "validation")
    assert tuple(values) == task.score_names == ("micro_f1", "macro_f1", "f1_cat", "f1_dog", "f1_tree")
    for average in ("micro", "macro"):
        assert values[f"{average}_f1"] == pytest.approx(f1_score(targets, logits > 0, average=average, zero_division=0))
    of_labels = f1_score(targets, logits > 0, average=None, zero_division=0)
    assert [values[f"f1_{label}"] for label in LABELS] == pytest.approx(of_labels.tolist())
    baselines = task.baselines([batch], "validation")
    assert baselines["micro_f1"][0] == pytest.approx(f1_score(targets, np.ones_like(targets), average="micro"))
    assert baselines.keys() == {*metrics, *values}


@pytest.mark.parametrize("separator", ["", "|"])
def test_predictions_are_as_the_labels_are_written(tmp_path, separator):
    task = make_task(tmp_path, separator=separator)
    records = task.records("validation")[:2]
    table = task.encode(records, labeled=False)
    one, other = task.predictions({"logits": np.float32([[2, -1, 0.5], [-1, -1, -1]])}, records, table)
    assert one["prediction"] == ("cat|tree" if separator else ["cat", "tree"])
    assert other["prediction"] == ("" if separator else [])
    assert one["probability_cat"] == pytest.approx(1 / (1 + np.exp(-2)))


def test_class_weights_of_label_sets_count_the_examples_that_have_the_label(tmp_path):
    task = make_task(tmp_path, class_weights=("balanced",))
    train = task.split("train").table.columns["label_sets"]
    expected = (len(train) - train.sum(axis=0)) / train.sum(axis=0)
    np.testing.assert_allclose(task.objective.class_weights, expected, rtol=1e-6)
    batch, real, logits = batch_and_logits(task)
    targets, logits = batch["label_sets"][:real], logits[:real]
    losses = np.logaddexp(0, np.where(targets > 0, -logits, logits)) * np.where(targets > 0, expected, 1)
    metrics = jax.jit(task.objective.metrics)(params_of(task), batch, dropout_rng=None)
    np.testing.assert_allclose(metrics["loss"].mean(), losses.mean(), rtol=1e-5)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("cat dog", r"example 1: column 'label' holds 'cat dog', not a list .*--config.data.label_separator"),
        ({"cat": 1}, "not a list of labels"),
        ("['cat', 'dog']", r"holds \"\['cat', 'dog'\]\", not a list of labels: a list in a table must be JSON"),
        (["cat", None], "holds None, which is not a label"),
        (["cat", ["dog"]], r"holds \['dog'\], which is not a label"),
    ],
)
def test_what_is_no_list_of_labels_is_refused(tmp_path, value, message):
    task = make_task(tmp_path)
    with pytest.raises(InputError, match=message):
        task.encode([{"text": "cat", "label": value}], labeled=True)


def test_options_of_other_tasks_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"data.label_separator='\|' does nothing for task='classification'"):
        make_task(tmp_path, task="classification", separator="|", metrics=())
    with pytest.raises(InputError, match=r"'cats' is not a label of the data\. Did you mean 'cat'"):
        make_task(tmp_path, class_weights=("cats=2",))
    for bad in ("cat", "cat=0", "cat=x", "=2"):
        with pytest.raises(InputError, match="must be LABEL=WEIGHT"):
            make_task(tmp_path, class_weights=(bad,))


def test_the_configuration_needs_nothing_but_the_task(tmp_path):
    """No metric of single labels is in the way, and a score of the task decides which checkpoint is best."""
    task = make_task(tmp_path, metrics=())
    assert task.score_names == ("macro_f1", "micro_f1", "f1_cat", "f1_dog", "f1_tree")
    assert task.config.training.best_metric == "macro_f1"
    assert make_task(tmp_path, metrics=("label_f1",)).config.training.best_metric == "f1_cat"


def test_a_table_may_hold_json_lists_as_predictions_are_written(tmp_path):
    task = make_task(tmp_path)
    from_lists, from_texts = (
        task.encode([{"text": "cat", "label": value} for value in values], labeled=True).columns["label_sets"]
        for values in ([["cat", "tree"], []], ['["cat", "tree"]', "[]"])
    )
    np.testing.assert_array_equal(from_texts, from_lists)


def test_counts_of_each_label_give_its_f1(tmp_path):
    task = make_task(tmp_path)
    batch, real, logits = batch_and_logits(task)
    outputs = {"example": np.arange(real), "logits": logits[:real]}
    counts = task.label_counts(outputs, "validation")
    true, said = batch["label_sets"][:real] > 0, logits[:real] > 0
    assert counts.tolist() == [
        [int((true & said)[:, i].sum()), int(true[:, i].sum()), int(said[:, i].sum())] for i in range(3)
    ]
    f1 = [2 * right / (of_true + of_said) if of_true + of_said else 0.0 for right, of_true, of_said in counts]
    np.testing.assert_allclose(f1, f1_score(true, said, average=None, zero_division=0))
    assert task.confusion(outputs, "validation") is None

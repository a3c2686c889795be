"""Labels, numbers and choices: against the definitions, in numpy."""

import functools

import jax
import numpy as np
import pytest

from tests import labeled_files
from tests.models import small
from tests.tasks.batch_shapes import assert_shapes_agree
from tx_jax import text
from tx_jax.config import from_config_dict
from tx_jax.data.labeled import readers
from tx_jax.errors import InputError
from tx_jax.tasks.classification import Classification
from tx_jax.tasks.multiple_choice import MultipleChoice
from tx_jax.tasks.registry import objective_of, open_task
from tx_jax.tasks.regression import Regression


@functools.cache
def tokenizer(kind="wordpiece"):
    return text.train(kind, [" ".join(labeled_files.WORDS)] * 20, vocab_size=280 if "bpe" in kind else 70)


def make_task(tmp_path, *, name="classification", kind="wordpiece", model=None, **data):
    """The task of the configuration of texts of one's own, on 40 synthetic records, with a model of one layer."""
    from configs import classification

    c = classification.get_config("smoke")
    c.data.train = str(tmp_path / "train.jsonl")
    c.data.validation_fraction = 0.25
    c.data.sequence_length = 24
    c.model = {
        **vars(small.config(vocab_size=tokenizer(kind).vocab_size, max_length=64, num_layers=1)),
        "heads": ("multiple_choice" if name == "multiple_choice" else "sequence_classification",),
        **(model or {}),
    }
    c.task = name
    c.data.update(data)
    config = from_config_dict(c)
    if not (tmp_path / "train.jsonl").exists():
        labeled_files.write(tmp_path / "train.jsonl", config.data, count=40, numbers=name == "regression")
    return open_task(config, tokenizer=tokenizer(kind))


def params_of(task):
    return small.params(task.config.model)


def validation(task, batch_size=8):
    """The first batches, of which the last is filled up, and what the model says of them."""
    batches = task.batches("validation", batch_size=batch_size, repeat=False)
    rows = [batches.batch_at(i) for i in range(len(batches))]
    assert rows[-1]["example_weights"].sum() < batch_size
    return rows, [jax.device_get(jax.jit(task.objective.outputs)(params_of(task), batch)) for batch in rows]


def joined(rows, outputs, target="labels"):
    real = np.concatenate([batch["example_weights"] for batch in rows]) > 0
    return (
        np.concatenate([part[target] for part in rows])[real],
        np.concatenate([part["logits"] for part in outputs])[real],
        np.concatenate([part["example"] for part in rows])[real],
    )


def test_labels_are_read_held_out_and_counted(tmp_path):
    task = make_task(tmp_path)
    assert isinstance(task, Classification)
    assert task.config.data.labels == ("0", "1", "2")
    assert task.config.model.num_labels == 3
    train, held = task.split("train"), task.split("validation")
    assert len(train.table) == 30
    assert len(held.table) == 10
    assert np.bincount(held.table.columns["labels"]).tolist() == [4, 3, 3]  # of 14, 13 and 13
    assert task.notices() == []
    assert train.records[0]["text"].split()[0] == labeled_files.WORDS[train.table.columns["labels"][0]]


def test_loss_accuracy_and_scores(tmp_path):
    task = make_task(tmp_path)
    rows, outputs = validation(task)
    sums = [jax.jit(task.objective.metrics)(params_of(task), batch, dropout_rng=None) for batch in rows]
    labels, logits, examples = joined(rows, outputs)
    shifted = logits - logits.max(axis=1, keepdims=True)
    losses = np.log(np.exp(shifted).sum(axis=1)) - shifted[np.arange(len(labels)), labels]
    total = functools.reduce(lambda a, b: {name: a[name] + b[name] for name in a}, sums)
    # float32 sums of ten terms of order 1
    assert total["loss"].mean() == pytest.approx(losses.mean(), rel=1e-5)
    assert total["accuracy"].mean() == pytest.approx(np.mean(logits.argmax(1) == labels))
    scores = task.scores({"logits": logits, "example": examples}, "validation")
    assert scores.keys() == {"accuracy", "macro_f1"}
    assert scores["accuracy"] == pytest.approx(total["accuracy"].mean())
    assert task.objective.loss_weights(rows[-1])["loss"] == 2


def test_predictions(tmp_path):
    task = make_task(tmp_path, labels=("2", "0", "1"))
    logits = np.array([[0.0, 1.0, 2.0], [1000.0, 0.0, 0.0]], np.float32)
    first, second = task.predictions({"logits": logits}, [{}, {}], None)
    assert first["prediction"] == "1"
    assert list(first) == ["prediction", "probability_2", "probability_0", "probability_1"]
    odds = np.exp([0.0, 1.0, 2.0])
    np.testing.assert_allclose(list(first.values())[1:], odds / odds.sum(), rtol=1e-6)
    assert second == {"prediction": "2", "probability_2": 1.0, "probability_0": 0.0, "probability_1": 0.0}


def test_baselines_are_those_of_the_training_labels(tmp_path):
    (tmp_path / "train.jsonl").write_text("".join(f'{{"text": "cat", "label": {x}}}\n' for x in (1, 1, 1, 0)))
    (tmp_path / "v.jsonl").write_text("".join(f'{{"text": "cat", "label": {x}}}\n' for x in (0, 0, 1)))
    task = make_task(tmp_path, validation=str(tmp_path / "v.jsonl"), metrics=("accuracy", "mcc", "f1"))
    assert task.notices() == ["1 of 2 labels have fewer than two training examples: '0' 1"]
    batches = task.batches("validation", batch_size=2, repeat=False)
    baselines = task.baselines(map(batches.batch_at, range(len(batches))), "validation")
    values = {name: value for name, (value, _) in baselines.items()}
    # "1" always: one of three is right; F1 from precision 1/3 and recall 1.
    assert values["accuracy"] == pytest.approx(1 / 3)
    assert values["f1"] == pytest.approx(0.5)
    assert values["mcc"] == 0.0
    assert values["loss"] == pytest.approx(-(2 * np.log(2 / 6) + np.log(4 / 6)) / 3)


@pytest.mark.parametrize(
    ("train", "held", "labels"),
    [
        (("False", "True"), ("true", "false", '"TRUE"'), ("False", "True")),
        (("0", "1"), ("1", "1.0", '"1"', '"0.0"'), ("0", "1")),
        (("0.0", "1.0"), ("1", "1.0", '"1"', '"0.0"'), ("0.0", "1.0")),
    ],
)
def test_one_label_in_files_that_spell_it_differently(tmp_path, train, held, labels):
    (tmp_path / "train.csv").write_text("text,label\n" + "".join(f"cat,{label}\n" for label in train * 4))
    (tmp_path / "v.jsonl").write_text("".join(f'{{"text": "cat", "label": {label}}}\n' for label in held))
    task = make_task(tmp_path, train=str(tmp_path / "train.csv"), validation=str(tmp_path / "v.jsonl"))
    assert task.config.data.labels == labels
    found = task.split("validation").table.columns["labels"].tolist()
    assert found == [int(label.strip('"').lower() in ("true", "1", "1.0")) for label in held]
    mixed = make_task(tmp_path, train=f"{tmp_path}/train.csv,{tmp_path}/v.jsonl", validation_fraction=0.25)
    assert mixed.config.model.num_labels == 2


def test_what_training_does_not_know(tmp_path):
    (tmp_path / "v.jsonl").write_text('{"text": "cat", "label": "9"}\n')
    with pytest.raises(InputError, match="validation data: 1 examples have a label that training does not know: '9'"):
        make_task(tmp_path, validation=str(tmp_path / "v.jsonl")).split("validation")
    with pytest.raises(InputError, match="f1 needs two labels, but there are 3"):
        make_task(tmp_path, metrics=("f1",))
    with pytest.raises(InputError, match=r"has \d+ tokens, but the model only model.vocab_size=50: they do not belong"):
        make_task(tmp_path, model={"vocab_size": 50})
    (tmp_path / "train.jsonl").write_text('{"text": "cat", "label": ["x", "y"]}\n' * 9)
    with pytest.raises(InputError, match=r"example 1: \['x', 'y'\] in column 'label' is not one label"):
        make_task(tmp_path)


def test_more_splits(tmp_path):
    first = make_task(tmp_path)
    labeled_files.write(tmp_path / "more.jsonl", first.data, count=5, seed=3)
    task = make_task(tmp_path, more_splits=(f"mismatched={tmp_path / 'more.jsonl'}",))
    assert list(task.data.evaluation_splits) == ["validation", "mismatched"]
    assert len(task.split("mismatched").table) == 5
    with pytest.raises(InputError, match="no split 'tset', only train, validation, mismatched"):
        task.split("tset")
    for bad in ("mismatched", "test=a.csv", "=a.csv"):
        with pytest.raises(InputError, match="must be NAME=SOURCE"):
            make_task(tmp_path, more_splits=(bad,))


def test_a_decimal_comma(tmp_path):
    (tmp_path / "train.csv").write_text("text;label\n" + "cat;1,5\ndog;-2\n" * 8)
    task = make_task(tmp_path, name="regression", metrics=("pearson",), train=str(tmp_path / "train.csv"), decimal=",")
    assert sorted(set(task.split("train").table.columns["values"].tolist())) == [-2.0, 1.5]


def test_regression(tmp_path):
    task = make_task(tmp_path, name="regression", metrics=("pearson", "spearman"))
    assert isinstance(task, Regression)
    assert task.config.model.num_labels == 1
    rows, outputs = validation(task)
    labels, logits, examples = joined(rows, outputs, "values")
    assert labels.dtype == np.float32
    total = functools.reduce(
        lambda a, b: a + b,
        [jax.jit(task.objective.metrics)(params_of(task), batch, dropout_rng=None)["loss"] for batch in rows],
    )
    assert total.mean() == pytest.approx(np.mean((logits[:, 0] - labels) ** 2), rel=1e-5)
    scores = task.scores({"logits": logits, "example": examples}, "validation")
    # `example` numbers the rows of the table, whatever order they came in.
    truth = np.array([float(record["label"]) for record in task.records("validation")])[examples]
    assert scores["pearson"] == pytest.approx(np.corrcoef(truth, logits[:, 0])[0, 1], abs=1e-6)
    predicted = task.predictions({"logits": logits[:1]}, [{}], None)
    assert predicted == [{"prediction": pytest.approx(float(logits[0, 0]))}]
    mean = np.mean([float(record["label"]) for record in task.records("train")])
    baselines = task.baselines(rows, "validation")
    assert baselines["loss"][0] == pytest.approx(np.mean((truth - mean) ** 2), rel=1e-5)
    assert baselines["pearson"][0] == 0.0


def test_choices_are_scored_one_by_one(tmp_path):
    task = make_task(tmp_path, name="multiple_choice", text=("a", "b"), choices=("c", "d", "e"), metrics=("accuracy",))
    assert isinstance(task, MultipleChoice)
    assert task.config.data.labels == ("0", "1", "2")
    params = params_of(task)
    batch = task.split("train").table.rows(np.arange(4)) | {"example_weights": np.ones(4, np.float32)}
    logits = jax.device_get(jax.jit(task.objective.outputs)(params, batch)["logits"])
    assert logits.shape == (4, 3)
    turned = {key: batch[key][:, [2, 0, 1]] for key in ("tokens", "segments", "valid")}
    # The same rows in another order: equal to rounding.
    np.testing.assert_allclose(
        jax.jit(task.objective.outputs)(params, turned)["logits"], logits[:, [2, 0, 1]], atol=1e-5
    )
    right = jax.jit(task.objective.metrics)(params, batch, dropout_rng=None)["accuracy"]
    assert right.mean() == np.mean(logits.argmax(1) == batch["labels"])
    with pytest.raises(InputError, match=r"must name each of data\.choices"):
        make_task(tmp_path, name="multiple_choice", text=("a", "b"), choices=("c", "d", "e"), labels=("A", "B"))


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"text": ("a", "b")},
        {"name": "regression", "metrics": ("pearson",)},
        {"name": "multiple_choice", "text": ("a",), "choices": ("c", "d", "e"), "metrics": ("accuracy",)},
    ],
)
def test_the_shapes_of_a_batch_are_known_without_data(tmp_path, data):
    task = make_task(tmp_path, **data)
    without_data = objective_of(task.config)
    shapes, expected = (jax.eval_shape(one.init, jax.random.key(0)) for one in (without_data, task.objective))
    assert shapes == expected
    assert_shapes_agree(task, without_data)


def test_a_decoder_classifies_from_the_last_token(tmp_path):
    """Where a row ends and how far it is filled up changes nothing."""
    model = {"architecture": "decoder", "norm_position": "pre", "num_segments": 0, "pooler": "tanh"}
    task = make_task(tmp_path, kind="gpt2_bpe", model=model)
    params, table = params_of(task), task.split("train").table
    short = table.rows(np.arange(3), length=int(table.lengths[:3].max()))
    assert (short["tokens"][np.arange(3), table.lengths[:3] - 1] == tokenizer("gpt2_bpe").eos_id).all()
    logits = jax.jit(task.objective.outputs)(params, short)["logits"]
    assert logits.shape == (3, 3)
    np.testing.assert_allclose(logits, task.objective.outputs(params, table.rows(np.arange(3)))["logits"], atol=1e-5)


def test_unlabeled_records_are_encoded_without_labels(tmp_path):
    task = make_task(tmp_path)
    table = task.encode([{"text": "cat"}], labeled=False)
    assert "labels" not in table.columns
    assert readers.read(task.data.train, task.data, labeled=False)


@pytest.mark.parametrize("given", [("balanced",), ("1=2.5", "0=0.5")])
def test_class_weights(tmp_path, given):
    """As PyTorch's weighted cross entropy: the sum is divided by the weights of the examples."""
    task = make_task(tmp_path, class_weights=given)
    counts = np.bincount(task.split("train").table.columns["labels"])
    balanced = counts.sum() / (len(counts) * counts)  # scikit-learn's "balanced"
    expected = balanced if given == ("balanced",) else np.array([0.5, 2.5, 1.0])
    np.testing.assert_allclose(task.objective.class_weights, expected, rtol=1e-6)
    rows, outputs = validation(task)
    labels, logits, _ = joined(rows, outputs)
    sums = [jax.jit(task.objective.metrics)(params_of(task), batch, dropout_rng=None) for batch in rows]
    total = functools.reduce(lambda a, b: a + b, [metrics["loss"] for metrics in sums])
    losses = np.log(np.exp(logits).sum(axis=1)) - logits[np.arange(len(labels)), labels]
    assert total.mean() == pytest.approx(np.average(losses, weights=expected[labels]), rel=1e-5)
    assert sum(float(task.objective.loss_weights(batch)["loss"]) for batch in rows) == pytest.approx(
        expected[labels].sum()
    )
    loss, _ = task.baselines(rows, "validation")["loss"]
    shares = (counts + 1) / (counts + 1).sum()
    assert loss == pytest.approx(np.average(-np.log(shares[labels]), weights=expected[labels]))


@pytest.mark.parametrize(
    ("key", "given"),
    [
        ("data.train", {"train": "none.csv"}),
        ("data.validation", {"validation": "none.csv"}),
        ("data.test", {"test": "none.csv"}),
        ("data.more_splits, dialect", {"more_splits": ("dialect=none.csv",)}),
    ],
)
def test_a_file_that_is_not_there_is_named_with_its_key(tmp_path, key, given):
    """It may stand in a configuration that somebody else wrote."""
    with pytest.raises(InputError, match=rf"^{key}: no file matches 'none.csv'"):
        make_task(tmp_path, **given).split("train")


@pytest.mark.parametrize("name", ["classification", "regression"])
def test_folds_hold_out_every_example_once_whatever_the_seed(tmp_path, name):
    tasks = [make_task(tmp_path, name=name, folds=3, fold=fold, validation_fraction=0.1) for fold in range(3)]
    held = [[str(record) for record in task.records("validation")] for task in tasks]
    everything = sorted(str(record) for record in readers.read(str(tmp_path / "train.jsonl"), tasks[0].data))
    assert sorted(record for fold in held for record in fold) == everything
    for task, fold in zip(tasks, held, strict=True):
        assert sorted([*fold, *(str(record) for record in task.records("train"))]) == everything
    if name == "classification":
        assert np.ptp([task.confusion(_right(task), "validation").diagonal() for task in tasks], axis=0).max() <= 1


def _right(task):
    """What a model that is always right says of validation data."""
    labels = task.split("validation").table.columns["labels"]
    return {"example": np.arange(len(labels)), "logits": np.eye(len(task.data.labels))[labels]}

"""The rows of a head keep their labels in a run that starts from it, whatever order the labels come in, or the head
starts fresh and the user is told."""

import csv
import dataclasses
import pathlib

import numpy as np
import pytest

from configs import classification, tagging
from tests import certain_models, labeled_files
from tests.certain_models import LABELS, WORDS, certain
from tests.fine_tuning import one_step, train
from tx_jax.convert import from_hf, model_dir, to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError

CASE = pathlib.Path("../shared/cases/hf_classifier_label_order")
OLD_ORDER = ("yes", "no", "perhaps")
MNLI = [("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), ("Entailment", "Contradiction", "Neutral")]
KIND = {"texts": "sequence_classification", "words": "token_classification"}
KINDS = ("texts", pytest.param("words", marks=pytest.mark.long))


@pytest.fixture(scope="module")
def tokenizer():
    return certain_models.tokenizer()


def write_data(path, kind, names=None):
    """Texts of one word, or sentences of such words."""
    names = names or {label: label for label in LABELS}
    rows = [(word, names[label]) for word, label in WORDS.items()] * 10
    if kind == "texts":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *rows])
    else:
        path.write_text(
            "\n\n".join("\n".join(f"{word}\t{label}" for word, label in rows[i : i + 3]) for i in range(27))
        )


def config(folder, kind, **data):
    c = classification.get_config("smoke") if kind == "texts" else tagging.get_config("")
    if kind == "words":
        classification.smoke(c)
        c.data.format = "conll"
    c.data.train = str(folder / "train.txt")
    c.data.format = "csv" if kind == "texts" else "conll"
    c.data.metrics = ("accuracy",)
    c.training.best_metric = "accuracy"
    c.data.update(**data)
    c.start_from = str(folder / "model")
    one_step(c)
    return c


def write_model(model, path, form):
    model_dir.save(model, path) if form == "converted" else to_hf.write(model, path)


@pytest.mark.parametrize("form", ["converted", "hugging_face"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_keep_their_labels(tokenizer, tmp_path, form, kind):
    order = OLD_ORDER
    write_model(certain(tokenizer, KIND[kind], order), tmp_path / "model", form)
    write_data(tmp_path / "train.txt", kind)
    done = train(config(tmp_path, kind), tmp_path / "run")
    assert done.config.data.labels == order
    assert done.result["accuracy"] == 1.0
    assert done.run.labels == f"{', '.join(order)}: the rows of {KIND[kind]} keep the labels of {tmp_path / 'model'}"


@pytest.mark.parametrize("kind", KINDS)
def test_an_order_of_the_users_moves_the_rows(tokenizer, tmp_path, kind):
    model = certain(tokenizer, KIND[kind], OLD_ORDER)
    write_model(model, tmp_path / "model", "converted")
    write_data(tmp_path / "train.txt", kind)
    done = train(config(tmp_path, kind, labels=LABELS), tmp_path / "run")
    assert done.config.data.labels == LABELS
    assert done.result["accuracy"] == 1.0
    kernel = f"{KIND[kind]}/kernel"
    np.testing.assert_array_equal(done.before[kernel], model.params[kernel][:, [1, 2, 0]])


@pytest.mark.parametrize("kind", KINDS)
def test_from_run_to_run(tokenizer, tmp_path, kind):
    write_model(certain(tokenizer, KIND[kind], OLD_ORDER), tmp_path / "model", "converted")
    write_data(tmp_path / "train.txt", kind)
    train(config(tmp_path, kind, labels=("perhaps", "no", "yes")), tmp_path / "first")
    c = config(tmp_path, kind)
    c.start_from = str(tmp_path / "first")
    done = train(c, tmp_path / "second")
    assert done.config.data.labels == ("perhaps", "no", "yes")
    assert done.result["accuracy"] == 1.0
    again = train(c, tmp_path / "second")  # it has begun: the order is its own now, and the start is not asked
    assert again.config.data.labels == ("perhaps", "no", "yes")
    assert again.result == done.result


def test_other_labels_start_fresh_and_the_user_sees_both_lists(tokenizer, tmp_path):
    write_model(certain(tokenizer, "sequence_classification", OLD_ORDER), tmp_path / "model", "converted")
    write_data(tmp_path / "train.txt", "texts", {"no": "nein", "perhaps": "vielleicht", "yes": "ja"})
    done = train(config(tmp_path, "texts"), tmp_path / "run")
    assert done.run.fresh == ("sequence_classification",)
    assert done.run.labels.startswith(
        f"yes, no, perhaps in {tmp_path / 'model'}, ja, nein, vielleicht in the data: the labels differ, "
        "so sequence_classification is newly initialized. To keep its rows, if they are the same labels "
        "under other names: --config.data.label_map"
    )
    assert f"│ labels {' ' * 2}" in done.shown
    assert "yes, no, perhaps in" in done.shown
    assert "sequence_classification: newly initialized" in done.shown


def test_names_of_the_users_keep_the_rows(tokenizer, tmp_path):
    write_model(certain(tokenizer, "sequence_classification", OLD_ORDER), tmp_path / "model", "converted")
    write_data(tmp_path / "train.txt", "texts", {"no": "nein", "perhaps": "perhaps", "yes": "ja"})
    done = train(config(tmp_path, "texts", label_map=("no=nein", "yes=ja")), tmp_path / "run")
    assert done.config.data.labels == ("ja", "nein", "perhaps")
    assert done.result["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("label_map", "said"),
    [
        (("perhap=nein",), r"data\.label_map: 'perhap=nein' must be OLD=NEW.*Did you mean 'perhaps'\?"),
        (("no=nien", "yes=ja"), "with it the labels are ja, nien, perhaps in .* ja, nein, perhaps in the data"),
        (("no=nein",), "They still differ, so the head would keep no row"),
    ],
)
def test_names_that_lead_nowhere(tokenizer, tmp_path, label_map, said):
    write_model(certain(tokenizer, "sequence_classification", OLD_ORDER), tmp_path / "model", "converted")
    write_data(tmp_path / "train.txt", "texts", {"no": "nein", "perhaps": "perhaps", "yes": "ja"})
    with pytest.raises(InputError, match=said):
        train(config(tmp_path, "texts", label_map=label_map), tmp_path / "run")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start_from": ""}, "no head is taken from one here"),
        ({"start_fresh": True}, "no head is taken from one here"),
        ({"start_from": "{tmp}/plain"}, "has no head sequence_classification whose labels have names"),
    ],
)
def test_names_for_no_labels(tokenizer, tmp_path, changes, said):
    write_model(certain(tokenizer, "sequence_classification", OLD_ORDER), tmp_path / "model", "converted")
    labeled_files.write_model(tmp_path / "plain", tokenizer)
    write_data(tmp_path / "train.txt", "texts")
    c = config(tmp_path, "texts", label_map=("no=nein",))
    c.update({key: value.format(tmp=tmp_path) if isinstance(value, str) else value for key, value in changes.items()})
    with pytest.raises(InputError, match=said):
        train(c, tmp_path / "run")


def test_names_that_transformers_made_up_are_not_guessed_at(tokenizer, tmp_path):
    model = certain(tokenizer, "sequence_classification", OLD_ORDER)
    model = certain_models.with_names(model, ())
    write_model(model, tmp_path / "model", "hugging_face")
    assert from_hf.read(tmp_path / "model")[0].labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    write_data(tmp_path / "train.txt", "texts")
    done = train(config(tmp_path, "texts"), tmp_path / "run")
    assert done.run.fresh == ("sequence_classification",)
    assert "To keep its rows, as they have no names there" in done.run.labels
    names = tuple(f"LABEL_{i}={label}" for i, label in enumerate(OLD_ORDER))
    done = train(config(tmp_path, "texts", label_map=names), tmp_path / "named")
    assert done.result["accuracy"] == 1.0
    # Where the data has the numbers that transformers made the names of, they are what they are.
    numbers = {label: str(number) for number, label in enumerate(OLD_ORDER)}
    write_data(tmp_path / "train.txt", "texts", numbers)
    done = train(config(tmp_path, "texts", labels=("2", "0", "1")), tmp_path / "numbers")
    assert done.result["accuracy"] == 1.0
    assert done.run.labels.endswith("; taken: LABEL_0 for 0, LABEL_1 for 1, LABEL_2 for 2")


@pytest.mark.parametrize(
    "order",
    [
        pytest.param(("CONTRADICTION", "NEUTRAL", "ENTAILMENT"), marks=pytest.mark.long),
        ("Entailment", "Contradiction", "Neutral"),
    ],
)
def test_published_models_of_mnli(tokenizer, tmp_path, order):
    """They have any order, and some have names in capitals."""
    from configs import glue

    of_label = dict(zip(LABELS, ("contradiction", "neutral", "entailment"), strict=True))
    spelled = {name.casefold(): name for name in order}
    old = tuple(next(label for label in LABELS if spelled[of_label[label]] == name) for name in order)
    model = certain(tokenizer, "sequence_classification", old)
    write_model(certain_models.with_names(model, order), tmp_path / "model", "hugging_face")
    write_data(tmp_path / "train.txt", "texts", of_label)
    done = train(config(tmp_path, "texts", labels=glue.get_config("mnli").data.labels), tmp_path / "run")
    assert done.config.data.labels == ("entailment", "neutral", "contradiction")
    assert done.result["accuracy"] == 1.0
    assert f"{order[0]} for {order[0].lower()}" in done.run.labels


def test_a_number_is_no_label(tokenizer, tmp_path):
    """Regression trains on from a model that predicts a number."""
    model = certain(tokenizer, "sequence_classification", OLD_ORDER)
    one = {path: x[..., :1] if path.startswith("seq") else x for path, x in model.params.items()}
    one_output = dataclasses.replace(model.config, num_labels=1)
    write_model(Model(one_output, one, tokenizer, None, problem_type="regression"), tmp_path / "model", "hugging_face")
    again = from_hf.read(tmp_path / "model")[0]
    assert (again.labels, again.problem_type) == ((), "regression")
    write_data(tmp_path / "train.txt", "texts", {"no": "0.5", "perhaps": "1.5", "yes": "2"})
    c = config(tmp_path, "texts", metrics=("pearson",))
    c.task = "regression"
    c.training.best_metric = "pearson"
    done = train(c, tmp_path / "run")
    assert done.run.fresh == ()
    assert done.run.labels == ""


@pytest.mark.skipif(not CASE.is_dir(), reason="no ../shared/cases here")
@pytest.mark.parametrize(("file", "label_map"), [("train.csv", ()), ("other.csv", ("POSITIVE=yes", "NEGATIVE=no"))])
def test_a_classifier_of_hugging_face_whose_labels_are_not_in_alphabetical_order(tmp_path, file, label_map):
    c = classification.get_config("smoke")
    c.data.train, c.data.label_map, c.start_from = str(CASE / file), label_map, str(CASE / "model")
    one_step(c)
    assert train(c, tmp_path / "run").result["accuracy"] == 1.0

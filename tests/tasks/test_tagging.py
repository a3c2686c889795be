"""Words with labels: against the definitions, in numpy and by hand."""

import json

import jax
import numpy as np
import pytest

from tests import labeled_files
from tests.models import small
from tests.tasks.batch_shapes import assert_shapes_agree
from tests.tasks.test_classification import tokenizer
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.tasks import scores
from tx_jax.tasks.registry import objective_of, open_task
from tx_jax.tasks.tagging import Tagging


def make_task(tmp_path, *, train=None, kind="wordpiece", **data):
    from configs import tagging

    c = tagging.get_config("smoke")
    c.data.train = str(tmp_path / "train.jsonl")
    c.data.validation = c.data.test = ""
    c.data.validation_fraction = 0.25
    c.data.sequence_length = 24
    c.data.text, c.data.label = ("words",), "tags"
    c.model = {
        **vars(small.config(vocab_size=tokenizer(kind).vocab_size, max_length=64, num_layers=1)),
        "heads": ("token_classification",),
    }
    for name, value in data.items():
        c.data[name] = value
    config = from_config_dict(c)
    train = train or labeled_files.sentences(config.data, 40)
    lines = (json.dumps({"words": words, "tags": tags}) + "\n" for words, tags in train)
    (tmp_path / "train.jsonl").write_text("".join(lines))
    return open_task(config, tokenizer=tokenizer(kind))


def evaluated(task, split="validation", batch_size=4):
    batches = task.batches(split, batch_size=batch_size, repeat=False)
    rows = [batches.batch_at(i) for i in range(len(batches))]
    params = small.params(task.config.model)
    outputs = [jax.device_get(jax.jit(task.objective.outputs)(params, batch)) for batch in rows]
    real = np.concatenate([batch["example_weights"] for batch in rows]) > 0
    examples = np.concatenate([batch["example"] for batch in rows])[real]
    order = np.argsort(examples)
    joined = {name: np.concatenate([part[name] for part in outputs])[real][order] for name in outputs[0]}
    return rows, joined | {"example": examples[order]}


@pytest.mark.parametrize("pieces", ["first", "all"])
@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe"])
def test_loss_and_accuracy_are_over_the_pieces_that_learn(tmp_path, pieces, kind):
    task = make_task(tmp_path, kind=kind, label_pieces=pieces)
    assert isinstance(task, Tagging)
    assert task.config.data.labels == ("B-PER", "I-PER", "O")
    rows, _ = evaluated(task)
    params = small.params(task.config.model)
    total, losses, correct = None, [], []
    for batch in rows:
        part = jax.jit(task.objective.metrics)(params, batch, dropout_rng=None)
        total = part if total is None else {name: total[name] + part[name] for name in part}
        logits = np.asarray(
            task.objective.apply(params, batch, dropout_rng=None).logits["token_classification"], np.float64
        )
        log_odds = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        for i, j in np.argwhere((batch["token_labels"] >= 0) & (batch["example_weights"] > 0)[:, None]):
            losses.append(-log_odds[i, j, batch["token_labels"][i, j]])
            correct.append(logits[i, j].argmax() == batch["token_labels"][i, j])
    # float32 sums of some hundred terms of order 1
    assert total["loss"].mean() == pytest.approx(np.mean(losses), rel=1e-5)
    assert total["accuracy"].mean() == pytest.approx(np.mean(correct))
    assert (
        float(total["loss"].weight)
        == len(losses)
        == sum(float(task.objective.loss_weights(batch)["loss"]) for batch in rows)
    )


@pytest.mark.parametrize("length", [24, 8])
def test_scores_are_over_words_whatever_rows_they_are_in(tmp_path, length):
    task = make_task(tmp_path, sequence_length=length, metrics=("accuracy", "entity_f1"))
    assert_shapes_agree(task, objective_of(task.config))
    table = task.split("validation").table
    assert (len(table) > len(task.records("validation"))) == (length == 8)
    _, outputs = evaluated(task)
    predicted = task.predictions(outputs, task.records("validation"), table)
    records = task.records("validation")
    golds, found = [record["tags"] for record in records], [one["prediction"] for one in predicted]
    assert list(map(len, golds)) == list(map(len, found))
    right = [a == b for gold, tags in zip(golds, found, strict=True) for a, b in zip(gold, tags, strict=True)]
    values = task.scores(outputs, "validation")
    assert values == {"accuracy": pytest.approx(np.mean(right)), "entity_f1": scores.entity_f1(golds, found)}
    assert 1 / 3 <= min(p for one in predicted for p in one["probability"]) <= 1
    half = {name: part[: len(table) // 2] for name, part in outputs.items()}
    words = int(table.alignment["first_pieces"].rows(half["example"], length).sum())
    assert task.scores(half, "validation")["accuracy"] == pytest.approx(np.mean(right[:words]))


def test_a_text_is_cut_into_words(tmp_path):
    task = make_task(tmp_path)
    records = [{"words": "cat, dog"}, {"words": ["sun"]}]
    table = task.encode(records, labeled=False)
    batch = table.rows(np.arange(len(table)))
    outputs = jax.device_get(jax.jit(task.objective.outputs)(small.params(task.config.model), batch))
    first, second = task.predictions(outputs, records, table)
    assert first["words"] == ["cat", ",", "dog"]
    assert len(first["prediction"]) == len(first["probability"]) == 3
    assert list(second) == ["prediction", "probability"]


# Labels, predictions, and (precision, recall, F1) as conlleval counts.
ENTITIES = [
    (["B-A I-A O"], ["B-A I-A O"], (1, 1, 1)),
    (["B-A I-A O"], ["B-A O O"], (0, 0, 0)),  # a part is wrong
    (["B-A I-A O B-B"], ["B-A I-A O B-A"], (0.5, 0.5, 0.5)),  # of another type
    (["B-A B-A"], ["B-A I-A"], (0, 0, 0)),  # two neighbors are not one
    (["I-A I-A O"], ["B-A I-A O"], (1, 1, 1)),  # IOB1, as in CoNLL-2003: an entity may begin with I
    (["B-A I-B"], ["B-A B-B"], (1, 1, 1)),  # a new type begins a new one
    (["O I-A", "I-A O"], ["O B-A", "B-A O"], (1, 1, 1)),  # none goes across sentences
    (["O O"], ["O B-A"], (0, 0, 0)),
    (["O O"], ["O O"], (0, 0, 0)),  # undefined counts as 0
    (["B-A O B-B"], ["O O B-B"], (1, 0.5, 2 / 3)),
]


@pytest.mark.parametrize(("targets", "predictions", "expected"), ENTITIES)
def test_entities(targets, predictions, expected):
    targets, predictions = ([line.split() for line in lines] for lines in (targets, predictions))
    found = [scores.OF_WORDS[f"entity_{name}"](targets, predictions) for name in ("precision", "recall", "f1")]
    assert found == pytest.approx(list(expected))


def test_baselines_are_the_most_frequent_label_of_each_word(tmp_path):
    train = [(["cat", "dog"], ["N", "V"]), (["cat", "cat"], ["N", "V"]), (["sun", "tree"], ["V", "V"])]
    held = [(["cat", "dog", "rain"], ["V", "V", "V"]), (["sun", "cat"], ["N", "N"])]
    (tmp_path / "held.jsonl").write_text(
        "".join(json.dumps({"words": words, "tags": tags}) + "\n" for words, tags in held)
    )
    task = make_task(tmp_path, train=train, validation=str(tmp_path / "held.jsonl"))
    rows, _ = evaluated(task)
    # cat N, dog V, and rain V, the most frequent label of all; sun V, cat N.
    assert task.baselines(rows, "validation")["accuracy"][0] == pytest.approx(3 / 5)
    assert task.baselines(rows, "train")["accuracy"][0] <= 1


def test_a_rare_label_may_be_among_those_held_out(tmp_path):
    train = [(["cat"], [tag]) for tag in [*"NNNVVVPQRS"]]
    task = make_task(tmp_path, train=train)
    assert task.config.data.labels == ("N", "P", "Q", "R", "S", "V")
    held = {tag for record in task.records("validation") for tag in record["tags"]}
    assert len(task.split("validation").table) == len(task.records("validation")) > 0
    assert held <= set(task.config.data.labels)


def test_one_label_has_one_spelling(tmp_path):
    """Scores and baselines compare labels as the model's outputs are spelled."""
    (tmp_path / "held.jsonl").write_text('{"words": ["cat", "dog"], "tags": [true, "FALSE"]}\n')
    train = [(["cat", "dog"], ["True", "False"])] * 4
    task = make_task(tmp_path, train=train, validation=str(tmp_path / "held.jsonl"))
    assert task.config.data.labels == ("False", "True")
    assert task.split("validation").table.columns["token_labels"].values.tolist() == [-1, 1, 0, -1]
    rows, _ = evaluated(task)
    assert task.baselines(rows, "validation")["accuracy"][0] == 1.0


def test_nothing_to_learn_from(tmp_path):
    (tmp_path / "held.jsonl").write_text('{"words": ["cat"], "tags": ["N"]}\n')
    task = make_task(
        tmp_path,
        train=[([], [])] * 3,
        validation=str(tmp_path / "held.jsonl"),
        labels=("N", "V"),
        metrics=("accuracy",),
    )
    with pytest.raises(InputError, match="train data: there is nothing to learn from in 3 examples"):
        task.batches("train", batch_size=2, repeat=True)


def test_a_word_without_a_label(tmp_path):
    for missing in (None, float("nan"), "NA", " "):
        with pytest.raises(InputError, match=r"example \d+: word 2 has no label in column 'tags'"):
            make_task(tmp_path, train=[(["cat"], ["N"]), (["dog", "sun"], ["V", missing])] * 4, null_values=("NA",))


def test_what_cannot_be(tmp_path):
    with pytest.raises(InputError, match="entity_f1 needs labels like B-PER, I-PER, O, not N, V"):
        make_task(tmp_path, train=[(["cat", "dog"], ["N", "V"])] * 4, metrics=("entity_f1",))
    with pytest.raises(InputError, match="'f1' is not one of accuracy, entity_f1"):
        make_task(tmp_path, metrics=("f1",))
    (tmp_path / "held.jsonl").write_text('{"words": ["cat"], "tags": ["X"]}\n')
    task = make_task(tmp_path, validation=str(tmp_path / "held.jsonl"))
    with pytest.raises(InputError, match="validation data: 1 words have a label that training does not know: 'X'"):
        task.split("validation")


@pytest.mark.parametrize(
    ("labels", "best"),
    [
        (("B-PER", "I-PER", "O"), "entity_f1"),
        (("I-LOC", "O"), "entity_f1"),
        (("S-LOC", "E-LOC", "B-LOC", "I-LOC", "O"), "entity_f1"),
        (("N", "V"), "accuracy"),
        (("O", "X"), "accuracy"),
        (("B-PER", "PER", "O"), "accuracy"),
    ],
)
def test_the_labels_tell_which_metric_decides_unless_one_is_chosen(tmp_path, labels, best):
    train = [(["cat", "dog"], [label, label]) for label in labels] * 4
    task = make_task(tmp_path, train=train)
    assert task.config.training.best_metric == task.score_names[0] == best
    chosen = make_task(tmp_path, train=train, metrics=("accuracy",))
    assert (chosen.config.training.best_metric, chosen.score_names) == ("accuracy", ("accuracy",))

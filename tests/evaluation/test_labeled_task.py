"""Classifiers, taggers, models that answer or predict a number: as they are, without a run of ours behind them."""

import dataclasses
import json

import numpy as np
import pytest

from tests import certain_models, labeled_files
from tests.certain_models import LABELS, WORDS, certain
from tests.models import small
from tx_jax import tree
from tx_jax.convert import to_hf
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError, InputWarning
from tx_jax.evaluation import labeled_task
from tx_jax.evaluation.predict import predict
from tx_jax.evaluation.report import evaluate_split
from tx_jax.runs import trained

ORDER = ("yes", "no", "perhaps")


@pytest.fixture(scope="module")
def tokenizer():
    return certain_models.tokenizer()


@pytest.fixture
def opened(tmp_path):
    """Through a Hugging Face folder."""

    def opened(model: Model, **problem) -> trained.Trained:
        to_hf.write(dataclasses.replace(model, **problem), tmp_path / "hf")
        return trained.load(tmp_path / "hf")

    return opened


def predicted(model, records, **options):
    task = labeled_task.to_predict(model, options)
    return predict(task, model.params, model.mesh, records, batch_size=4)


def evaluated(model, path, label_map=(), **options):
    task, taken = labeled_task.to_evaluate(model, str(path), options, label_map)
    return evaluate_split(model, task, labeled_task.DATA), taken


def write_texts(path, names=None, column="text"):
    names = names or {label: label for label in LABELS}
    rows = [(word, names[label]) for word, label in WORDS.items()] * 3 + [("cat", names["no"])]
    path.write_text("".join(f"{text},{label}\n" for text, label in [(column, "label"), *rows]))
    return path


def test_a_classifier_predicts_its_own_labels(tokenizer, opened):
    model = opened(certain(tokenizer, "sequence_classification", ORDER))
    found = predicted(model, [{"text": word} for word in WORDS])
    assert [one["prediction"] for one in found] == list(LABELS)
    assert list(found[0]) == ["prediction", "probability_yes", "probability_no", "probability_perhaps"]
    unnamed = dataclasses.replace(model, labels=())
    assert [one["prediction"] for one in predicted(unnamed, [{"text": "cat"}])] == ["LABEL_1"]
    named = labeled_task.to_predict(unnamed, {}, ["LABEL_1=nein"])
    assert named.data.labels == ("LABEL_0", "nein", "LABEL_2")


def test_a_tagger_predicts_its_own_labels(tokenizer, opened):
    model = opened(certain(tokenizer, "token_classification", ORDER))
    (found,) = predicted(model, [{"0": ["cat", "sun"]}])
    assert len(found["prediction"]) == 2
    assert set(found["prediction"]) <= set(ORDER)


def test_a_classifier_is_evaluated_on_a_file(tokenizer, opened, tmp_path):
    model = opened(certain(tokenizer, "sequence_classification", ORDER))
    report, taken = evaluated(model, write_texts(tmp_path / "test.csv"))
    assert report.step is None
    assert taken == ""
    assert report.metrics["accuracy"] == report.metrics["macro_f1"] == 1.0
    # 4 of 10 are "no": that is known from the file alone, and said.
    assert report.baselines["accuracy"] == (0.4, "always 'no', the most frequent in this data itself")
    report, _ = evaluated(model, write_texts(tmp_path / "body.csv", column="body"), text=("body",))
    assert report.metrics["accuracy"] == 1.0


def test_labels_of_a_file_that_are_called_otherwise(tokenizer, opened, tmp_path):
    model = opened(certain(tokenizer, "sequence_classification", ORDER))
    report, taken = evaluated(model, write_texts(tmp_path / "a.csv", {label: label.upper() for label in LABELS}))
    assert report.metrics["accuracy"] == 1.0
    assert taken == "yes for YES, no for NO, perhaps for PERHAPS"
    german = {"no": "nein", "perhaps": "vielleicht", "yes": "ja"}
    other = write_texts(tmp_path / "b.csv", german)
    with pytest.raises(
        InputError, match=r"labels that .* does not know: nein, vielleicht, ja; it knows yes, no, perhaps"
    ):
        evaluated(model, other)
    report, _ = evaluated(model, other, [f"{old}={new}" for old, new in german.items()])
    assert report.metrics["accuracy"] == 1.0
    (tmp_path / "d.csv").write_text("text,label\n" + "cat " * 100 + ",no\n")
    with pytest.warns(InputWarning, match="truncated: 1 of 1"):
        evaluated(model, tmp_path / "d.csv")
    # A file need not have every label.
    (tmp_path / "c.csv").write_text("text,label\ncat,no\ncat,no\n")
    assert evaluated(model, tmp_path / "c.csv")[0].metrics["accuracy"] == 1.0


def test_a_tagger_is_evaluated_on_a_file(tokenizer, opened, tmp_path):
    model = opened(tagger(tokenizer))
    (tmp_path / "test.conll").write_text("cat\tO\n\nsun\tB-X\n\ncat\tO\n\ndog\tI-X\n")
    report, _ = evaluated(model, tmp_path / "test.conll")
    assert report.metrics["accuracy"] == 1.0
    assert set(report.metrics) >= {"entity_f1", "entity_precision", "entity_recall"}
    # The label of each word in this file would be the answer itself.
    assert report.baselines["accuracy"] == (0.5, "always 'O', the most frequent in this data itself")


def tagger(tokenizer):
    return certain_models.with_names(certain(tokenizer, "token_classification", LABELS), ("O", "I-X", "B-X"))


@pytest.mark.parametrize("problem_type", ["regression", None])
def test_a_model_that_predicts_a_number(tokenizer, opened, tmp_path, problem_type):
    model = certain(tokenizer, "sequence_classification", ORDER)
    one = {path: x[..., :1] if path.startswith("seq") else x for path, x in model.params.items()}
    config = dataclasses.replace(model.config, num_labels=1)
    model = opened(Model(config, one, tokenizer, None, problem_type=problem_type))
    found = predicted(model, [{"text": word} for word in WORDS])
    assert [list(one) for one in found] == [["prediction"]] * 3
    assert found[2]["prediction"] > found[0]["prediction"] + 1
    report, _ = evaluated(model, write_texts(tmp_path / "a.csv", {"no": "0", "perhaps": "0", "yes": "4"}))
    assert report.metrics["pearson"] > 0.99
    assert report.baselines["loss"][1] == "always 1.2, the mean of this data itself"


def test_a_model_that_gives_several_labels(tokenizer, opened, tmp_path):
    model = opened(certain(tokenizer, "sequence_classification", ORDER), problem_type="multi_label_classification")
    model.params["sequence_classification"]["bias"] -= 2.0  # from 0 for what a text does not say
    assert [one["prediction"] for one in predicted(model, [{"text": "cat"}, {"text": "sun"}])] == [["no"], ["yes"]]
    (tmp_path / "test.csv").write_text("text,label\ncat,NO\nsun,YES\ndog,PERHAPS|NO\n")
    report, taken = evaluated(model, tmp_path / "test.csv", label_separator="|")
    assert taken == "yes for YES, no for NO, perhaps for PERHAPS"
    assert report.metrics["subset_accuracy"] == pytest.approx(2 / 3)
    assert report.baselines["loss"][1] == "the frequency of each label in this data itself"
    (tmp_path / "lists.csv").write_text('text,label\ncat,"[""NO""]"\nsun,"[""YES""]"\ndog,"[""PERHAPS"", ""NO""]"\n')
    assert evaluated(model, tmp_path / "lists.csv")[0].metrics == report.metrics
    (tmp_path / "bars.csv").write_text("text,label\ndog,PERHAPS|NO\n")
    with pytest.raises(InputError, match=r"holds 'PERHAPS\|NO', not a list of labels: .*label_separator"):
        evaluated(model, tmp_path / "bars.csv")


def test_a_model_that_answers(tokenizer, opened, tmp_path):
    config = small.config(vocab_size=tokenizer.vocab_size, max_length=64, num_layers=1, heads=("question_answering",))
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    model = opened(Model(config, params, tokenizer, None))
    (tmp_path / "test.json").write_text(json.dumps(labeled_files.squad(4)))
    options = {"stride": 8, "max_question_length": 8}
    report, _ = evaluated(model, tmp_path / "test.json", **options)
    assert set(report.metrics) >= {"f1", "exact_match"}
    assert report.baselines["f1"][1] == "the sentence that shares most words with the question"
    (found,) = predicted(model, [{"question": "cat?", "context": "cat sun. dog rain."}], **options)
    assert found["prediction"] in "cat sun. dog rain."


def test_what_cannot_be_used_as_it_is(tokenizer, opened, tmp_path):
    classifier = opened(certain(tokenizer, "sequence_classification", ORDER))
    for changes, said in (
        ({"problem_type": "regression"}, "predicts 3 numbers: only one is supported"),
        ({"tokenizer": None}, "without a tokenizer"),
        ({"model": dataclasses.replace(classifier.model, heads=("masked_lm",))}, "no head that was trained on labels"),
    ):
        with pytest.raises(InputError, match=said):
            labeled_task.to_predict(dataclasses.replace(classifier, **changes), {})
    with pytest.raises(InputError, match="'nope=x' must be OLD=NEW"):
        labeled_task.to_predict(classifier, {}, ["nope=x"])
    with pytest.warns(InputWarning, match="sequence_classification is untrained"):
        labeled_task.to_predict(dataclasses.replace(classifier, untrained=("sequence_classification",)), {})

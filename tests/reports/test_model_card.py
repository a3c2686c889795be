"""The card of an exported model, as the Hub's own library reads it."""

import dataclasses

import numpy as np
import pytest
from huggingface_hub import ModelCard

from tests.models import small
from tests.reports import runs
from tx_jax import tree
from tx_jax.convert.model_dir import Source
from tx_jax.errors import InputError
from tx_jax.reports import facts, model_card
from tx_jax.runs.open_model import OpenModel, Place
from tx_jax.runs.run_dir import RunDir


@pytest.fixture
def run(tmp_path):
    return facts.read(runs.write(tmp_path / "run"), "run")


def opened(run=None, step=None, source=None, **changes):
    config = small.config(**{"heads": ("sequence_classification",), "num_labels": 2} | changes)
    params = {name: np.asarray(x) for name, x in tree.flatten(small.params(config)).items()}
    experiment = RunDir(run.path).load_config() if run else None
    place = Place("mine", "run directory" if run else "converted model", run.path if run else None)
    return OpenModel(config, params, None, source, labels=("a", "b"), place=place, experiment=experiment, step=step)


def card(*arguments):
    return ModelCard(model_card.text(*arguments))


def test_it_tells_what_trained_the_model_and_what_it_reached(run):
    found = card(opened(run, 10), "mine", "BertForSequenceClassification", run, ["es"])
    data = found.data.to_dict()
    assert data["language"] == ["es"]
    assert data["base_model"] == "google-bert/bert-base-uncased"
    assert data["pipeline_tag"] == "text-classification"
    assert data["tags"] == ["tx_jax", "encoder"]
    assert data["metrics"] == ["f1"]
    results = {(one.dataset_split, one.metric_name): one for one in found.data.eval_results}
    assert results["test", "macro_f1"].metric_value == pytest.approx(0.4)
    assert results["validation", "macro_f1"].dataset_name == "texts.csv"
    assert results["validation", "macro_f1"].metric_type == "f1"
    for words in (
        "- train: `texts.csv`",
        "| validation | macro\\_f1 | 0.5 | 0.33 |",
        "| optimizer.learning\\_rate | 2e-05 |",
        "These are the parameters of step 10.",
        f"python -m experiments.train --config=a.py --workdir={run.path} '--x=a b'",
        "Labels: a, b.",
    ):
        assert words in found.content
    assert "license" not in data  # nobody told it
    assert "warmup\\_steps" not in found.content  # it does nothing beside a share
    assert "lora.alpha" not in found.content


def test_results_are_those_of_the_parameters_that_are_exported(run):
    assert "| validation | macro\\_f1 | 0.4 |" in card(opened(run, 20), "mine", "Bert", run).content
    nothing = card(opened(run, 7), "mine", "Bert", run)
    assert "## Results" not in nothing.content
    assert "model-index" not in nothing.data.to_dict()


def test_a_converted_model_without_a_run():
    source = Source("dccuchile/bert", None, "bert", "float32", {})
    data = card(opened(source=source, heads=("masked_lm",)), "mine", "BertForMaskedLM", None).data
    assert data.base_model == "dccuchile/bert"
    assert data.pipeline_tag == "fill-mask"
    assert (
        "base_model"
        not in card(opened(source=dataclasses.replace(source, name="folder")), "m", "Bert", None).data.to_dict()
    )


def test_a_local_start_is_named_only_if_it_came_from_the_hub(run, tmp_path):
    for name, expected in (("google-bert/bert-base-uncased", "google-bert/bert-base-uncased"), ("folder", "")):
        (tmp_path / "model.json").write_text(f'{{"source": {{"name": "{name}"}}}}')
        begun = dataclasses.replace(run, config={**run.config, "start_from": str(tmp_path)})
        assert model_card.base_model(opened(run), begun) == expected


def test_bad_language():
    model_card.check_languages(["es", "pt-BR", "code"])
    with pytest.raises(InputError, match="--language=Spanish: give a code such as es"):
        model_card.check_languages(["Spanish"])

"""What earlier versions wrote into config.json is still read."""

import json

import pytest

from tests.test_config import changed
from tx_jax.config import from_config_dict
from tx_jax.config.old_runs import with_task

LABELED = {
    "train": "a.csv",
    "validation": "",
    "text": ["text"],
    "label": "label",
    "sequence_length": 16,
    "read_ahead": 2,
    "metrics": [],
}


def old(head, data=None, **more):
    """As version 0.1 wrote it: without a task."""
    values = changed(model__heads=[head], **more)
    del values["task"]
    return json.loads(json.dumps(values | ({"data": LABELED | data} if data is not None else {})))


@pytest.mark.parametrize(
    ("values", "task"),
    [
        (old("masked_lm", data__packing="full_sentences"), "masked_lm"),
        (old("causal_lm", model__architecture="decoder", data__packing="chunks"), "causal_lm"),
        (old("masked_lm", distillation={"layers": 1, "teacher_layers": 2}, start_from="a"), "distillation"),
        (old("sequence_classification", {"regression": False}), "classification"),
        (old("sequence_classification", {"regression": True}), "regression"),
        (old("token_classification", {}), "tagging"),
        (old("question_answering", {"text": ["question", "context"]}), "question_answering"),
        (old("multiple_choice", {"choices": ["a", "b"]}), "multiple_choice"),
    ],
)
def test_the_task_of_an_old_run_is_told_by_its_heads_and_data(values, task):
    assert from_config_dict(values).task == task


def test_a_task_that_is_named_stays():
    values = changed(task="anything")
    assert with_task(values) is values

"""Converts configurations that earlier versions wrote into run directories to today's form."""

from collections.abc import Mapping
from typing import Any

_TASK_OF_HEAD = {
    "sequence_classification": "classification",
    "token_classification": "tagging",
    "question_answering": "question_answering",
    "multiple_choice": "multiple_choice",
    "causal_lm": "causal_lm",
    "masked_lm": "masked_lm",
}


def with_task(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The values with the key `task`, which version 0.1 did not have: it followed from the heads and two more keys."""
    if "task" in values or not {"model", "data"} <= {*values.keys()}:
        return values
    data = {key: value for key, value in values["data"].items() if key != "regression"}
    heads = values["model"].get("heads", ())
    task = next((name for head, name in _TASK_OF_HEAD.items() if head in heads), "masked_lm")
    if values["data"].get("regression"):
        task = "regression"
    elif (values.get("distillation") or {}).get("layers"):
        task = "distillation"
    return {**values, "task": task, "data": data}

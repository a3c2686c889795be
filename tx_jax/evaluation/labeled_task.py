"""The task of a model on labeled data: that of its run, or one made up for a model without a run."""

import dataclasses
import itertools
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from tx_jax.config import ExperimentConfig, LabeledDataConfig, MeshConfig
from tx_jax.config.heads import labeled, supervised
from tx_jax.config.training import OptimizerConfig, TrainingConfig
from tx_jax.data.labeled import readers
from tx_jax.data.labeled.label_names import default_names, listed, match, rename
from tx_jax.data.labeled.labels import label_key, label_list, label_text
from tx_jax.errors import InputError, InputWarning
from tx_jax.runs.trained import Trained
from tx_jax.tasks.registry import TASKS, open_task
from tx_jax.tasks.supervised import Supervised

DATA = "given"  # the only split of a task on a file
LONGEST = 512  # tokens of a row, unless the user says otherwise
# What a head reads, unless the user says otherwise.
_DEFAULTS: dict[str, dict[str, Any]] = {
    "sequence_classification": {"text": ("text",), "label": "label"},
    "token_classification": {"text": ("0",), "label": "1"},
    "question_answering": {"text": ("question", "context"), "label": "answers"},
    "multiple_choice": {"text": ("text",), "label": "label"},
}
# Nothing trains with these.
_NO_OPTIMIZER = OptimizerConfig(
    learning_rate=1.0,
    warmup_steps=0,
    schedule="constant",
    beta1=0.0,
    beta2=0.0,
    eps=1.0,
    weight_decay=0.0,
    no_decay=(),
    clip_norm=0.0,
)
_NO_TRAINING = TrainingConfig(
    num_steps=1,
    batch_size=1,
    accumulation_steps=1,
    log_every=1,
    eval_every=0,
    eval_batch_size=64,
    eval_batches=0,
    checkpoint_every=0,
    keep_last=1,
    keep_best=0,
    best_metric="",
)


def to_predict(model: Trained, options: Mapping[str, Any], label_map: Sequence[str] = ()) -> Supervised:
    """The task of a model that is to predict. Issues an InputWarning if its head is untrained.

    Args:
      options: keys of `LabeledDataConfig` that the user gave; the others are the run's, or fit the head.
      label_map: new names for the model's labels, OLD=NEW.

    Raises:
      InputError: the model does not tell labels, numbers or answers; options or names that do not fit it.
    """
    return open_task(_configuration(model, "texts to predict", options, label_map), tokenizer=model.require_tokenizer())


def to_evaluate(
    model: Trained, source: str, options: Mapping[str, Any], label_map: Sequence[str] = ()
) -> tuple[Supervised, str]:
    """The task of a model on a file with labels, its split `DATA`, and what of the labels was taken for what.

    Warns with InputWarning of what was cut or empty, and where the head is untrained.

    Args:
      source: as `LabeledDataConfig` has them.
      options, label_map: as of `to_predict`.

    Raises:
      InputError: as of `to_predict` and `readers.read`; labels that the model does not have.
    """
    config = _configuration(model, source, options, label_map)
    records = readers.read(source, config.data)
    taken = ""
    if config.data.labels and not config.data.choices:
        lists = (_labels_of(record[config.data.label], config) for record in records)
        spelling = {label_key(label): label_text(label) for label in itertools.chain.from_iterable(lists)}
        if (matched := match(config.data.labels, spelling.values(), some=True)) is None:
            known = set(map(label_key, config.data.labels))
            unknown = [label for key, label in spelling.items() if key not in known]
            raise InputError(
                f"{source} has labels that {model.name} does not know: {listed(unknown)}; it knows "
                f"{listed(config.data.labels)}. If only their names differ, give --label_map=OLD=NEW,OLD=NEW"
            )
        taken = matched.taken
        config = dataclasses.replace(config, data=_called(config.data, matched.labels))
    task = open_task(config, tokenizer=model.require_tokenizer(), records={DATA: records})
    for what, count in task.split(DATA).table.counts.items():
        warnings.warn(f"{what}: {count:,} of {len(records):,}", InputWarning, stacklevel=2)
    return task, taken


def _configuration(
    model: Trained, source: str, options: Mapping[str, Any], label_map: Sequence[str]
) -> ExperimentConfig:
    """That of the run, or one around the model."""
    config = model.config
    if config is not None and isinstance(config.data, LabeledDataConfig):
        data = _called(config.data, rename(config.data.labels, label_map, option="--label_map"))
        return dataclasses.replace(config, data=dataclasses.replace(data, **options))
    heads = set(supervised()).intersection(model.model.heads)
    if len(heads) != 1:
        raise InputError(
            f"{model.name} has no head that was trained on labels; its heads are {', '.join(model.model.heads)}: "
            f"fine-tune it first, with experiments.train --config.start_from={model.name}"
        )
    (head,) = heads
    if head in model.untrained:
        warnings.warn(f"{head} is untrained: what it predicts means nothing", InputWarning, stacklevel=3)
    task = _task(model, head)
    data = _DEFAULTS[head] | {"metrics": (), "sequence_length": min(LONGEST, model.model.max_length)}
    data |= {} if task == "regression" else _with_labels(model, head)
    if labels := data.get("labels"):
        data["labels"] = rename(labels, label_map, option="--label_map")
    elif label_map:
        raise InputError(f"--label_map={','.join(label_map)}: {model.name} has no labels to rename")
    return ExperimentConfig(
        task=task,
        seed=0,
        model=model.model,
        data=LabeledDataConfig(**{"train": source, "validation": source, "read_ahead": 1} | data | dict(options)),
        optimizer=_NO_OPTIMIZER,
        training=_NO_TRAINING,
        mesh=MeshConfig(data=1, fsdp=1, tensor=1),
    )


def _task(model: Trained, head: str) -> str:
    """The task that a head was trained for; as transformers has it, a classifier's only output is a number."""
    if head == "sequence_classification":
        count = model.model.num_labels
        if model.problem_type == "multi_label_classification":
            return "multi_label"
        if model.problem_type == "regression" and count > 1:
            raise InputError(f"{model.name} predicts {count} numbers: only one is supported")
        if count == 1:
            return "regression"
    return next(name for name, kind in TASKS.items() if kind.objective_class.head == head)


def _labels_of(value: Any, config: ExperimentConfig) -> list[Any]:
    """The labels of a record: of a text, of its words, or several of a text."""
    if config.task == "multi_label":
        return label_list(value, config.data.label_separator) or []  # the task refuses what is no list
    return value if isinstance(value, list) else [value]


def _called(data: LabeledDataConfig, labels: tuple[str, ...]) -> LabeledDataConfig:
    """The same labels under other names."""
    name_of = dict(zip(data.labels, labels, strict=True))
    rows = (row.rpartition("=") for row in data.class_weights)
    weights = tuple(f"{name_of.get(label, label)}={weight}" for label, _, weight in rows)
    return dataclasses.replace(data, labels=labels, class_weights=weights)


def _with_labels(model: Trained, head: str) -> dict[str, Any]:
    """The labels of a head that tells any."""
    if not labeled((head,)):
        return {}
    labels = model.labels or default_names(model.model.num_labels)
    return {"labels": labels}

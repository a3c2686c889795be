"""The table of tasks, and functions that open the task of a configuration."""

import dataclasses
from collections.abc import Mapping, Sequence

from tx_jax import added
from tx_jax.config import ExperimentConfig, LabeledDataConfig
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.translation.store import PairStore
from tx_jax.errors import InputError, did_you_mean
from tx_jax.tasks.base import Objective, Task
from tx_jax.tasks.causal_lm import CausalLM
from tx_jax.tasks.classification import Classification
from tx_jax.tasks.distillation import Distillation
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.tasks.multi_label import MultiLabel
from tx_jax.tasks.multiple_choice import MultipleChoice
from tx_jax.tasks.pretraining import Pretraining
from tx_jax.tasks.question_answering import QuestionAnswering
from tx_jax.tasks.regression import Regression
from tx_jax.tasks.supervised import Record, Supervised
from tx_jax.tasks.tagging import Tagging
from tx_jax.tasks.translation import Translation
from tx_jax.text import Tokenizer

# The name in a configuration -> the task.
TASKS: dict[str, type[Pretraining] | type[Supervised] | type[Translation]] = {
    "masked_lm": MaskedLM,
    "causal_lm": CausalLM,
    "distillation": Distillation,
    "classification": Classification,
    "multi_label": MultiLabel,
    "regression": Regression,
    "tagging": Tagging,
    "question_answering": QuestionAnswering,
    "multiple_choice": MultipleChoice,
    "translation": Translation,
}


def task_class(config: ExperimentConfig) -> type[Pretraining] | type[Supervised] | type[Translation]:
    """Raises InputError for a name that is not in the table."""
    if config.task not in TASKS:
        near = added.hint(did_you_mean(config.task, TASKS), config.extensions)
        raise InputError(f"task={config.task!r} is not one of {', '.join(TASKS)}.{near}")
    return TASKS[config.task]


def open_task(
    config: ExperimentConfig,
    store: str | None = None,
    tokenizer: Tokenizer | None = None,
    label_order: Sequence[str] = (),
    records: Mapping[str, Sequence[Record]] | None = None,
) -> Task:
    """The task that the configuration names, with its data.

    Args:
      store: for pretraining and translation, stores to use instead of `config.data.store`.
      tokenizer: for labeled examples: the tokenizer of the run, or of the model that it starts from.
      label_order: for fine-tuning, the labels of the model that the run starts from. Data with the same labels takes
        their order, unless `data.labels` gives one.
      records: for fine-tuned models, all data by split; nothing else is read.

    Raises:
      InputError: the data cannot be read, or does not fit the model or the tokenizer.
    """
    kind = task_class(config)
    kind.objective_class(config)  # raises before any data is read
    if issubclass(kind, Supervised):
        if tokenizer is None:
            raise InputError(
                "fine-tuning needs a model with its tokenizer to start from: --config.start_from=FOLDER, a run "
                "directory, a converted model or a Hugging Face model"
            )
        return kind(config, tokenizer, label_order, records)
    opened = PairStore if issubclass(kind, Translation) else Stores
    task = kind(config, opened.open(store or config.data.store))
    of_pairs = tokenizer is not None and isinstance(task, Translation)
    if of_pairs and tokenizer.pair_form.name != task.tokenizer.pair_form.name:
        raise InputError(
            f"the store {store or config.data.store} was made for models whose pairs have another form "
            f"({task.tokenizer.pair_form.name!r}, not {tokenizer.pair_form.name!r}): prepare it again with the model's "
            "folder, --tokenizer=FOLDER"
        )
    if tokenizer is not None and tokenizer.fingerprint != task.tokenizer.fingerprint:
        raise InputError(
            f"the token store {store or config.data.store} has a different tokenizer from the model: prepare the text "
            "again with the model's tokenizer, --tokenizer=FOLDER"
        )
    return task


def objective_of(config: ExperimentConfig) -> Objective:
    """The objective alone, without data: the model, the loss, the shapes, the figures.

    For fine-tuning the number of labels is that of `data.labels`, or else `model.num_labels`.

    Raises:
      InputError: the length is given in epochs, and only the data tells how many steps they take.
    """
    kind = task_class(config)
    if isinstance(config.data, LabeledDataConfig) and issubclass(kind, Supervised):
        if config.training.num_epochs:
            raise InputError(
                f"only the data tells how many steps training.num_epochs={config.training.num_epochs} takes. Without "
                "data: --config.training.num_epochs=0 --config.training.num_steps=N"
            )
        model = dataclasses.replace(config.model, num_labels=kind.objective_class.num_outputs(config))
        config = dataclasses.replace(config, model=model)
    return kind.objective_class(config)

"""From a configuration to its task."""

import dataclasses
from collections.abc import Mapping, Sequence

from tx_jax.config import ExperimentConfig, LabeledDataConfig
from tx_jax.data.corpus.stores import Stores
from tx_jax.errors import InputError
from tx_jax.tasks.base import Task
from tx_jax.tasks.causal_lm import CausalLM
from tx_jax.tasks.classification import Classification
from tx_jax.tasks.distillation import Distillation
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.tasks.multiple_choice import MultipleChoice
from tx_jax.tasks.pretraining import Pretraining
from tx_jax.tasks.question_answering import QuestionAnswering
from tx_jax.tasks.regression import Regression
from tx_jax.tasks.supervised import Record, Supervised
from tx_jax.tasks.tagging import Tagging
from tx_jax.text import Tokenizer

# By the head that they train; a number in the place of labels is for `Regression`.
SUPERVISED: dict[str, type[Supervised]] = {
    task.head: task for task in (Classification, MultipleChoice, QuestionAnswering, Tagging)
}


def open_task(
    config: ExperimentConfig,
    store: str | None = None,
    tokenizer: Tokenizer | None = None,
    label_order: Sequence[str] = (),
    records: Mapping[str, Sequence[Record]] | None = None,
) -> Task:
    """The task that the model's heads call for.

    Args:
      store: for pretraining, other token stores than `config.data.store`.
      tokenizer: of the model that the run starts from, or of the run itself: what reads examples with labels.
      label_order: of fine-tuning, the labels of the model that the run starts from: data that has the same, and that
        `data.labels` gives no order, takes this one.
      records: of fine-tuned models, all data that there is, by split; nothing else is read.

    Raises:
      InputError: the data cannot be read, or does not fit the model or the tokenizer.
    """
    if isinstance(config.data, LabeledDataConfig):
        if tokenizer is None:
            raise InputError(
                "fine-tuning needs a model with its tokenizer to start from: --config.start_from=FOLDER, a run "
                "directory, a converted model or a Hugging Face model"
            )
        return _supervised(config)(config, tokenizer, label_order, records)
    task = _pretraining(config)(config, Stores.open(store or config.data.store))
    if tokenizer is not None and tokenizer.fingerprint != task.tokenizer.fingerprint:
        raise InputError(
            f"the token store {store or config.data.store} has another tokenizer than the model: prepare the text "
            "again, with the model's, --tokenizer=FOLDER"
        )
    return task


def task_without_data(config: ExperimentConfig) -> Pretraining | Supervised:
    """The same task, of which only what needs no data can be used: the model, the loss, the shapes, the figures.

    Of fine-tuning there are as many labels as `data.labels` names, or else `model.num_labels`.

    Raises:
      InputError: the configuration counts in epochs, and only the data tells how many steps they are.
    """
    data, model = config.data, config.model
    if not isinstance(data, LabeledDataConfig):
        return _pretraining(config)(config, None)
    if config.training.num_epochs:
        raise InputError(
            f"only the data tells how many steps training.num_epochs={config.training.num_epochs} are. Without it: "
            "--config.training.num_epochs=0 --config.training.num_steps=N"
        )
    labels = 1 if data.regression else len(data.labels) or model.num_labels
    return _supervised(config)(dataclasses.replace(config, model=dataclasses.replace(model, num_labels=labels)), None)


def _supervised(config: ExperimentConfig) -> type[Supervised]:
    if config.data.regression:
        return Regression
    return next(task for head, task in SUPERVISED.items() if head in config.model.heads)


def _pretraining(config: ExperimentConfig) -> type[Pretraining]:
    if "causal_lm" in config.model.heads:
        return CausalLM
    return Distillation if config.distillation.layers else MaskedLM

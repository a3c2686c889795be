"""From a configuration to its task."""

from tx_jax.config import ExperimentConfig, LabeledDataConfig
from tx_jax.data.stores import Stores
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
from tx_jax.tasks.supervised import Supervised
from tx_jax.tasks.tagging import Tagging
from tx_jax.text import Tokenizer

# By the head that they train; a number in the place of labels is for `Regression`.
SUPERVISED: dict[str, type[Supervised]] = {
    task.head: task for task in (Classification, MultipleChoice, QuestionAnswering, Tagging)
}


def open_task(config: ExperimentConfig, store: str | None = None, tokenizer: Tokenizer | None = None) -> Task:
    """The task that the model's heads call for.

    Args:
      store: for pretraining, other token stores than `config.data.store`.
      tokenizer: of the model that the run starts from, or of the run itself: what reads examples with labels.

    Raises:
      InputError: the data cannot be read, or does not fit the model or the tokenizer.
    """
    if isinstance(config.data, LabeledDataConfig):
        if tokenizer is None:
            raise InputError(
                "fine-tuning needs a model with its tokenizer to start from: --config.start_from=FOLDER, a run "
                "directory, a converted model or a Hugging Face model"
            )
        kind = next(task for head, task in SUPERVISED.items() if head in config.model.heads)
        return (Regression if config.data.regression else kind)(config, tokenizer)
    task = _pretraining(config)(config, Stores.open(store or config.data.store))
    if tokenizer is not None and tokenizer.fingerprint != task.tokenizer.fingerprint:
        raise InputError(
            f"the token store {store or config.data.store} has another tokenizer than the model: prepare the text "
            "again, with the model's, --tokenizer=FOLDER"
        )
    return task


def task_without_data(config: ExperimentConfig) -> Pretraining:
    """The same task, of which only what needs no data can be used: the model, the loss, the shapes, the figures.

    Raises:
      InputError: it is fine-tuning, where the data tells how many labels there are.
    """
    if isinstance(config.data, LabeledDataConfig):
        raise InputError(f"only pretraining can be planned, not the fine-tuning of model.heads={config.model.heads}")
    return _pretraining(config)(config, None)


def _pretraining(config: ExperimentConfig) -> type[Pretraining]:
    if "causal_lm" in config.model.heads:
        return CausalLM
    return Distillation if config.distillation.layers else MaskedLM

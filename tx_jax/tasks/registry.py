"""From a configuration to its task."""

from tx_jax.config import ExperimentConfig
from tx_jax.data.stores import Stores
from tx_jax.tasks.causal_lm import CausalLM
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.tasks.pretraining import Pretraining


def open_task(config: ExperimentConfig, store: str | None = None) -> Pretraining:
    """The task that the model's heads call for, on the stores of `config.data.store`, or on others.

    Raises:
      InputError: no such store, or one with a vocabulary that the model has no room for.
    """
    kind = CausalLM if "causal_lm" in config.model.heads else MaskedLM
    return kind(config, Stores.open(store or config.data.store))

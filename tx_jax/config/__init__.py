"""The configuration of an experiment: frozen dataclasses, validated once, with the values in the message.

`configs/*.py` build an `ml_collections.ConfigDict` with exactly these keys; `from_config_dict` turns it into an
`ExperimentConfig`.
"""

from tx_jax.config.data import DataConfig
from tx_jax.config.experiment import (
    DATA_PATHS,
    ExperimentConfig,
    differences,
    from_config_dict,
    model_from_dict,
    to_dict,
)
from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.config.lora import LoraConfig
from tx_jax.config.model import TransformerConfig
from tx_jax.config.phases import Phase, PhasesConfig
from tx_jax.config.training import MeshConfig, OptimizerConfig, TrainingConfig
from tx_jax.config.translation import TranslationDataConfig

__all__ = [
    "DATA_PATHS",
    "DataConfig",
    "ExperimentConfig",
    "LabeledDataConfig",
    "LoraConfig",
    "MeshConfig",
    "OptimizerConfig",
    "Phase",
    "PhasesConfig",
    "TrainingConfig",
    "TransformerConfig",
    "TranslationDataConfig",
    "differences",
    "from_config_dict",
    "model_from_dict",
    "to_dict",
]

"""The configuration of a whole experiment, and its conversion from and to nested plain values."""

import dataclasses
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from tx_jax import added
from tx_jax.config.checks import require
from tx_jax.config.data import DataConfig
from tx_jax.config.distillation import NO_DISTILLATION, DistillationConfig
from tx_jax.config.heads import HEADS
from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.config.lora import NO_LORA, LoraConfig
from tx_jax.config.model import TransformerConfig
from tx_jax.config.old_runs import with_task
from tx_jax.config.phases import ONE_PHASE, Phase, PhasesConfig, resolve
from tx_jax.config.training import SCHEDULING, MeshConfig, OptimizerConfig, TrainingConfig
from tx_jax.config.translation import TranslationDataConfig
from tx_jax.errors import InputError, did_you_mean

# The keys of `data` that say where its stores and files lie: each a path or several, comma-separated, or in
# `more_splits` one behind each NAME=. Another place with the same data changes no outcome.
DATA_PATHS = ("store", "train", "validation", "test", "more_splits")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One whole experiment, as stored in a run directory's `config.json`.

    Attributes:
      task: what the model learns, a name in the table in `tasks/registry.py`; it decides whether the data is a token
        store, labeled examples or a store of pairs.
      start_from: a run directory, a converted model or a Hugging Face model that gives the model its shape and initial
        parameters; empty: all parameters are newly initialized.
      start_fresh: take only the shape and the tokenizer from there.
      extensions: the Python modules that add what this configuration names and the library lacks, see
        `tx_jax.extend`; a training fills them in.
    """

    task: str
    seed: int
    model: TransformerConfig
    data: DataConfig | LabeledDataConfig | TranslationDataConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    mesh: MeshConfig
    phases: PhasesConfig = ONE_PHASE
    start_from: str = ""
    start_fresh: bool = False
    extensions: tuple[str, ...] = ()
    distillation: DistillationConfig = NO_DISTILLATION
    lora: LoraConfig = NO_LORA

    def __post_init__(self):
        model, data = self.model, self.data
        require(
            data.sequence_length <= model.max_length,
            f"data.sequence_length={data.sequence_length} exceeds model.max_length={model.max_length}",
        )
        require(
            max(self.phases.sequence_length, default=0) <= model.max_length,
            f"phases.sequence_length={self.phases.sequence_length} exceeds model.max_length={model.max_length}",
        )
        require(
            not self.distillation.layers or (bool(self.start_from) and not self.start_fresh),
            f"distillation.layers={self.distillation.layers} needs a teacher, but start_from={self.start_from!r} with "
            f"start_fresh={self.start_fresh} gives none",
        )
        resolve(self.phases, data, self.training)  # raises if a phase is not possible
        require(
            not self.lora.rank or bool(self.start_from),
            f"lora.rank={self.lora.rank} adapts a trained model: give --config.start_from=FOLDER",
        )

    @property
    def carried(self) -> tuple[str, ...]:
        """Regular expressions over parameter paths, of what no loss trains: the pooler of the model that a pretraining
        starts from, kept as it is for later fine-tunings."""
        heads = self.model.heads
        others = [HEADS[head].reads for head in heads if head != "pooled"]
        return ("^pooler/",) if self.start_from and "pooled" in heads and "pooled" not in others else ()

    @functools.cached_property
    def program(self) -> "ExperimentConfig":
        """This configuration, with a fixed value for all that decides when and for how long something runs, but not
        what is computed: where two configurations have the same, one compiled step serves both."""
        return dataclasses.replace(self, seed=0, training=dataclasses.replace(self.training, **SCHEDULING))

    @property
    def labeled(self) -> LabeledDataConfig:
        """`data` for a task that learns from labels. Raises TypeError for one that learns from token stores."""
        if not isinstance(self.data, LabeledDataConfig):
            raise TypeError(f"task={self.task!r} has no examples with labels")
        return self.data

    @property
    def trains_all(self) -> bool:
        """Whether every parameter of the model trains."""
        return not (self.optimizer.frozen or self.lora.rank)

    @functools.cached_property
    def training_phases(self) -> tuple[Phase, ...]:
        """The phases that training goes through: those of `phases`, or a single one."""
        return resolve(self.phases, self.data, self.training)

    def key_of_phases(self, name: str) -> str:
        """The key that has a phase's value of "batch_size" or "accumulation_steps"."""
        return f"phases.{name}" if self.phases.steps and getattr(self.phases, name) else f"training.{name}"


def from_config_dict(values: Mapping[str, Any], *, trains: bool = True) -> ExperimentConfig:
    """The validated configuration. `values` is a ConfigDict or the parsed JSON of a run's `config.json`.

    Args:
      trains: whether it needs all of its `extensions`. False for that of a run that is only used: what is missing is
        missed where it is looked for.

    Raises:
      InputError: an unknown key (with the nearest known one), a missing key, a wrong type or a value out of range; one
        of its `extensions` cannot be imported.
    """
    values = with_task(values)
    load_extensions(values, needed=trains)
    return _build(ExperimentConfig, values, where="config")


def load_extensions(values: Mapping[str, Any], *, needed: bool = True) -> None:
    """Imports the modules that a configuration names. Raises InputError for one that is needed and cannot be."""
    kind = typing.get_type_hints(ExperimentConfig)["extensions"]
    names = _convert(kind, values["extensions"], "config.extensions") if "extensions" in values else ()
    added.load(names, needed=needed)


def model_from_dict(values: Mapping[str, Any]) -> TransformerConfig:
    """The configuration of a model alone, from `dataclasses.asdict`'s form. Raises as `from_config_dict` does."""
    return _build(TransformerConfig, values, where="model")


def group_from_dict(name: str, values: Any) -> Any:
    """One group of an experiment's configuration by itself, such as `optimizer`. Raises as `from_config_dict` does."""
    return _convert(typing.get_type_hints(ExperimentConfig)[name], values, f"config.{name}")


def to_dict(config: ExperimentConfig) -> dict[str, Any]:
    """Nested plain values, as stored in `config.json`; `from_config_dict` reads them back."""
    return dataclasses.asdict(config)


def differences(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """One line `key: old -> new` for every leaf in which two nested configurations differ."""
    lines = []
    for key in sorted(set(old) | set(new)):
        a, b = old.get(key), new.get(key)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{prefix}{key}.")
        elif (list(a) if isinstance(a, tuple) else a) != (list(b) if isinstance(b, tuple) else b):
            lines.append(f"{prefix}{key}: {a!r} -> {b!r}")
    return lines


def _build(cls: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping) and not hasattr(values, "keys"):
        raise InputError(f"{where} must be a group of keys, not {values!r}")
    kinds = typing.get_type_hints(cls)
    for key in values.keys():  # noqa: SIM118 - a ConfigDict iterates over its keys only this way
        if key not in kinds:
            raise InputError(f"unknown key {where}.{key}.{did_you_mean(key, kinds)}")
    needed = [field.name for field in dataclasses.fields(cls) if field.default is dataclasses.MISSING]
    if missing := [name for name in needed if name not in values]:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    given = {name: kind for name, kind in kinds.items() if name in values}
    return cls(**{name: _convert(kind, values[name], f"{where}.{name}") for name, kind in given.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
    if isinstance(kind, types.UnionType):  # the kinds of data
        names = set(value.keys()) if hasattr(value, "keys") else set()
        translation = TranslationDataConfig if "buckets" in names else DataConfig
        return _build(LabeledDataConfig if "train" in names else translation, value, where)
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where)
    if get_origin(kind) is tuple:
        element = get_args(kind)[0]
        if isinstance(value, str) or not hasattr(value, "__iter__"):
            raise InputError(f"{where}={value!r} must be a tuple")
        return tuple(_convert(element, item, where) for item in value)
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            known = get_args(kind)
            raise InputError(f"{where}={value!r} is not one of {', '.join(known)}.{did_you_mean(str(value), known)}")
        return value
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise InputError(f"{where}={value!r} must be of type {kind.__name__}, not {type(value).__name__}")
    return value

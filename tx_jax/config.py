"""The configuration of an experiment: frozen dataclasses, validated once, with the values in the message.

`configs/*.py` build an `ml_collections.ConfigDict` with exactly these keys; `from_config_dict` turns it into an
`ExperimentConfig`. Differences between papers are fields here, not code paths of their own.
"""

import dataclasses
import math
import re
import typing
from collections.abc import Mapping
from typing import Any, Literal, get_args, get_origin

from tx_jax.errors import InputError, did_you_mean

HeadName = Literal["masked_lm", "next_sentence"]


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """Sizes and choices of one Transformer. `dtype` is that of the computation; parameters are float32."""

    architecture: Literal["encoder"]
    vocab_size: int
    dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    max_length: int
    num_segments: int
    activation: Literal["gelu", "gelu_tanh", "relu"]
    norm_position: Literal["post", "pre"]
    layer_norm_eps: float
    dropout: float
    attention_dropout: float
    init_stddev: float
    heads: tuple[HeadName, ...]
    dtype: Literal["float32", "bfloat16"]
    remat: Literal["none", "block"]

    def __post_init__(self):
        for name in ("vocab_size", "dim", "num_layers", "num_heads", "mlp_dim", "max_length", "num_segments"):
            value = getattr(self, name)
            _require(value >= 1, f"model.{name}={value} must be at least 1")
        _require(
            self.dim % self.num_heads == 0,
            f"model.dim={self.dim} is not divisible by model.num_heads={self.num_heads}",
        )
        for name in ("dropout", "attention_dropout"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"model.{name}={value} must be in [0, 1)")
        for name in ("layer_norm_eps", "init_stddev"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"model.{name}={value} must be positive")
        _require(len(set(self.heads)) == len(self.heads), f"model.heads={self.heads} names a head twice")

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """From the token store to the batch: spans, corruption. Lengths in tokens, specials included."""

    store: str
    sequence_length: int
    packing: Literal["pairs", "doc_sentences"]
    short_sequence_probability: float
    mask_rate: float
    max_predictions: int
    replace_with_mask: float
    replace_with_random: float
    masking: Literal["dynamic", "static"]
    dupe_factor: int
    read_ahead: int

    def __post_init__(self):
        _require(self.sequence_length >= 8, f"data.sequence_length={self.sequence_length} must be at least 8")
        _require(
            1 <= self.max_predictions <= self.sequence_length,
            f"data.max_predictions={self.max_predictions} must be between 1 and "
            f"data.sequence_length={self.sequence_length}",
        )
        wanted = round(self.mask_rate * self.sequence_length)
        _require(
            self.max_predictions >= wanted,
            f"data.max_predictions={self.max_predictions} cuts the masking short: data.mask_rate={self.mask_rate} of "
            f"data.sequence_length={self.sequence_length} are {wanted} predictions",
        )
        for name in ("short_sequence_probability", "mask_rate", "replace_with_mask", "replace_with_random"):
            value = getattr(self, name)
            _require(0 <= value <= 1, f"data.{name}={value} must be in [0, 1]")
        _require(self.mask_rate > 0, "data.mask_rate=0 leaves nothing to predict")
        _require(
            self.replace_with_mask + self.replace_with_random <= 1,
            f"data.replace_with_mask={self.replace_with_mask} + "
            f"data.replace_with_random={self.replace_with_random} exceeds 1",
        )
        _require(self.dupe_factor >= 1, f"data.dupe_factor={self.dupe_factor} must be at least 1")
        _require(self.read_ahead >= 1, f"data.read_ahead={self.read_ahead} must be at least 1 batch")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warmup and decay. `no_decay` are regular expressions over parameter paths."""

    learning_rate: float
    warmup_steps: int
    schedule: Literal["linear", "constant"]
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    no_decay: tuple[str, ...]
    clip_norm: float

    def __post_init__(self):
        for name in ("learning_rate", "eps"):
            value = getattr(self, name)
            _require(0 < value < math.inf, f"optimizer.{name}={value} must be positive")
        for name in ("beta1", "beta2"):
            value = getattr(self, name)
            _require(0 <= value < 1, f"optimizer.{name}={value} must be in [0, 1)")
        decay = self.weight_decay
        _require(0 <= decay < math.inf, f"optimizer.weight_decay={decay} must not be negative or infinite")
        for pattern in self.no_decay:
            try:
                re.compile(pattern)
            except re.error as error:
                raise InputError(f"optimizer.no_decay: {pattern!r} is no regular expression: {error}") from None
        _require(self.warmup_steps >= 0, f"optimizer.warmup_steps={self.warmup_steps} must not be negative")
        _require(
            self.clip_norm >= 0, f"optimizer.clip_norm={self.clip_norm} must not be negative; 0 turns clipping off"
        )


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The loop. `batch_size` is the global batch of one optimizer step, in sequences; intervals are in steps."""

    num_steps: int
    batch_size: int
    accumulation_steps: int
    log_every: int
    eval_every: int
    eval_batch_size: int
    eval_batches: int
    checkpoint_every: int
    keep_last: int
    keep_best: int
    best_metric: str

    def __post_init__(self):
        for name in ("num_steps", "batch_size", "accumulation_steps", "log_every", "eval_batch_size", "keep_last"):
            value = getattr(self, name)
            _require(value >= 1, f"training.{name}={value} must be at least 1")
        for name in ("eval_every", "eval_batches", "checkpoint_every", "keep_best"):
            value = getattr(self, name)
            _require(value >= 0, f"training.{name}={value} must not be negative")
        _require(
            not self.keep_best or bool(self.best_metric),
            f"training.keep_best={self.keep_best} needs training.best_metric, such as 'masked_lm_loss'",
        )
        _require(
            self.batch_size % self.accumulation_steps == 0,
            f"training.batch_size={self.batch_size} is not divisible by "
            f"training.accumulation_steps={self.accumulation_steps}",
        )


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; one of them may be -1: all the devices that are left."""

    data: int
    fsdp: int
    tensor: int

    def __post_init__(self):
        sizes = dataclasses.asdict(self)
        _require(
            all(size == -1 or size >= 1 for size in sizes.values()),
            f"mesh axes must be -1 or at least 1, not {sizes}",
        )
        _require(list(sizes.values()).count(-1) <= 1, f"at most one mesh axis may be -1, not {sizes}")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """One experiment, whole: what `config.json` of a run directory holds."""

    seed: int
    model: TransformerConfig
    data: DataConfig
    optimizer: OptimizerConfig
    training: TrainingConfig
    mesh: MeshConfig

    def __post_init__(self):
        model, data = self.model, self.data
        _require(
            data.sequence_length <= model.max_length,
            f"data.sequence_length={data.sequence_length} exceeds model.max_length={model.max_length}",
        )
        _require("masked_lm" in model.heads, f"model.heads={model.heads} lacks 'masked_lm', which pretraining needs")
        if data.packing == "pairs":
            _require(
                "next_sentence" in model.heads and model.num_segments >= 2,
                f"data.packing='pairs' trains next-sentence prediction: it needs 'next_sentence' in "
                f"model.heads={model.heads} and model.num_segments={model.num_segments} >= 2",
            )
        else:
            _require(
                "next_sentence" not in model.heads,
                f"data.packing={data.packing!r} makes no sentence pairs: drop 'next_sentence' from "
                f"model.heads, --config.model.heads=\"('masked_lm',)\"",
            )


def from_config_dict(values: Mapping[str, Any]) -> ExperimentConfig:
    """The validated configuration. `values` is a ConfigDict or the parsed JSON of a run's `config.json`.

    Raises:
      InputError: an unknown key (with the nearest known one), a missing key, a wrong type or a value out of range.
    """
    return _build(ExperimentConfig, values, where="config")


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
    types = typing.get_type_hints(cls)
    for key in values.keys():  # noqa: SIM118 - a ConfigDict iterates over its keys only this way
        if key not in types:
            raise InputError(f"unknown key {where}.{key}.{did_you_mean(key, types)}")
    missing = [name for name in types if name not in values]
    if missing:
        raise InputError(f"{where} lacks {', '.join(missing)}")
    return cls(**{name: _convert(kind, values[name], f"{where}.{name}") for name, kind in types.items()})


def _convert(kind: Any, value: Any, where: str) -> Any:
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

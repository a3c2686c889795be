"""What an objective is, what a task is, and how metrics are summed.

An objective is a loss on a model, from the configuration alone: it says what a batch holds, but has none. A task is an
objective with its data. The keys of a `Batch` are those of the table in `tx_jax/batch.py`.
"""

import abc
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.batch import Batch, shapes
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.models import forward
from tx_jax.models.output import Output
from tx_jax.text.tokenizer import Tokenizer


@flax.struct.dataclass
class WeightedSum:
    """A mean that is not divided yet. Sums over devices, hosts, accumulation steps and batches stay exact."""

    total: jax.Array
    weight: jax.Array

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> float:
        """NaN where nothing was counted."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else float("nan")


Metrics = dict[str, WeightedSum]


class Objective(abc.ABC):
    """A loss on a model, and what else is computed of a batch on the devices.

    Attributes:
      head: the head of the model that it trains; the configuration must have it.
      config: that of the run.
    """

    head: ClassVar[str]

    def __init__(self, config: ExperimentConfig):
        """Raises InputError where the model, the data and the objective do not fit each other."""
        self.config = config
        self.check()

    @abc.abstractmethod
    def check(self) -> None:
        """Raises InputError where the configuration does not fit."""

    @abc.abstractmethod
    def keys(self, phase: Phase) -> tuple[str, ...]:
        """The keys of a batch of a phase."""

    def batch_shapes(self, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
        """The global batch of a phase, without its contents: no data is read."""
        rows, length, predictions = phase.shape
        sizes = {"examples": rows, "length": length, "predictions": predictions}
        sizes |= {
            "labels": self.config.model.num_labels,
            "choices": len(getattr(phase.data, "choices", ())),
        }
        found = shapes(self.keys(phase), **sizes)
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in found.items()}

    def init(self, rng: jax.Array) -> dict[str, Any]:
        """Fresh parameters."""
        return forward.init_params(self.config.model, self.config.lora, rng)

    def apply(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None, **inputs: jax.Array) -> Output:
        """The model on a batch; without `dropout_rng` there is no dropout.

        Args:
          inputs: more of the model's arguments.
        """
        return forward.forward(
            self.config.model,
            self.config.lora,
            params,
            batch["tokens"],
            **model_inputs(batch),
            dropout_rng=dropout_rng,
            **inputs,
        )

    @abc.abstractmethod
    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """For each term of the loss, the weight of the whole batch, which divides the term's sum."""

    @abc.abstractmethod
    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        """Sums and weights over the batch: the loss terms, by the names of `loss_weights`, and what else is reported.

        Without a `dropout_rng` there is no dropout.
        """

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """What scores and predictions are made from: arrays [B, ...], one row for each of the batch; {} where there are
        none."""
        return {}

    @abc.abstractmethod
    def flops_per_token(self, phase: Phase | None = None) -> float:
        """Forward and backward, by the formula of `models.registry.flops_per_token`. `phase`: None: as evaluation."""


def model_inputs(batch: Batch) -> dict[str, jax.Array | None]:
    """What of a batch models take beside the tokens, by the names of their arguments."""
    return {f"{key}_BT": batch.get(key) for key in ("segments", "valid", "documents", "positions")}


class Batches(Protocol):
    """Batches by number; `len` is one pass over the data."""

    def __len__(self) -> int: ...

    def batch_at(self, step: int) -> dict[str, np.ndarray]: ...


class Task(Protocol):
    """An objective with its data: what the training loop needs to know of it.

    Attributes:
      config: that of the run, with what only the data tells filled in.
      objective: of this configuration.
      tokenizer: goes into the run directory, beside the parameters.
      data_fingerprint: identifies the data; a run continues only on the same.
      score_names: metrics that are no means over examples, computed by `scores`.
    """

    config: ExperimentConfig
    objective: Objective
    tokenizer: Tokenizer
    data_fingerprint: str
    score_names: tuple[str, ...]

    def batches(
        self,
        split: str,
        *,
        batch_size: int,
        repeat: bool,
        phase: Phase | None = None,
        process: int = 0,
        num_processes: int = 1,
    ) -> Batches:
        """This process's part of the batches of a split; by default the only process's: all of it.

        With a phase, they have its lengths and begin at its first step; otherwise the configuration's, and at 0.
        """

    def scores(self, outputs: dict[str, np.ndarray], split: str) -> dict[str, float]:
        """The metrics `score_names`, from the rows of the objective's `outputs` and, as "example", which of the split
        they are."""

    def notices(self) -> list[str]:
        """What the data's owner should know before training; a line each."""

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        """For metrics that have one, the value that a trivial predictor reaches on these batches of a split, and its
        name."""


def total_loss(metrics: Metrics, weights: Mapping[str, jax.Array]) -> jax.Array:
    """The sum of the loss terms, each divided by the weight of the whole batch (not of the part the metrics cover).

    A term of weight 0 is 0: a batch may have nothing to predict, as one without any of the words that are masked.
    """
    return sum(metrics[name].total / jnp.where(weight > 0, weight, 1) for name, weight in weights.items())

"""The interfaces of objectives and tasks, and how metrics are summed.

An objective is a loss on a model. It depends only on the configuration: it says what a batch contains, but has no
data. A task is an objective with its data. The keys of a `Batch` are in the table in `tx_jax/batch.py`.
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
    """A weighted sum and its weight, not yet divided. Sums over devices, hosts, microbatches and batches stay exact."""

    total: jax.Array
    weight: jax.Array

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> float:
        """The mean; NaN if the weight is 0."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else float("nan")


Metrics = dict[str, WeightedSum]


class Objective(abc.ABC):
    """A loss on a model, and all other values computed from a batch on the devices.

    Attributes:
      head: the head that the objective trains; the configured model must have it.
      config: the run's configuration.
    """

    head: ClassVar[str]

    def __init__(self, config: ExperimentConfig):
        """Raises InputError if the model, the data and the objective do not fit each other."""
        self.config = config
        self.check()

    def __eq__(self, other: object) -> bool:
        """Whether both compute the same: then they share what is compiled."""
        return type(self) is type(other) and self.config.program == other.config.program

    def __hash__(self) -> int:
        return hash((type(self), self.config.program))

    @abc.abstractmethod
    def check(self) -> None:
        """Raises InputError if the configuration does not fit the objective."""

    @abc.abstractmethod
    def keys(self, phase: Phase) -> tuple[str, ...]:
        """The keys of a phase's batches."""

    def batch_shapes(self, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and dtypes of a phase's global batch; no data is read."""
        rows, length, predictions = phase.shape
        sizes = {"examples": rows, "length": length, "predictions": predictions}
        sizes |= {
            "labels": self.config.model.num_labels,
            "choices": len(getattr(phase.data, "choices", ())),
        }
        found = shapes(self.keys(phase), **sizes)
        return {name: jax.ShapeDtypeStruct(shape, dtype) for name, (shape, dtype) in found.items()}

    def init(self, rng: jax.Array) -> dict[str, Any]:
        """Newly initialized parameters."""
        return forward.init_params(self.config.model, self.config.lora, rng)

    def apply(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None, **inputs: jax.Array) -> Output:
        """The model on a batch; without `dropout_rng` there is no dropout.

        Args:
          inputs: further arguments of the model.
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
        """For each loss term, the weight of the whole batch, by which the term's sum is divided."""

    @abc.abstractmethod
    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        """Sums and weights over the batch: the loss terms, by the names in `loss_weights`, and other reported metrics.

        Without a `dropout_rng` there is no dropout.
        """

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """The arrays that scores and predictions are computed from: [B, ...], one row per example; {} if there are
        none."""
        return {}

    @abc.abstractmethod
    def flops_per_token(self, phase: Phase | None = None) -> float:
        """Forward and backward, by the formula in `models.registry.flops_per_token`. No `phase`: as in evaluation."""


def model_inputs(batch: Batch) -> dict[str, jax.Array | None]:
    """A batch's inputs to the model besides the tokens, by the names of the model's arguments."""
    return {f"{key}_BT": batch.get(key) for key in ("segments", "valid", "documents", "positions")}


class Batches(Protocol):
    """Batches by index; `len` is the number of batches in one pass over the data."""

    def __len__(self) -> int: ...

    def batch_at(self, step: int) -> dict[str, np.ndarray]: ...


class Task(Protocol):
    """An objective with its data, as far as the training loop needs to know it.

    Attributes:
      config: the run's configuration, with the values that only the data determines filled in.
      objective: the objective of this configuration.
      tokenizer: is stored in the run directory, next to the parameters.
      data_fingerprint: identifies the data; a run continues only on the same data.
      score_names: metrics that are not means over examples; `scores` computes them.
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
        """This process's part of the batches of a split; by default there is one process, which has all of them.

        With a phase, the batches have its lengths and begin at its first step; otherwise they have the configuration's
        lengths and begin at 0.
        """

    def scores(self, outputs: dict[str, np.ndarray], split: str) -> dict[str, float]:
        """The metrics in `score_names`, from the rows of the objective's `outputs` and, as "example", their indices in
        the split."""

    def notices(self) -> list[str]:
        """Notices about the data for the user before training, one line each."""

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        """The baselines, by metric: the value that a trivial predictor reaches on these batches of a split, and the
        predictor's name."""


def total_loss(metrics: Metrics, weights: Mapping[str, jax.Array]) -> jax.Array:
    """The sum of the loss terms, each divided by the weight of the whole batch (not of the part the metrics cover).

    A term with weight 0 is 0: a batch may have nothing to predict, such as one without any of the words to mask.
    """
    return sum(metrics[name].total / jnp.where(weight > 0, weight, 1) for name, weight in weights.items())

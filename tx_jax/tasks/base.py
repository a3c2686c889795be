"""What a task is, and how metrics are summed.

The keys of a `Batch` (a dict of arrays; B examples, T sequence length, P predictions); which are there depends on the
objective and the packing:

    tokens            int32   [B, T]  model input, corrupted where the objective corrupts
    segments          int32   [B, T]  0 for the first segment, 1 for the second
    valid             bool    [B, T]  True for tokens, False for padding
    documents         int32   [B, T]  packed documents: number within the row, from 1; 0 for padding
    positions         int32   [B, T]  packed documents: position within the document; 0 for padding
    example_weights   float32 [B]     1 for an example, 0 for one that only fills up a batch
    masked_positions  int32   [B, P]  where the masked LM predicts; unused ones point at 0
    masked_targets    int32   [B, P]  the original tokens there
    masked_weights    float32 [B, P]  1 for a prediction, 0 for an unused one
    masked_dropped    float32 [B]     predictions that the rate asks for, and that P has no room for
    next_sentence_labels int32 [B]    0: B follows A; 1: B is from another document
    targets           int32   [B, T]  causal LM: the next token
    target_weights    float32 [B, T]  1 for a prediction, 0 for padding
    target_bytes      float32 [B]     UTF-8 bytes of text that the targets stand for, see `data/pretraining/byte_lengths.py`
    example           int32   [B]     examples with labels: which row of the split's table it is
    labels            int32   [B]     classification: the label's number; regression: float32, the value itself
                      int32   [B, T]  tagging: the number of the token's label, -1 where none is to be learned
    answer_start      int32   [B]     question answering: the answer's first token; 0: not here; -1: not known
    answer_end        int32   [B]     its last token
"""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import ExperimentConfig, Phase
from tx_jax.text.tokenizer import Tokenizer

Batch = Mapping[str, Any]


@flax.struct.dataclass
class WeightedSum:
    """A mean that is not divided yet. Sums over devices, hosts, accumulation steps and batches stay exact."""

    total: jax.Array
    weight: jax.Array

    def __add__(self, other: "WeightedSum") -> "WeightedSum":
        return WeightedSum(self.total + other.total, self.weight + other.weight)

    def mean(self) -> float:
        """The mean; NaN where nothing was counted."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else float("nan")


Metrics = dict[str, WeightedSum]


class Batches(Protocol):
    """Batches by number; `len` is one pass over the data."""

    def __len__(self) -> int: ...

    def batch_at(self, step: int) -> dict[str, np.ndarray]: ...


class Task(Protocol):
    """An objective on a model: what the training loop needs to know of it.

    Attributes:
      config: that of the run, with what only the data tells filled in.
      tokenizer: goes into the run directory, beside the parameters.
      data_fingerprint: identifies the data; a run continues only on the same.
      score_names: metrics that are no means over examples, computed by `scores`.
    """

    config: ExperimentConfig
    tokenizer: Tokenizer
    data_fingerprint: str
    score_names: tuple[str, ...]

    def init(self, rng: jax.Array) -> Any:
        """Fresh parameters."""

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

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """For each term of the loss, the weight of the whole batch, which divides the term's sum."""

    def metrics(self, params: Any, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        """Sums and weights over the batch: the loss terms, by the names of `loss_weights`, and what else is reported.

        Without a `dropout_rng` there is no dropout.
        """

    def outputs(self, params: Any, batch: Batch) -> dict[str, jax.Array]:
        """What `scores` is made from: arrays [B, ...], one row for each of the batch; {} where there are no scores."""

    def scores(self, outputs: dict[str, np.ndarray], split: str) -> dict[str, float]:
        """The metrics `score_names`, from the rows of `outputs` and, as "example", which of the split they are."""

    def notices(self) -> list[str]:
        """What the data's owner should know before training; a line each."""

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        """For metrics that have one, the value that a trivial predictor reaches on these batches of a split, and its
        name."""

    def flops_per_token(self, phase: Phase | None = None) -> float:
        """Forward and backward, by the formula of `models.registry.flops_per_token`. `phase`: as of `batches`."""


def total_loss(metrics: Metrics, weights: Mapping[str, jax.Array]) -> jax.Array:
    """The sum of the loss terms, each divided by the weight of the whole batch (not of the part the metrics cover).

    A term of weight 0 is 0: a batch may have nothing to predict, as one without any of the words that are masked.
    """
    return sum(metrics[name].total / jnp.where(weight > 0, weight, 1) for name, weight in weights.items())

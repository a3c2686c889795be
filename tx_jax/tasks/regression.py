"""Fine-tuning to predict a number for each text or pair of texts, such as the similarity in STS-B.

Shapes: B batch, N examples.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig
from tx_jax.data.labeled.labels import numbers
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError
from tx_jax.tasks import scores
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.classification import Classification, ClassificationObjective, real_targets
from tx_jax.tasks.supervised import Record, Supervised


class RegressionObjective(ClassificationObjective):
    """Trains the head `sequence_classification` with one output. The loss is the mean squared error."""

    options = ()
    target = "values"

    @classmethod
    def num_outputs(cls, config: ExperimentConfig) -> int:
        return 1

    def check(self) -> None:
        super().check()
        if labels := self.data.labels:
            raise InputError(f"task='regression' predicts numbers: it has no data.labels={labels}")

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        errors = self.logits(params, batch, dropout_rng=dropout_rng)[:, 0] - batch[self.target]
        weights = batch["example_weights"]
        return {"loss": WeightedSum((errors**2 * weights).sum(), weights.sum())}


class Regression(Classification):
    """A number for each text or pair of texts."""

    objective_class = RegressionObjective
    usual_metrics = ("pearson", "spearman")
    known_scores = scores.OF_NUMBERS

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        scores.check(config.labeled.metrics, self.known_scores, 1)
        return dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=1))

    def hold_out(self, records: Sequence[Record]) -> np.ndarray:
        return Supervised.hold_out(self, records)

    def notices(self) -> list[str]:
        return Supervised.notices(self)

    def targets(self, records: Sequence[Record]) -> np.ndarray:
        return numbers(self.values(records), decimal=self.data.decimal)

    def scores(self, outputs: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        targets = self.split(split).table.columns["values"][outputs["example"]]
        return self.score(targets, outputs["logits"][:, 0])

    def predictions(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record], table: Table
    ) -> list[dict[str, Any]]:
        return [{"prediction": float(value)} for value in outputs["logits"][:, 0]]

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        known, name = self.reference
        mean = self.split(known).table.columns["values"].mean()
        targets = real_targets(batches, "values")
        values = {"loss": float(np.mean((targets - mean) ** 2)), **self.score(targets, np.full_like(targets, mean))}
        return {metric: (value, f"always {mean:.3g}, the mean of {name}") for metric, value in values.items()}

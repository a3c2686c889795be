"""Fine-tuning to classify texts or pairs of texts (Devlin et al. 2018, section 4.1).

Shapes: B batch, L labels, N examples.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig, LabeledDataConfig, Phase
from tx_jax.data.labeled import sequences
from tx_jax.data.labeled.labels import classes_of, label_ids, labels_of, rare_labels
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError
from tx_jax.tasks import class_weights, scores
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.supervised import Record, Supervised, SupervisedObjective


class ClassificationObjective(SupervisedObjective):
    """Trains the head `sequence_classification`. The loss is the cross entropy in nats."""

    head = "sequence_classification"
    options = ("class_weights",)
    target = "labels"  # the key of the batch

    def keys(self, phase: Phase) -> tuple[str, ...]:
        return (*super().keys(phase), self.target)

    def logits(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> jax.Array:
        """[B, L], float32."""
        return self.apply(params, batch, dropout_rng=dropout_rng).logits[self.head]

    @property
    def class_weights(self) -> np.ndarray | None:
        """float32 [L]; None if all labels have the same weight."""
        return class_weights.weights_of(self.data.class_weights, self.data.labels)

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"loss": self._weights(batch).sum()}

    def _weights(self, batch: Batch) -> jax.Array:
        """[B]: how much each example counts in the loss."""
        of_label = self.class_weights
        return batch["example_weights"] * (1 if of_label is None else jnp.asarray(of_label)[batch["labels"]])

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        logits, weights = self.logits(params, batch, dropout_rng=dropout_rng), batch["example_weights"]
        losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, batch["labels"])
        correct = (logits.argmax(axis=-1) == batch["labels"]).astype(jnp.float32)
        in_loss = self._weights(batch)
        return {
            "loss": WeightedSum((losses * in_loss).sum(), in_loss.sum()),
            "accuracy": WeightedSum((correct * weights).sum(), weights.sum()),
        }

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        return {"logits": self.logits(params, batch, dropout_rng=None)}


class Classification(Supervised):
    """One label for each text or pair of texts."""

    objective_class = ClassificationObjective
    usual_metrics: ClassVar[tuple[str, ...]] = ("macro_f1", "accuracy")
    known_scores: ClassVar[dict[str, scores.Score]] = scores.OF_LABELS

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        if not config.labeled.labels:
            data = dataclasses.replace(config.labeled, labels=labels_of(self.values(self.records("train"))))
            config = dataclasses.replace(config, data=data)
        count = len(config.labeled.labels)
        scores.check(config.labeled.metrics, self.known_scores, count)
        config = dataclasses.replace(config, data=self._with_class_weights(config.labeled))
        return dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=count))

    def _with_class_weights(self, data: LabeledDataConfig) -> LabeledDataConfig:
        """Balanced weights are as in scikit-learn: N / (L times the number of the label's examples)."""
        if data.class_weights != class_weights.BALANCED:  # nothing to count: for prediction no training data is read
            weights = class_weights.resolved(data.class_weights, data.labels, np.ones(len(data.labels)))
            return dataclasses.replace(data, class_weights=weights)
        ids = label_ids(self.values(self.records("train")), data.labels)
        counts = np.bincount(ids, minlength=len(data.labels))
        balanced = len(ids) / (len(data.labels) * np.maximum(counts, 1))
        return dataclasses.replace(
            data, class_weights=class_weights.resolved(data.class_weights, data.labels, balanced)
        )

    def values(self, records: Sequence[Record]) -> list[Any]:
        """The labels [N] as they were read.

        Raises:
          InputError: one is a list, as for texts with several labels.
        """
        values = [record[self.data.label] for record in records]
        for number, value in enumerate(values, start=1):
            if isinstance(value, list | dict):
                raise InputError(
                    f"example {number}: {value!r:.60} in column {self.data.label!r} is not one label; for texts "
                    "with several labels give --config.task=multi_label"
                )
        return values

    def hold_out(self, records: Sequence[Record]) -> np.ndarray:
        classes = classes_of(self.values(records))
        return self.held_out_units(len(records), classes)

    def notices(self) -> list[str]:
        return rare_labels(self.values(self.records("train")), self.data.labels) + super().notices()

    def targets(self, records: Sequence[Record]) -> np.ndarray:
        """[N], as at the objective's `target` in a batch."""
        return label_ids(self.values(records), self.data.labels)

    def encode(self, records: Sequence[Record], *, labeled: bool) -> Table:
        return sequences.table(
            records,
            self.data,
            self.tokenizer,
            segments=self.config.model.num_segments > 1,
            targets={self.objective_class.target: self.targets(records)} if labeled else {},
        )

    def scores(self, outputs: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        targets = self.split(split).table.columns["labels"][outputs["example"]]
        return self.score(targets, outputs["logits"].argmax(axis=-1))

    def confusion(self, outputs: Mapping[str, np.ndarray], split: str) -> np.ndarray | None:
        if self.objective_class.target != "labels":  # numbers, or sets of labels
            return None
        targets = self.split(split).table.columns["labels"][outputs["example"]]
        return scores.confusion(targets, outputs["logits"].argmax(axis=-1), len(self.data.labels))

    def score(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
        """The metrics `score_names` of predictions [N]."""
        return {name: self.known_scores[name](targets, predictions) for name in self.score_names}

    def predictions(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record], table: Table
    ) -> list[dict[str, Any]]:
        logits, labels = outputs["logits"].astype(np.float64), self.data.labels
        odds = np.exp(logits - logits.max(axis=-1, keepdims=True))
        probabilities = odds / odds.sum(axis=-1, keepdims=True)
        names = [f"probability_{label}" for label in labels]
        return [
            {"prediction": labels[row.argmax()], **dict(zip(names, map(float, row), strict=True))}
            for row in probabilities
        ]

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        known, name = self.reference
        counts = np.bincount(self.split(known).table.columns["labels"], minlength=len(self.data.labels))
        targets, best = real_targets(batches, "labels"), int(counts.argmax())
        always = f"always {self.data.labels[best]!r}, the most frequent in {name}"
        values = {"accuracy": float(np.mean(targets == best)), **self.score(targets, np.full_like(targets, best))}
        shares = (counts + 1) / (counts + 1).sum()  # add-one smoothing, for labels without training examples
        weights = self.objective.class_weights
        weights = np.ones(len(targets)) if weights is None else weights[targets]
        return {
            "loss": (
                float(np.average(-np.log(shares[targets]), weights=weights)),
                f"the frequency of each label in {name}",
            ),
            **{metric: (value, always) for metric, value in values.items()},
        }


def real_targets(batches: Iterable[Batch], key: str) -> np.ndarray:
    """The values of this key [N] for all real examples, without padding rows."""
    return np.concatenate([np.asarray(batch[key])[np.asarray(batch["example_weights"]) > 0] for batch in batches])

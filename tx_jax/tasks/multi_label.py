"""Fine-tuning to assign any number of labels (none, one or several) to a text or a pair of texts.

The loss is the binary cross entropy of each label, in nats, as in transformers' "multi_label_classification".
Shapes: B batch, L labels, N examples.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig
from tx_jax.data.labeled.labels import is_null_label, label_ids, label_list, labels_of, rare_labels
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError
from tx_jax.tasks import class_weights, scores
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.classification import Classification, ClassificationObjective, real_targets
from tx_jax.tasks.supervised import Record, Supervised


class MultiLabelObjective(ClassificationObjective):
    """Trains the head `sequence_classification`, each output independently.

    With `data.class_weights`, each label's loss weights the examples that have the label by the label's weight.
    """

    options = ("class_weights", "label_separator")
    target = "label_sets"

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"loss": batch["example_weights"].sum()}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        logits, weights = self.logits(params, batch, dropout_rng=dropout_rng), batch["example_weights"]
        targets = batch[self.target]
        losses = optax.losses.sigmoid_binary_cross_entropy(logits, targets)
        if (of_label := self.class_weights) is not None:
            losses = losses * jnp.where(targets > 0, jnp.asarray(of_label)[None], 1.0)
        correct = ((logits > 0) == (targets > 0)).all(axis=-1).astype(jnp.float32)
        weight = weights.sum()
        return {
            "loss": WeightedSum((losses.mean(axis=-1) * weights).sum(), weight),
            "subset_accuracy": WeightedSum((correct * weights).sum(), weight),
        }


class MultiLabel(Classification):
    """Any number of labels for each text or pair of texts, given as a JSON list (which may be inside a string) or as a
    string with `data.label_separator`."""

    objective_class = MultiLabelObjective
    usual_metrics = ("macro_f1", "micro_f1", "label_f1")
    known_scores = scores.OF_LABEL_SETS

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        data = config.labeled
        if not data.labels:
            values = [label for labels in self.values(self.records("train")) for label in labels]
            data = dataclasses.replace(data, labels=labels_of(values))
            config = dataclasses.replace(config, data=data)
        count = len(data.labels)
        scores.check(data.metrics, self.known_scores, count)
        if data.class_weights == class_weights.BALANCED:
            having = self._sets(self.records("train"), data.labels).sum(axis=0)
            without = len(self.records("train")) - having
            balanced = np.maximum(without, 1) / np.maximum(having, 1)
        else:  # nothing to count: no data is read for prediction
            balanced = np.ones(count)
        weights = class_weights.resolved(data.class_weights, data.labels, balanced)
        config = dataclasses.replace(config, data=dataclasses.replace(data, class_weights=weights))
        return dataclasses.replace(config, model=dataclasses.replace(config.model, num_labels=count))

    def values(self, records: Sequence[Record]) -> list[list[Any]]:
        """The labels of each record.

        Raises:
          InputError: a value is not a list, and there is no separator for splitting a string.
        """
        return [self._labels(record[self.data.label], number) for number, record in enumerate(records, start=1)]

    def _labels(self, value: Any, number: int) -> list[Any]:
        where = f"example {number}: column {self.data.label!r}"
        labels = label_list(value, self.data.label_separator)
        if labels is None:
            advice = 'if a text holds several labels, give their separator, such as --config.data.label_separator="|"'
            if isinstance(value, str) and value.lstrip().startswith("["):
                advice = 'a list in a table must be JSON, such as ["one", "two"], as json.dumps writes it'
            raise InputError(f"{where} holds {value!r:.60}, not a list of labels: {advice}")
        if bad := [one for one in labels if isinstance(one, list | dict) or is_null_label(one, self.data.null_values)]:
            raise InputError(f"{where} holds {bad[0]!r:.60}, which is not a label")
        return labels

    def hold_out(self, records: Sequence[Record]) -> np.ndarray:
        return Supervised.hold_out(self, records)

    def notices(self) -> list[str]:
        values = self.values(self.records("train"))
        none = sum(not labels for labels in values)
        return [
            *([f"train: without any label: {none:,} of {len(values):,}"] if none else []),
            *rare_labels([label for labels in values for label in labels], self.data.labels),
            *Supervised.notices(self),
        ]

    def targets(self, records: Sequence[Record]) -> np.ndarray:
        return self._sets(records, self.data.labels)

    def _sets(self, records: Sequence[Record], labels: Sequence[str]) -> np.ndarray:
        """float32 [N, L]: 1 for the labels that an example has."""
        values = self.values(records)
        row = np.repeat(np.arange(len(values)), list(map(len, values)))
        column = label_ids([label for of_record in values for label in of_record], labels, unit="label")
        sets = np.zeros((len(values), len(labels)), np.float32)
        sets[row, column] = 1
        return sets

    def scores(self, outputs: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        targets = self.split(split).table.columns["label_sets"][outputs["example"]]
        return self.score(targets, outputs["logits"] > 0)

    def label_counts(self, outputs: Mapping[str, np.ndarray], split: str) -> np.ndarray:
        true = self.split(split).table.columns["label_sets"][outputs["example"]] > 0
        said = outputs["logits"] > 0
        return np.stack([(true & said).sum(axis=0), true.sum(axis=0), said.sum(axis=0)], axis=1)

    @property
    def score_names(self) -> tuple[str, ...]:
        """The names in `data.metrics`; "label_f1" stands for the F1 of each label."""
        return tuple(name for metric in self.data.metrics for name in self._names(metric))

    def _names(self, metric: str) -> list[str]:
        """The names of the values that a metric gives."""
        return [f"f1_{label}" for label in self.data.labels] if metric == "label_f1" else [metric]

    def score(self, targets: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
        """The metrics `score_names` of predictions [N, L]."""
        found: dict[str, float] = {}
        for metric in self.data.metrics:
            value = self.known_scores[metric](targets > 0, predictions > 0)
            found |= dict(zip(self._names(metric), np.atleast_1d(value).tolist(), strict=True))
        return found

    def predictions(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record], table: Table
    ) -> list[dict[str, Any]]:
        """The labels with a probability above one half, joined by the separator if there is one, and the probability of
        each label."""
        labels, separator = self.data.labels, self.data.label_separator
        result = []
        for row in outputs["logits"].astype(np.float64):
            chosen = [label for label, logit in zip(labels, row, strict=True) if logit > 0]
            odds = {f"probability_{label}": float(p) for label, p in zip(labels, 1 / (1 + np.exp(-row)), strict=True)}
            result.append({"prediction": separator.join(chosen) if separator else chosen, **odds})
        return result

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        known, name = self.reference
        train = self.split(known).table.columns["label_sets"]
        targets = real_targets(batches, "label_sets")
        shares = (train.sum(axis=0) + 1) / (len(train) + 2)  # strictly between 0 and 1, whatever the training data
        losses = -np.log(np.where(targets > 0, shares, 1 - shares))
        if (weights := self.objective.class_weights) is not None:
            losses = losses * np.where(targets > 0, weights, 1)
        sets, counts = np.unique(train, axis=0, return_counts=True)
        frequent = sets[counts.argmax()]
        everything = "always every label"
        return {
            "loss": (float(losses.mean()), f"the frequency of each label in {name}"),
            "subset_accuracy": (
                float((targets == frequent).all(axis=1).mean()),
                f"always the most frequent set of labels in {name}",
            ),
            **{metric: (value, everything) for metric, value in self.score(targets, np.ones_like(targets)).items()},
        }

"""Fine-tuning to label every word of a sentence: parts of speech, names (Devlin et al. 2018, section 5.3).

Shapes: B batch, T sequence length, L labels, W words.
"""

import collections
import dataclasses
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.data.labeled import tagging
from tx_jax.data.labeled.labels import labels_of, rare_labels, spelled
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError
from tx_jax.tasks import scores
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.supervised import Record, Supervised, SupervisedObjective

_BIO = re.compile(r"O|[BIES]-.+")

# The first is the best metric by default: it is the standard one (Tjong Kim Sang and De Meulder 2003).
ENTITY_METRICS = ("entity_f1", "entity_precision", "entity_recall", "accuracy")


def tells_entities(labels: Sequence[str]) -> bool:
    """Whether the labels are entity labels, such as B-PER, I-PER and O."""
    return all(map(_BIO.fullmatch, labels)) and set(labels) != {"O"}


class TaggingObjective(SupervisedObjective):
    """Trains the head `token_classification`. The loss is the cross entropy in nats over the labeled pieces."""

    head = "token_classification"

    def keys(self, phase: Phase) -> tuple[str, ...]:
        return (*super().keys(phase), "token_labels")

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"loss": _weights(batch).sum()}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        logits_BTL = self.apply(params, batch, dropout_rng=dropout_rng).logits[self.head]
        targets_BT, weights_BT = jnp.maximum(batch["token_labels"], 0), _weights(batch)
        losses_BT = optax.losses.softmax_cross_entropy_with_integer_labels(logits_BTL, targets_BT)
        correct_BT = (logits_BTL.argmax(axis=-1) == targets_BT).astype(jnp.float32)
        weight = weights_BT.sum()
        return {
            "loss": WeightedSum((losses_BT * weights_BT).sum(), weight),
            "accuracy": WeightedSum((correct_BT * weights_BT).sum(), weight),
        }

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """The best label of each token and its probability, both [B, T]: all labels would be L times as much."""
        probabilities_BTL = jax.nn.softmax(self.apply(params, batch, dropout_rng=None).logits[self.head])
        return {"labels": probabilities_BTL.argmax(axis=-1), "probability": probabilities_BTL.max(axis=-1)}


class Tagging(Supervised):
    """Labels for words. Scores are over words: if `data.metrics` is empty, `ENTITY_METRICS` for entity labels and the
    accuracy for others.

    Raises:
      InputError: entity metrics are configured, but the labels are not such as B-PER, I-PER and O.
    """

    objective_class = TaggingObjective

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        data = config.labeled
        if not data.labels:
            # A rare label may occur only in the examples that are held out from the training file.
            splits = ("train",) if data.validation else ("train", "validation")
            data = dataclasses.replace(data, labels=labels_of([x for split in splits for x in self.values(split)]))
        if not data.metrics:
            data = dataclasses.replace(data, metrics=ENTITY_METRICS if tells_entities(data.labels) else ("accuracy",))
        scores.check(data.metrics, scores.OF_WORDS, len(data.labels))
        others = [label for label in data.labels if not _BIO.fullmatch(label)]
        if others and (entities := [name for name in data.metrics if name.startswith("entity")]):
            raise InputError(
                f"data.metrics: {entities[0]} needs labels like B-PER, I-PER, O, not {', '.join(others[:3])}: choose "
                "accuracy"
            )
        model = dataclasses.replace(config.model, num_labels=len(data.labels))
        return dataclasses.replace(config, data=data, model=model)

    def values(self, split: str) -> list[str]:
        """The labels of all words of a split."""
        return list(itertools.chain.from_iterable(tagging.labels_of_words(self.records(split), self.data)))

    def notices(self) -> list[str]:
        return rare_labels(self.values("train"), self.data.labels) + super().notices()

    def encode(self, records: Sequence[Record], *, labeled: bool) -> Table:
        return tagging.table(records, self.data, self.tokenizer, labels=self.data.labels if labeled else None)

    def has_targets(self, table: Table) -> bool:
        return bool((table.columns["token_labels"].values != tagging.NO_LABEL).any())

    def scores(self, outputs: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        table, rows = self.split(split).table, outputs["example"]
        predictions = [self.data.labels[number] for number in _at_words(outputs["labels"], table, rows)]
        return self.score(predictions, split, rows)

    def confusion(self, outputs: Mapping[str, np.ndarray], split: str) -> np.ndarray | None:
        table, rows = self.split(split).table, outputs["example"]
        values, number_of = self._spelled(split), {label: number for number, label in enumerate(self.data.labels)}
        targets = np.array([number_of[values[word]] for word in _words_of_rows(table, rows)])
        return scores.confusion(targets, _at_words(outputs["labels"], table, rows), len(self.data.labels))

    def score(self, predictions: Sequence[str], split: str, rows: np.ndarray) -> dict[str, float]:
        """The metrics in `score_names` for predictions for the words of these rows, in order."""
        table = self.split(split).table
        words = _words_of_rows(table, rows)
        values = self._spelled(split)
        targets = [values[word] for word in words]
        sentences = np.repeat(table.alignment["record"][rows], _words_in_rows(table)[rows])
        ends = np.append(np.flatnonzero(np.diff(sentences)) + 1, len(words)).tolist()
        grouped = [[part[a:b] for a, b in itertools.pairwise([0, *ends])] for part in (targets, predictions)]
        return {name: scores.OF_WORDS[name](*grouped) for name in self.score_names}

    def predictions(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record], table: Table
    ) -> list[dict[str, Any]]:
        """For each record the labels of its words and their probabilities; for a text also the words."""
        rows = np.arange(len(table))
        labels = [self.data.labels[number] for number in _at_words(outputs["labels"], table, rows)]
        probabilities = _at_words(outputs["probability"], table, rows).tolist()
        result, done = [], 0
        for number, record in enumerate(records, start=1):
            words = tagging.words_of(record, self.data, number)
            part = slice(done, done + len(words))
            found = {"words": words} if isinstance(record[self.data.text[0]], str) else {}
            result.append(found | {"prediction": labels[part], "probability": probabilities[part]})
            done = part.stop
        return result

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        known, place = self.reference
        overall = collections.Counter(self._spelled(known)).most_common(1)[0][0]
        best, name = {}, f"always {overall!r}, the most frequent in {place}"
        if known == "train":  # each word's label in the evaluated data itself would be the answer
            counts = collections.defaultdict(collections.Counter)
            for word, label in zip(self._words("train"), self._spelled("train"), strict=True):
                counts[word][label] += 1
            best = {word: of_word.most_common(1)[0][0] for word, of_word in counts.items()}
            name = "each word's most frequent training label; for unseen words the most frequent label overall"
        rows = np.sort(np.concatenate([batch["example"][batch["example_weights"] > 0] for batch in batches]))
        words = self._words(split)
        predictions = [best.get(words[word], overall) for word in _words_of_rows(self.split(split).table, rows)]
        return {score: (value, name) for score, value in self.score(predictions, split, rows).items()}

    def _spelled(self, split: str) -> list[str]:
        """The labels of all words of a split, spelled like the model's outputs."""
        return spelled(self.values(split), self.data.labels, unit="word")

    def _words(self, split: str) -> list[str]:
        return [word for record in self.records(split) for word in tagging.words_of(record, self.data)]


def _weights(batch: Batch) -> jax.Array:
    """[B, T]: 1 for a labeled token."""
    return (batch["token_labels"] >= 0) * batch["example_weights"][:, None]


def _at_words(values_BT: np.ndarray, table: Table, rows_B: np.ndarray) -> np.ndarray:
    """[W]: the values at the words' first pieces, word by word."""
    return values_BT[table.alignment["first_pieces"].rows(rows_B, values_BT.shape[1])]


def _words_in_rows(table: Table) -> np.ndarray:
    """The number of words in each row: int64 [N]."""
    first = table.alignment["first_pieces"]
    return np.diff(np.append([0], np.cumsum(first.values))[first.offsets])


def _words_of_rows(table: Table, rows: np.ndarray) -> list[int]:
    """The indices of the words in these rows, counted over all records: rows contain all words, in order."""
    ends = np.cumsum(_words_in_rows(table))
    starts = ends - _words_in_rows(table)
    return [word for row in rows for word in range(starts[row], ends[row])]

"""Fine-tuning to find the answer to a question in a text (Devlin et al. 2018, sections 4.2 and 4.3).

Shapes: B batch, T sequence length.
"""

import collections
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.data.labeled import questions
from tx_jax.data.labeled.table import Table
from tx_jax.errors import InputError, did_you_mean
from tx_jax.tasks import squad_scores
from tx_jax.tasks.answers import Answers, answers, whole_records
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.supervised import Record, Supervised, SupervisedObjective
from tx_jax.text import sentences

_SCORES = ("exact_match", "f1")
_SCORES_WITH_NULL = (
    *_SCORES,
    "has_answer_exact_match",
    "has_answer_f1",
    "no_answer_accuracy",
    "best_exact_match",
    "best_exact_match_threshold",
    "best_f1",
    "best_f1_threshold",
)


class QuestionAnsweringObjective(SupervisedObjective):
    """Trains the head `question_answering`. The loss is the mean of the cross entropies of the answer's first and last
    token among the tokens of a window, in nats; "window_accuracy" is the share of windows with both right, most of
    which may be windows without the answer."""

    head = "question_answering"

    def keys(self, phase: Phase) -> tuple[str, ...]:
        return (*super().keys(phase), "answer_start", "answer_end")

    def logits(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> tuple[jax.Array, jax.Array]:
        """The logits of the answer's first and last token: each [B, T], very small for padding."""
        logits_BT2 = self.apply(params, batch, dropout_rng=dropout_rng).logits[self.head]
        logits_BT2 = jnp.where(batch["valid"][..., None], logits_BT2, -1e9)
        return logits_BT2[..., 0], logits_BT2[..., 1]

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"loss": _weights(batch).sum()}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        weights, losses, correct = _weights(batch), 0.0, 1.0
        both = self.logits(params, batch, dropout_rng=dropout_rng)
        for logits_BT, name in zip(both, ("answer_start", "answer_end"), strict=True):
            targets = jnp.maximum(batch[name], 0)
            losses += optax.losses.softmax_cross_entropy_with_integer_labels(logits_BT, targets) / 2
            correct *= (logits_BT.argmax(axis=-1) == targets).astype(jnp.float32)
        weight = weights.sum()
        return {
            "loss": WeightedSum((losses * weights).sum(), weight),
            "window_accuracy": WeightedSum((correct * weights).sum(), weight),
        }

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        return dict(zip(("start_logits", "end_logits"), self.logits(params, batch, dropout_rng=None), strict=True))


class QuestionAnswering(Supervised):
    """Answers to questions in contexts. Scores are those of SQuAD over questions, see `squad_scores`."""

    objective_class = QuestionAnsweringObjective
    usual_metrics = ("f1", "exact_match")

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        if len(text := config.labeled.text) != 2:
            raise InputError(f"data.text={text} must name the columns of the question and of the context")
        known = _SCORES_WITH_NULL if config.labeled.unanswerable else _SCORES
        for name in config.labeled.metrics:
            if name not in known:
                needs = ", with data.unanswerable=True" if name in _SCORES_WITH_NULL else ""
                raise InputError(
                    f"data.metrics: {name!r} is not one of {', '.join(known)}{needs}.{did_you_mean(name, known)}"
                )
        if config.training.best_metric == "accuracy":  # its name in earlier versions
            training = dataclasses.replace(config.training, best_metric="window_accuracy")
            config = dataclasses.replace(config, training=training)
        return config

    def hold_out(self, records: Sequence[Record]) -> np.ndarray:
        """Holds out whole articles, by title, or else whole contexts, so that training never reads a held-out text."""
        titles = {record.get("title") for record in records}
        key, unit = ("title", "article") if all(titles) and len(titles) > 1 else (self.data.text[1], "context")
        _, group = np.unique([record[key] for record in records], return_inverse=True)
        count = int(group.max()) + 1
        return self.held_out_units(count, unit=unit)[group]

    def encode(self, records: Sequence[Record], *, labeled: bool) -> Table:
        return questions.table(
            records, self.data, self.tokenizer, segments=self.config.model.num_segments > 1, labeled=labeled
        )

    def has_targets(self, table: Table) -> bool:
        return bool((table.columns["answer_start"] != questions.UNKNOWN).any())

    def scores(self, outputs: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        records, table = self.split(split).records, self.split(split).table
        found = list(answers(outputs, table, self._contexts(records), self.data))
        golds = self._golds([records[number] for number, _ in found])
        values = self.score([answer.best(self.data) for _, answer in found], golds)
        if self.data.unanswerable:
            values |= _best_thresholds([answer for _, answer in found], golds)
        return {name: values[name] for name in self.score_names}

    def score(self, predictions: Sequence[str], golds: Sequence[Sequence[str]]) -> dict[str, float]:
        return squad_scores.squad_scores(predictions, golds, unanswerable=self.data.unanswerable)

    def predictions(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record], table: Table
    ) -> list[dict[str, Any]]:
        rows = dict(outputs) | {"example": np.arange(len(table))}
        return [self._prediction(answer) for _, answer in answers(rows, table, self._contexts(records), self.data)]

    def _prediction(self, answer: Answers) -> dict[str, Any]:
        """The answer, "" for none, its first character in the context, its probability, and the `n_best`."""
        n_best = [
            {"text": span.text, "start": span.start, "probability": probability}
            for span, probability in answer.probabilities(self.data)
        ]
        best = next(one for one in n_best if one["text"] == answer.best(self.data))
        return {
            "prediction": best["text"],
            "start": best["start"],
            "probability": best["probability"],
            "n_best": n_best[: self.data.n_best],
        }

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        rows = np.sort(np.concatenate([batch["example"][batch["example_weights"] > 0] for batch in batches]))
        whole = [number for number, _, _ in whole_records(self.split(split).table, rows)]  # as the model's scores
        records = [self.split(split).records[number] for number in whole]
        if self.data.unanswerable:
            name, predictions = "never an answer", [""] * len(records)
        else:
            name = "the sentence that shares most words with the question"
            question, context = self.data.text
            predictions = [_likeliest_sentence(record[question], record[context]) for record in records]
        values = self.score(predictions, self._golds(records))
        found = {score: (values[score], name) for score in self.score_names if score in values}
        return found | {
            "window_accuracy": (self._commonest_place(split, rows), f"the most frequent place in {self.reference[1]}")
        }

    def _commonest_place(self, split: str, rows: np.ndarray) -> float:
        """The share of these windows whose answer is at the most frequent place in training, mostly "not in this
        window"."""
        counts = collections.Counter(_places(self.split(self.reference[0]).table))
        places = _places(self.split(split).table, rows)
        ((commonest, _),) = counts.most_common(1)
        return places.count(commonest) / len(places) if places else math.nan

    def _contexts(self, records: Sequence[Record]) -> list[str]:
        return [record[self.data.text[1]] for record in records]

    def _golds(self, records: Sequence[Record]) -> list[list[str]]:
        return [
            [gold.text for gold in questions.gold_answers(record, number, self.data)]
            for number, record in enumerate(records, start=1)
        ]


def _places(table: Table, rows: np.ndarray | slice = slice(None)) -> list[tuple[int, int]]:
    """The first and last token of the answer, for rows whose answer is known."""
    starts, ends = (table.columns[name][rows].tolist() for name in ("answer_start", "answer_end"))
    return [place for place in zip(starts, ends, strict=True) if place[0] >= 0]


def _weights(batch: Batch) -> jax.Array:
    """[B]: 1 for a window whose answer is known."""
    return (batch["answer_start"] >= 0) * batch["example_weights"]


def _best_thresholds(found: Sequence[Answers], golds: Sequence[Sequence[str]]) -> dict[str, float]:
    """The best scores that any threshold for "no answer" reaches, and these thresholds."""
    spans = [answer.spans[0].text if answer.spans else "" for answer in found]
    values = [squad_scores.exact_and_f1(*pair, unanswerable=True) for pair in zip(spans, golds, strict=True)]
    margins, is_answerable = np.array([answer.null_margin for answer in found]), squad_scores.has_answer(golds)
    best = {}
    for name, column in zip(_SCORES, np.array(values).reshape(-1, 2).T, strict=True):
        value, threshold = squad_scores.best_threshold(margins, column, is_answerable)
        best |= {f"best_{name}": value, f"best_{name}_threshold": threshold}
    return best


def _likeliest_sentence(question: str, context: str) -> str:
    words = set(squad_scores.normalized(question).split())
    found = list(sentences.split(context, "wrapped")) or [""]
    return max(found, key=lambda sentence: len(words & set(squad_scores.normalized(sentence).split())))

"""The base of the fine-tuning tasks, which train on labeled examples.

A subclass defines how records become rows, the loss, and how predictions follow from the model's outputs.
"""

import abc
import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np

from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig, LabeledDataConfig, Phase
from tx_jax.config.heads import supervised
from tx_jax.data.labeled import readers
from tx_jax.data.labeled.label_names import match
from tx_jax.data.labeled.labels import folds_of, hold_out
from tx_jax.data.labeled.table import Table
from tx_jax.data.loader import Loader
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.tasks.base import Objective
from tx_jax.text.tokenizer import Tokenizer

Record = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class LabeledSplit:
    """One split of the data: the records as read, and encoded.

    Attributes:
      table: the encoded rows; question answering has several per record, otherwise row i is record i.
    """

    records: Sequence[Record]
    table: Table


# Keys of `data` that only some tasks use; they are empty for the others.
OPTIONAL = ("choices", "label_separator", "class_weights")


class SupervisedObjective(Objective):
    """The base of the objectives on labeled examples.

    Attributes:
      options: the keys in `OPTIONAL` that the objective uses.
    """

    options: ClassVar[tuple[str, ...]] = ()

    def check(self) -> None:
        config, heads = self.config, self.config.model.heads
        if not isinstance(config.data, LabeledDataConfig):
            raise InputError(f"task={config.task!r} learns from labeled examples, data.train, not from a token store")
        if [head for head in heads if head in supervised()] != [self.head]:
            raise InputError(
                f"model.heads={heads}: task={config.task!r} trains {self.head!r} and no other supervised head: give "
                f"--config.model.heads=\"('{self.head}',)\""
            )
        if config.phases.steps:
            raise InputError(f"phases.steps={config.phases.steps}: fine-tuning has a single phase")
        for name in OPTIONAL:
            if name not in self.options and (value := getattr(config.data, name)):
                raise InputError(f"data.{name}={value!r} does nothing for task={config.task!r}: leave it out")

    @classmethod
    def num_outputs(cls, config: ExperimentConfig) -> int:
        """`model.num_labels`, as far as it can be known without data."""
        return len(config.labeled.labels) or config.model.num_labels

    @property
    def data(self) -> LabeledDataConfig:
        return self.config.labeled

    @property
    def pairs(self) -> bool:
        """Whether examples consist of two texts, which have different segments."""
        return len(self.data.text) == 2

    def keys(self, phase: Phase) -> tuple[str, ...]:
        segments = ("segments",) if self.pairs and self.config.model.num_segments > 1 else ()
        return ("tokens", "valid", "example", "example_weights", *segments)

    @abc.abstractmethod
    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        """The arrays that scores and predictions are computed from: [B, ...], one row per example."""

    def flops_per_token(self, phase: Phase | None = None) -> float:
        return registry.flops_per_token(self.config.model, self.data.sequence_length, 0)


class Supervised(abc.ABC):
    """The base of the tasks that learn from labels.

    Attributes:
      objective_class: the class of the objective.
      usual_metrics: the metrics if `data.metrics` is empty; with "auto" the first decides which checkpoint is best.
      config: the run's configuration, with the values that only the data determines filled in: labels, and the number
        of steps if it is given in epochs.
      score_names: metrics besides those in `metrics`, computed over whole splits.
    """

    objective_class: ClassVar[type[SupervisedObjective]]
    usual_metrics: ClassVar[tuple[str, ...]] = ()

    def __init__(
        self,
        config: ExperimentConfig,
        tokenizer: Tokenizer,
        label_order: Sequence[str] = (),
        records: Mapping[str, Sequence[Record]] | None = None,
    ):
        """Raises InputError if the data cannot be read, or does not fit the model.

        Args:
          label_order, records: see `registry.open_task`.
        """
        self.objective_class(config)  # before reading anything
        self._given = records
        if tokenizer.vocab_size > config.model.vocab_size:
            raise InputError(
                f"the tokenizer has {tokenizer.vocab_size} tokens, but the model only model.vocab_size="
                f"{config.model.vocab_size}: they do not belong together"
            )
        self.tokenizer, self.config = tokenizer, _with_metrics(config, self.usual_metrics)
        labeled = self.with_labels(self.config)
        if not config.labeled.labels and (same := match(label_order, labeled.labeled.labels)):
            labeled = dataclasses.replace(labeled, data=dataclasses.replace(labeled.labeled, labels=same.labels))
        self.config = labeled
        self.config = _with_best_metric(labeled, self.score_names)
        self.config = _with_steps(self.config, lambda: len(self.split("train").table))
        self.objective = self.objective_class(self.config)

    @property
    def data(self) -> LabeledDataConfig:
        return self.config.labeled

    @functools.cached_property
    def _records(self) -> dict[str, list[Record]]:
        """The records of every split."""
        if self._given is not None:
            return dict(self._given)
        data = self.data
        train = _read("train", data.train, data)
        if data.validation:
            records = {"train": train, "validation": _read("validation", data.validation, data)}
        else:
            held = self.hold_out(train)
            records = {
                "train": list(itertools.compress(train, ~held)),
                "validation": list(itertools.compress(train, held)),
            }
        more = {name: source for name, source in data.evaluation_splits.items() if name not in records}
        return records | {name: _read(name, source, data) for name, source in more.items()}

    def records(self, split: str) -> Sequence[Record]:
        """The records of a split. Raises InputError if the configuration has no such split."""
        if split not in self._records:
            raise InputError(f"there is no split {split!r}, only {', '.join(self._records)}")
        return self._records[split]

    @property
    def reference(self) -> tuple[str, str]:
        """The split that baselines are computed from, and its name: without training data, the evaluated split."""
        return ("train", "training") if "train" in self._records else (next(iter(self._records)), "this data itself")

    def hold_out(self, records: Sequence[Record]) -> np.ndarray:
        """Which records are held out if there is no validation file: bool [N], a function of the seed, or a fold."""
        return self.held_out_units(len(records))

    def held_out_units(self, count: int, classes: np.ndarray | None = None, *, unit: str = "example") -> np.ndarray:
        """Which of so many are held out: see `labels.hold_out` and `labels.folds_of`."""
        if self.data.folds:
            return folds_of(count, self.data.folds, classes, unit=unit) == self.data.fold
        return hold_out(count, self.data.validation_fraction, self.config.seed, classes, unit=unit)

    @functools.cached_property
    def _splits(self) -> dict[str, LabeledSplit]:
        """The splits encoded so far. They belong to the task: with several seeds, each has its own."""
        return {}

    def split(self, name: str) -> LabeledSplit:
        """A split; it is read and encoded only once."""
        if name not in self._splits:
            records = self.records(name)
            try:
                self._splits[name] = LabeledSplit(records, self.encode(records, labeled=True))
            except InputError as error:
                raise InputError(f"{name} data: {error}") from None
        return self._splits[name]

    @functools.cached_property
    def data_fingerprint(self) -> str:
        """The fingerprint of the tokenizer and of all training data that was read."""
        digest = hashlib.sha256(self.tokenizer.fingerprint.encode())
        for name in ("train", "validation"):
            digest.update(json.dumps(self.records(name), sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def batches(
        self,
        split: str,
        *,
        batch_size: int,
        repeat: bool,
        phase: Phase | None = None,
        process: int = 0,
        num_processes: int = 1,
    ) -> Loader:
        if repeat:  # to train on
            self._require_targets(split)
        return Loader(
            [self.split(split).table],
            lambda batch, rng, step: batch,
            batch_size,
            self.config.seed,
            repeat,
            process=process,
            num_processes=num_processes,
            order=None if repeat else self._records_together(split),
        )

    def _records_together(self, split: str) -> np.ndarray | None:
        """An order of the rows that keeps each record's rows together and shuffles the records, so that the first
        batches contain whole records, with long ones as likely as short ones. None if each record has one row."""
        record_of = self.split(split).table.alignment.get("record")
        if record_of is None or len(np.unique(record_of)) == len(record_of):
            return None
        place = np.random.default_rng(self.config.seed).permutation(int(record_of.max()) + 1)
        return np.argsort(place[record_of], kind="stable")

    def has_targets(self, table: Table) -> bool:
        """Whether a table contains anything that a model could learn from."""
        return len(table) > 0

    def _require_targets(self, split: str) -> None:
        """Raises InputError if training would change nothing."""
        records, table = self.records(split), self.split(split).table
        if not self.has_targets(table):
            reasons = "; ".join(f"{what}: {count:,}" for what, count in table.counts.items())
            raise InputError(
                f"{split} data: there is nothing to learn from in {len(records):,} examples"
                + (f" ({reasons})" if reasons else "")
            )

    def notices(self) -> list[str]:
        """Notices about the data for the user, one line each: detected formats, how many texts were truncated."""
        sources = {"train": self.data.train} | self.data.evaluation_splits
        taken = [line for source in filter(None, sources.values()) for line in readers.notices(source, self.data)]
        return taken + [
            f"{split}: {what}: {count:,} of {len(self.records(split)):,}"
            for split in self._records
            for what, count in self.split(split).table.counts.items()
            if count
        ]

    def with_labels(self, config: ExperimentConfig) -> ExperimentConfig:
        """The configuration, with the training data's labels if it names none. By default it is unchanged."""
        return config

    @abc.abstractmethod
    def encode(self, records: Sequence[Record], *, labeled: bool) -> Table:
        """Rows for the model.

        Args:
          labeled: whether the records have labels; False for prediction.

        Raises:
          InputError: a record has a label that the training data lacks.
        """

    @property
    def score_names(self) -> tuple[str, ...]:
        return self.data.metrics

    @abc.abstractmethod
    def scores(self, outputs: Mapping[str, np.ndarray], split: str) -> dict[str, float]:
        """The metrics `score_names`.

        Args:
          outputs: rows of the objective's `outputs` and, as "example", their indices in the split's table, ascending.
            All rows are included unless evaluation is limited to some batches.
        """

    def confusion(self, outputs: Mapping[str, np.ndarray], split: str) -> np.ndarray | None:
        """How often each of `data.labels`, the row, was taken for each, the column: int64 [L, L]; None for a task whose
        predictions are no single labels. For `outputs` see `scores`."""
        return None

    def label_counts(self, outputs: Mapping[str, np.ndarray], split: str) -> np.ndarray | None:
        """Of each of `data.labels` how many examples have it and were said to, have it, and were said to: int64 [L, 3];
        None for a task whose predictions are no sets of labels. For `outputs` see `scores`."""
        return None

    @abc.abstractmethod
    def predictions(
        self, outputs: Mapping[str, np.ndarray], records: Sequence[Record], table: Table
    ) -> list[dict[str, Any]]:
        """The prediction for each record: labels and their probabilities.

        Args:
          outputs: the outputs for all rows of the table, in order.
          records: the records.
          table: their encoded rows.
        """

    @abc.abstractmethod
    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        """See `tasks.base.Task`."""


def _read(split: str, source: str, data: LabeledDataConfig) -> list[Record]:
    """The records of a split. Raises InputError, with the key that names the source, if they cannot be read."""
    try:
        return readers.read(source, data)
    except InputError as error:
        key = f"data.{split}" if split in ("train", "validation", "test") else f"data.more_splits, {split}"
        raise InputError(f"{key}: {error}") from None


def _with_metrics(config: ExperimentConfig, usual: tuple[str, ...]) -> ExperimentConfig:
    """The configuration, with the usual metrics if it names none."""
    if config.labeled.metrics:
        return config
    return dataclasses.replace(config, data=dataclasses.replace(config.labeled, metrics=usual))


def _with_best_metric(config: ExperimentConfig, score_names: Sequence[str]) -> ExperimentConfig:
    """The configuration, with "auto" replaced by the first of the scores."""
    if config.training.best_metric != "auto":
        return config
    best = next(iter(score_names), "loss")
    return dataclasses.replace(config, training=dataclasses.replace(config.training, best_metric=best))


def _with_steps(config: ExperimentConfig, num_examples: Callable[[], int]) -> ExperimentConfig:
    """The configuration, with epochs converted to steps."""
    training = config.training
    if not training.num_epochs:
        return config
    epoch = num_examples() / training.batch_size
    training = dataclasses.replace(
        training,
        num_epochs=0.0,
        num_steps=max(1, math.ceil(training.num_epochs * epoch)),
        eval_every=training.eval_every or math.ceil(epoch),
        checkpoint_every=training.checkpoint_every or math.ceil(epoch),
    )
    return dataclasses.replace(config, training=training)

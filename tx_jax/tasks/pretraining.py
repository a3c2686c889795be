"""What the pretraining objectives share: a model that learns from token stores."""

from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.config import DataConfig, ExperimentConfig, LabeledDataConfig, Phase, skipped
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.data.loader import Loader, phase_seed
from tx_jax.data.pretraining.batches import data_fingerprint, words_that_never_occur
from tx_jax.errors import InputError
from tx_jax.nn.cross_entropy import OutputLayer
from tx_jax.tasks.base import Metrics, Objective, WeightedSum
from tx_jax.text.tokenizer import Tokenizer


class PretrainingObjective(Objective):
    """The base of the objectives on token stores.

    Attributes:
      packings: the packings that it supports.
    """

    packings: ClassVar[tuple[str, ...]]

    def check(self) -> None:
        config, data, task = self.config, self.config.data, self.config.task
        if not isinstance(data, DataConfig):
            other = "labeled examples, data.train" if isinstance(data, LabeledDataConfig) else "a store of pairs"
            raise InputError(f"task={task!r} learns from a token store, data.store, not from {other}")
        if self.head not in config.model.heads:
            raise InputError(f"model.heads={config.model.heads} lacks {self.head!r}, which task={task!r} trains")
        if epochs := config.training.num_epochs:
            raise InputError(f"training.num_epochs={epochs}: pretraining is measured in steps, training.num_steps")
        if data.packing not in self.packings:
            fitting = ", ".join(self.packings)
            raise InputError(f"data.packing={data.packing!r} does not fit task={task!r}: choose one of {fitting}")

    def keys(self, phase: Phase) -> tuple[str, ...]:
        packed = ("documents", "positions") if phase.data.packing == "packed_documents" else ()
        return ("tokens", "valid", "example_weights", *packed)

    def data(self, phase: Phase | None) -> DataConfig:
        """The data's configuration in a phase; without a phase, that of the experiment."""
        return phase.data if phase else self.config.data


class Pretraining:
    """The base of the tasks on token stores.

    Attributes:
      objective_class: the class of the objective.
      make_batches: builds batches from the stores, a split and a `DataConfig`: a function in
        `data.pretraining.batches`.
    """

    objective_class: ClassVar[type[PretrainingObjective]]
    make_batches: ClassVar[Callable[..., Loader]]
    score_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: ExperimentConfig, stores: Stores | TokenStore):
        """Raises InputError as the objective does, and if the stores' vocabulary is larger than the model's."""
        self.config, self.stores = config, stores
        self.objective = self.objective_class(config)
        needed, have = stores.vocab_size, config.model.vocab_size
        if needed > have:
            raise InputError(
                f"the tokenizer of {config.data.store} has {needed} tokens, but the model only "
                f"model.vocab_size={have}: give --config.model.vocab_size={needed} or prepare a smaller vocabulary"
            )

    @property
    def tokenizer(self) -> Tokenizer:
        return self.stores.tokenizer()

    @property
    def data_fingerprint(self) -> str:
        return data_fingerprint(self.stores, self.config.data)

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
        return self.make_batches(
            self.stores,
            split,
            self.objective.data(phase),
            batch_size=batch_size,
            seed=phase_seed(self.config.seed, phase.number if phase else 0),
            repeat=repeat,
            first_step=phase.start if phase else 0,
            skipped=skipped.parse(self.config.data.skip_batches) if repeat else (),
            process=process,
            num_processes=num_processes,
        )

    def scores(self, outputs: dict[str, np.ndarray], split: str) -> dict[str, float]:
        return {}

    def notices(self) -> list[str]:
        if not (absent := words_that_never_occur(self.stores, self.config.data)):
            return []
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        return [f"{len(absent)} words in {self.config.data.selective_words} never occur: {shown}"]

    def unigrams(self, batch: dict[str, np.ndarray], targets: str, weights: str) -> np.ndarray:
        """How often each token is to be predicted: [V]."""
        ids, counted = np.asarray(batch[targets]).ravel(), np.asarray(batch[weights]).ravel()
        return np.bincount(ids, counted, self.stores.vocab_size)


def entropy(counts: np.ndarray) -> float:
    """The entropy, in nats, of the distribution that the counts describe."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def language_modeling(name: str, layer: OutputLayer, targets: jax.Array, weights: jax.Array) -> Metrics:
    """Cross entropy in nats and accuracy of a head over the vocabulary."""
    with jax.named_scope("loss"):
        loss, correct = layer.cross_entropy(targets, weights)
    weight = weights.sum()
    return {f"{name}_loss": WeightedSum(loss, weight), f"{name}_accuracy": WeightedSum(correct, weight)}


def classification(name: str, logits: jax.Array, targets: jax.Array, weights: jax.Array) -> Metrics:
    """Cross entropy in nats and accuracy, over the last axis of the logits."""
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
    correct = (logits.argmax(axis=-1) == targets).astype(jnp.float32)
    weight = weights.sum()
    return {
        f"{name}_loss": WeightedSum((losses * weights).sum(), weight),
        f"{name}_accuracy": WeightedSum((correct * weights).sum(), weight),
    }

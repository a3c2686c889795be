"""What the pretraining objectives share: a model that learns from token stores."""

import dataclasses
from collections.abc import Callable
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.config import DataConfig, ExperimentConfig, Phase, skipped
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.data.loader import Loader, phase_seed
from tx_jax.data.pretraining.batches import data_fingerprint, words_that_never_occur
from tx_jax.errors import InputError
from tx_jax.models import forward
from tx_jax.models.output import Output
from tx_jax.tasks.base import Batch, Metrics, WeightedSum
from tx_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Pretraining:
    """The base of the tasks on token stores.

    Attributes:
      stores: None where no data is needed, as for the shapes of a training that is only planned.
      make_batches: builds them from the stores, a split and a `DataConfig`: a function of `data.pretraining`.

    Raises:
      InputError: the stores' vocabulary is larger than the model's.
    """

    config: ExperimentConfig
    stores: Stores | TokenStore | None
    make_batches: ClassVar[Callable[..., Loader]]
    score_names: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self):
        if self.stores is None:
            return
        needed, have = self.stores.vocab_size, self.config.model.vocab_size
        if needed > have:
            raise InputError(
                f"the tokenizer of {self.config.data.store} has {needed} tokens, the model only "
                f"model.vocab_size={have}: give --config.model.vocab_size={needed} or prepare a smaller vocabulary"
            )

    @property
    def tokenizer(self) -> Tokenizer:
        return self.stores.tokenizer()

    @property
    def data_fingerprint(self) -> str:
        return data_fingerprint(self.stores, self.config.data)

    def data(self, phase: Phase | None) -> DataConfig:
        """The configuration of the data in a phase, or of all else."""
        return phase.data if phase else self.config.data

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
            self.data(phase),
            batch_size=batch_size,
            seed=phase_seed(self.config.seed, phase.number if phase else 0),
            repeat=repeat,
            first_step=phase.start if phase else 0,
            skipped=skipped.parse(self.config.data.skip_batches) if repeat else (),
            process=process,
            num_processes=num_processes,
        )

    def batch_shapes(self, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
        """The global batch of a phase, without its contents: from the configuration alone, no data is read."""
        rows, length, _ = phase.shape
        shapes = {
            "tokens": jax.ShapeDtypeStruct((rows, length), jnp.int32),
            "valid": jax.ShapeDtypeStruct((rows, length), jnp.bool_),
            "example_weights": jax.ShapeDtypeStruct((rows,), jnp.float32),
        }
        if phase.data.packing == "packed_documents":
            shapes |= {name: jax.ShapeDtypeStruct((rows, length), jnp.int32) for name in ("documents", "positions")}
        return shapes

    def init(self, rng: jax.Array) -> dict:
        return forward.init_params(self.config.model, self.config.lora, rng)

    def apply(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None, **inputs: jax.Array) -> Output:
        """The model on a batch; without `dropout_rng` there is no dropout."""
        return forward.forward(
            self.config.model,
            self.config.lora,
            params,
            batch["tokens"],
            segments_BT=batch.get("segments"),
            valid_BT=batch["valid"],
            documents_BT=batch.get("documents"),
            positions_BT=batch.get("positions"),
            dropout_rng=dropout_rng,
            **inputs,
        )

    def outputs(self, params: dict, batch: Batch) -> dict[str, jax.Array]:
        return {}

    def scores(self, outputs: dict[str, np.ndarray], split: str) -> dict[str, float]:
        return {}

    def notices(self) -> list[str]:
        if not (absent := words_that_never_occur(self.stores, self.config.data)):
            return []
        shown = ", ".join(absent[:10]) + (", ..." if len(absent) > 10 else "")
        return [f"{len(absent)} words of {self.config.data.selective_words} never occur: {shown}"]

    def unigrams(self, batch: Batch, targets: str, weights: str) -> np.ndarray:
        """How often each token is to be predicted: [V]."""
        ids, counted = np.asarray(batch[targets]).ravel(), np.asarray(batch[weights]).ravel()
        return np.bincount(ids, counted, self.stores.vocab_size)


def entropy(counts: np.ndarray) -> float:
    """Of the distribution that the counts describe, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def classification(name: str, logits: jax.Array, targets: jax.Array, weights: jax.Array) -> Metrics:
    """Cross entropy in nats and accuracy, over the last axis of the logits."""
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
    correct = (logits.argmax(axis=-1) == targets).astype(jnp.float32)
    weight = weights.sum()
    return {
        f"{name}_loss": WeightedSum((losses * weights).sum(), weight),
        f"{name}_accuracy": WeightedSum((correct * weights).sum(), weight),
    }

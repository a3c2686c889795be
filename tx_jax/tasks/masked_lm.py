"""BERT pretraining: masked language modelling and, with sentence pairs, next-sentence prediction.

Devlin et al. 2018, section 3.1. The loss is the sum of the two mean losses.
Shapes: B batch, P predictions, V vocabulary.
"""

import dataclasses
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tx_jax.config import ExperimentConfig
from tx_jax.data.corpus import TokenStore
from tx_jax.data.pretraining import masked_lm_batches
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.tasks.base import Batch, Batches, Mean, Metrics
from tx_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class MaskedLM:
    """The task of `MaskedLMBatches`.

    Raises:
      InputError: the store's vocabulary is larger than the model's.
    """

    config: ExperimentConfig
    store: TokenStore

    def __post_init__(self):
        needed, have = self.store.vocab_size, self.config.model.vocab_size
        if needed > have:
            raise InputError(
                f"the tokenizer of {self.config.data.store} has {needed} tokens, the model only "
                f"model.vocab_size={have}: give --config.model.vocab_size={needed} or prepare a smaller vocabulary"
            )

    @property
    def tokenizer(self) -> Tokenizer:
        return self.store.tokenizer()

    @property
    def data_fingerprint(self) -> str:
        return self.store.fingerprint

    @property
    def next_sentence(self) -> bool:
        return "next_sentence" in self.config.model.heads

    def init(self, rng: jax.Array) -> dict:
        return registry.init_params(self.config.model, rng)

    def batches(
        self, split: str, *, batch_size: int, repeat: bool, process: int = 0, num_processes: int = 1
    ) -> Batches:
        return masked_lm_batches(
            self.store,
            split,
            self.config.data,
            batch_size=batch_size,
            seed=self.config.seed,
            repeat=repeat,
            process=process,
            num_processes=num_processes,
        )

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        weights = {"masked_lm_loss": batch["masked_weights"].sum()}
        if self.next_sentence:
            weights["next_sentence_loss"] = batch["example_weights"].sum()
        return weights

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        output = registry.build(self.config.model).apply(
            {"params": params},
            batch["tokens"],
            segments_BT=batch["segments"],
            valid_BT=batch["valid"],
            masked_positions_BP=batch["masked_positions"],
            deterministic=dropout_rng is None,
            rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        )
        metrics = _classification("masked_lm", output.masked_lm, batch["masked_targets"], batch["masked_weights"])
        if self.next_sentence:
            metrics |= _classification(
                "next_sentence", output.next_sentence, batch["next_sentence_labels"], batch["example_weights"]
            )
        return metrics

    def baselines(self, batches: Iterable[Batch]) -> dict[str, tuple[float, str]]:
        counts = np.zeros(self.store.vocab_size)
        labels = np.zeros(2)
        for batch in batches:
            weights = np.asarray(batch["masked_weights"]).ravel()
            counts += np.bincount(np.asarray(batch["masked_targets"]).ravel(), weights, self.store.vocab_size)
            if self.next_sentence:
                labels += np.bincount(batch["next_sentence_labels"], batch["example_weights"], 2)
        shares = counts[counts > 0] / counts.sum()
        baselines = {
            "masked_lm_loss": (float(-(shares * np.log(shares)).sum()), "unigram entropy of the masked tokens"),
            "masked_lm_accuracy": (float(shares.max()), "always the most frequent token"),
        }
        if self.next_sentence:
            baselines["next_sentence_loss"] = (float(np.log(2)), "even odds")
            baselines["next_sentence_accuracy"] = (
                float(labels.max() / labels.sum()),
                "always the more frequent answer",
            )
        return baselines

    def flops_per_token(self) -> float:
        data = self.config.data
        return registry.flops_per_token(self.config.model, data.sequence_length, data.max_predictions)


def _classification(name: str, logits: jax.Array, targets: jax.Array, weights: jax.Array) -> Metrics:
    """Cross entropy in nats and accuracy, over the last axis of the logits."""
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits.astype(jnp.float32), targets)
    correct = (logits.argmax(axis=-1) == targets).astype(jnp.float32)
    weight = weights.sum()
    return {
        f"{name}_loss": Mean((losses * weights).sum(), weight),
        f"{name}_accuracy": Mean((correct * weights).sum(), weight),
    }

"""Causal language modeling (Radford et al. 2018, 2019): predicting each token from the preceding tokens."""

import math
from collections.abc import Iterable

import jax
import numpy as np

from tx_jax.batch import Batch
from tx_jax.config import Phase
from tx_jax.config.data import CAUSAL
from tx_jax.data.pretraining.batches import causal_lm_batches
from tx_jax.models import registry
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.pretraining import Pretraining, PretrainingObjective, entropy, language_modeling


class CausalLMObjective(PretrainingObjective):
    """Predicts each token from the preceding tokens.

    Besides the loss in nats per token it reports bits per byte of text and nats per word, which are comparable across
    tokenizers.
    """

    head = "causal_lm"
    packings = CAUSAL

    def keys(self, phase: Phase) -> tuple[str, ...]:
        return (*super().keys(phase), "targets", "target_weights", "target_bytes", "target_words")

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"causal_lm_loss": batch["target_weights"].sum()}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        layer = self.apply(params, batch, dropout_rng=dropout_rng).output_layers["causal_lm"]
        metrics = language_modeling("causal_lm", layer, batch["targets"], batch["target_weights"])
        nats = metrics["causal_lm_loss"].total
        return metrics | {
            "bits_per_byte": WeightedSum(nats / math.log(2), batch["target_bytes"].sum()),
            "word_loss": WeightedSum(nats, batch["target_words"].sum()),
        }

    def flops_per_token(self, phase: Phase | None = None) -> float:
        length = self.data(phase).sequence_length
        return registry.flops_per_token(self.config.model, length, length)


class CausalLM(Pretraining):
    """Causal language modeling on token stores."""

    objective_class = CausalLMObjective
    make_batches = staticmethod(causal_lm_batches)

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        counts, num_bytes, num_words = np.zeros(self.stores.vocab_size), 0.0, 0.0
        for batch in batches:
            counts += self.unigrams(batch, "targets", "target_weights")
            num_bytes += float(np.sum(batch["target_bytes"]))
            num_words += float(np.sum(batch["target_words"]))
        nats = entropy(counts)
        return {
            "causal_lm_loss": (nats, "unigram entropy of the tokens"),
            "causal_lm_accuracy": (float(counts.max() / counts.sum()), "always the most frequent token"),
            "bits_per_byte": (nats * counts.sum() / math.log(2) / num_bytes, "the unigram entropy per byte"),
            "word_loss": (nats * counts.sum() / num_words, "the unigram entropy per word"),
        }

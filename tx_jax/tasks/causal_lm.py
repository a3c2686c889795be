"""Causal language modelling (Radford et al. 2018, 2019): each token from those before it."""

import math
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import Phase
from tx_jax.data.pretraining.batches import causal_lm_batches
from tx_jax.models import registry
from tx_jax.tasks.base import Batch, Metrics, WeightedSum
from tx_jax.tasks.pretraining import Pretraining, classification, entropy


class CausalLM(Pretraining):
    """The task of `causal_lm_batches`.

    Beside the loss in nats per token it reports bits per byte of text, which models with different tokenizers share.
    """

    make_batches = staticmethod(causal_lm_batches)

    def batch_shapes(self, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
        rows, length, _ = phase.shape
        return super().batch_shapes(phase) | {
            "targets": jax.ShapeDtypeStruct((rows, length), jnp.int32),
            "target_weights": jax.ShapeDtypeStruct((rows, length), jnp.float32),
            "target_bytes": jax.ShapeDtypeStruct((rows,), jnp.float32),
        }

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        return {"causal_lm_loss": batch["target_weights"].sum()}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        logits = self.apply(params, batch, dropout_rng=dropout_rng).causal_lm
        metrics = classification("causal_lm", logits, batch["targets"], batch["target_weights"])
        bits = metrics["causal_lm_loss"].total / math.log(2)
        return metrics | {"bits_per_byte": WeightedSum(bits, batch["target_bytes"].sum())}

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        counts, num_bytes = np.zeros(self.stores.vocab_size), 0.0
        for batch in batches:
            counts += self.unigrams(batch, "targets", "target_weights")
            num_bytes += float(np.sum(batch["target_bytes"]))
        nats = entropy(counts)
        return {
            "causal_lm_loss": (nats, "unigram entropy of the tokens"),
            "causal_lm_accuracy": (float(counts.max() / counts.sum()), "always the most frequent token"),
            "bits_per_byte": (nats * counts.sum() / math.log(2) / num_bytes, "the unigram entropy, spread over bytes"),
        }

    def flops_per_token(self, phase: Phase | None = None) -> float:
        length = self.data(phase).sequence_length
        return registry.flops_per_token(self.config.model, length, length)

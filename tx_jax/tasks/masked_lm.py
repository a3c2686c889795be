"""BERT pretraining: masked language modelling and, with sentence pairs, next-sentence prediction.

Devlin et al. 2018, section 3.1. The loss is the sum of the two mean losses.
Shapes: B batch, P predictions, V vocabulary.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import Phase
from tx_jax.data.pretraining.batches import masked_lm_batches
from tx_jax.models import registry
from tx_jax.models.output import Output
from tx_jax.tasks.base import Batch, Metrics, WeightedSum
from tx_jax.tasks.pretraining import Pretraining, classification, entropy


class MaskedLM(Pretraining):
    """The task of `masked_lm_batches`."""

    make_batches = staticmethod(masked_lm_batches)

    @property
    def next_sentence(self) -> bool:
        return "next_sentence" in self.config.model.heads

    def batch_shapes(self, phase: Phase) -> dict[str, jax.ShapeDtypeStruct]:
        rows, length, predictions = phase.shape
        shapes = super().batch_shapes(phase) | {
            "segments": jax.ShapeDtypeStruct((rows, length), jnp.int32),
            "masked_positions": jax.ShapeDtypeStruct((rows, predictions), jnp.int32),
            "masked_targets": jax.ShapeDtypeStruct((rows, predictions), jnp.int32),
            "masked_weights": jax.ShapeDtypeStruct((rows, predictions), jnp.float32),
            "masked_dropped": jax.ShapeDtypeStruct((rows,), jnp.float32),
        }
        if self.next_sentence:
            shapes["next_sentence_labels"] = jax.ShapeDtypeStruct((rows,), jnp.int32)
        return shapes

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        weights = {"masked_lm_loss": batch["masked_weights"].sum()}
        if self.next_sentence:
            weights["next_sentence_loss"] = batch["example_weights"].sum()
        return weights

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        output = self.apply(params, batch, dropout_rng=dropout_rng, masked_positions_BP=batch["masked_positions"])
        return self.masked_lm_metrics(output, batch)

    def masked_lm_metrics(self, output: Output, batch: Batch) -> Metrics:
        """Of the model's output on a batch."""
        metrics = classification("masked_lm", output.masked_lm, batch["masked_targets"], batch["masked_weights"])
        if self.next_sentence:
            metrics |= classification(
                "next_sentence", output.next_sentence, batch["next_sentence_labels"], batch["example_weights"]
            )
        dropped = batch["masked_dropped"].sum()
        return metrics | {"masked_dropped": WeightedSum(dropped, dropped + batch["masked_weights"].sum())}

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        counts, labels = np.zeros(self.stores.vocab_size), np.zeros(2)
        for batch in batches:
            counts += self.unigrams(batch, "masked_targets", "masked_weights")
            if self.next_sentence:
                labels += np.bincount(batch["next_sentence_labels"], batch["example_weights"], 2)
        baselines = {
            "masked_lm_loss": (entropy(counts), "unigram entropy of the masked tokens"),
            "masked_lm_accuracy": (float(counts.max() / counts.sum()), "always the most frequent token"),
        }
        if self.next_sentence:
            baselines["next_sentence_loss"] = (float(np.log(2)), "even odds")
            baselines["next_sentence_accuracy"] = (
                float(labels.max() / labels.sum()),
                "always the more frequent answer",
            )
        return baselines

    def flops_per_token(self, phase: Phase | None = None) -> float:
        data = self.data(phase)
        return registry.flops_per_token(self.config.model, data.sequence_length, data.max_predictions)

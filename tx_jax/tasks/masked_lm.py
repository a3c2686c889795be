"""BERT pretraining: masked language modeling and, with sentence pairs, next-sentence prediction.

Devlin et al. 2018, section 3.1. The loss is the sum of the two mean losses.
Shapes: B batch, P predictions, V vocabulary.
"""

from collections.abc import Iterable

import jax
import numpy as np

from tx_jax.batch import Batch
from tx_jax.config import Phase
from tx_jax.config.data import MASKED, PAIRED
from tx_jax.data.pretraining.batches import masked_lm_batches
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.models.output import Output
from tx_jax.tasks.base import Metrics, WeightedSum
from tx_jax.tasks.pretraining import (
    Pretraining,
    PretrainingObjective,
    classification,
    entropy,
    language_modeling,
)


class MaskedLMObjective(PretrainingObjective):
    """Predicts masked tokens and, where the model has that head, whether a sentence follows another."""

    head = "masked_lm"
    packings = MASKED

    def check(self) -> None:
        super().check()
        model, packing = self.config.model, self.config.data.packing
        if packing in PAIRED and (not self.next_sentence or model.num_segments < 2):
            raise InputError(
                f"data.packing={packing!r} trains next-sentence prediction: it needs 'next_sentence' in "
                f"model.heads={model.heads} and model.num_segments={model.num_segments} >= 2"
            )
        if packing not in PAIRED and self.next_sentence:
            raise InputError(
                f"data.packing={packing!r} makes no sentence pairs: drop 'next_sentence' from "
                "model.heads, --config.model.heads=\"('masked_lm',)\""
            )

    @property
    def next_sentence(self) -> bool:
        return "next_sentence" in self.config.model.heads

    def keys(self, phase: Phase) -> tuple[str, ...]:
        pairs = ("next_sentence_labels",) if self.next_sentence else ()
        masked = ("masked_positions", "masked_targets", "masked_weights", "masked_dropped")
        return (*super().keys(phase), "segments", *masked, *pairs)

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
        metrics = language_modeling(
            "masked_lm", output.output_layers["masked_lm"], batch["masked_targets"], batch["masked_weights"]
        )
        if self.next_sentence:
            metrics |= classification(
                "next_sentence",
                output.logits["next_sentence"],
                batch["next_sentence_labels"],
                batch["example_weights"],
            )
        dropped = batch["masked_dropped"].sum()
        return metrics | {"masked_dropped": WeightedSum(dropped, dropped + batch["masked_weights"].sum())}

    def flops_per_token(self, phase: Phase | None = None) -> float:
        data = self.data(phase)
        return registry.flops_per_token(self.config.model, data.sequence_length, data.max_predictions)


class MaskedLM(Pretraining):
    """Masked language modeling on token stores."""

    objective_class = MaskedLMObjective
    make_batches = staticmethod(masked_lm_batches)

    def baselines(self, batches: Iterable[Batch], split: str) -> dict[str, tuple[float, str]]:
        counts, labels = np.zeros(self.stores.vocab_size), np.zeros(2)
        for batch in batches:
            counts += self.unigrams(batch, "masked_targets", "masked_weights")
            if self.objective.next_sentence:
                labels += np.bincount(batch["next_sentence_labels"], batch["example_weights"], 2)
        baselines = {
            "masked_lm_loss": (entropy(counts), "unigram entropy of the masked tokens"),
            "masked_lm_accuracy": (float(counts.max() / counts.sum()), "always the most frequent token"),
        }
        if self.objective.next_sentence:
            baselines["next_sentence_loss"] = (float(np.log(2)), "even odds")
            baselines["next_sentence_accuracy"] = (
                float(labels.max() / labels.sum()),
                "always the more frequent answer",
            )
        return baselines

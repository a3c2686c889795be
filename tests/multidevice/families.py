"""Every family in small, with a batch and a loss over all its heads, for any mesh of up to 8 devices."""

import dataclasses

import jax
import numpy as np
import optax

from tests.models import small
from tx_jax.config import MeshConfig, TransformerConfig
from tx_jax.models import registry
from tx_jax.tasks.base import Batch, Metrics, WeightedSum
from tx_jax.tasks.pretraining import classification, language_modeling

# Sizes that 2, 4 and 8 divide, of which no two make arrays of the same shape or number of elements by chance.
EXAMPLES, LENGTH, PREDICTIONS, VOCABULARY, DIM = 40, 24, 8, 80, 32


def config(**changes) -> TransformerConfig:
    """Of one layer. Of families whose layers are not all alike there are two, and so a way from one to the next."""
    sizes = {"num_layers": 1, "vocab_size": VOCABULARY, "dim": DIM, "mlp_dim": 96, "max_length": 56}
    return small.config(**(sizes | {"dropout": 0.0, "attention_dropout": 0.0} | changes))


MESHES = {
    "one": MeshConfig(1, 1, 1),
    "data": MeshConfig(8, 1, 1),
    "fsdp": MeshConfig(1, 8, 1),
    "tensor": MeshConfig(1, 1, 4),
    "data x context": MeshConfig(2, 1, 1, context=4),
    "fsdp x tensor x context": MeshConfig(1, 2, 2, context=2),
}

FAMILIES = {
    "BERT": config(),
    "RoBERTa": config(heads=("masked_lm",), num_segments=0, position_offset=2),
    "DeBERTa-v3": config(
        heads=("masked_lm",),
        num_layers=2,
        num_segments=0,
        position_embedding="none",
        relative_attention=("c2p", "p2c"),
        relative_distance=20,
        relative_buckets=8,
        relative_norm=True,
        share_relative_projections=True,
        conv_kernel=3,
        enhanced_mask_decoder=True,
    ),
    "ModernBERT": config(heads=("masked_lm",), num_layers=2, **small.MODERNBERT),
    "ELECTRA": config(heads=("masked_lm", "replaced_token"), embedding_dim=16),
    "GPT-2": config(
        architecture="decoder",
        heads=("causal_lm",),
        num_segments=0,
        norm_position="pre",
        embedding_norm=False,
        activation="gelu_tanh",
    ),
    "GPT-2 in chunks": config(  # whose loss is computed in several, see `sharded.py`
        architecture="decoder", heads=("causal_lm",), num_segments=0, norm_position="pre", embedding_norm=False
    ),
    "encoder-decoder": config(
        architecture="encoder_decoder",
        heads=("causal_lm",),
        num_decoder_layers=1,
        num_segments=0,
        position_embedding="sinusoidal",
        embedding_norm=False,
        activation="relu",
    ),
}


def batch() -> dict[str, np.ndarray]:
    """Rows of several lengths, with all that any family reads."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(LENGTH // 2, LENGTH + 1, EXAMPLES)
    valid = np.arange(LENGTH)[None] < lengths[:, None]
    return {
        "tokens": rng.integers(0, VOCABULARY, (EXAMPLES, LENGTH), np.int32),
        "valid": valid,
        "segments": rng.integers(0, 2, (EXAMPLES, LENGTH), np.int32),
        "targets": rng.integers(0, VOCABULARY, (EXAMPLES, LENGTH), np.int32),
        "target_weights": valid.astype(np.float32),
        "masked_positions": np.stack([np.sort(rng.permutation(n)[:PREDICTIONS]) for n in lengths]).astype(np.int32),
        "masked_targets": rng.integers(0, VOCABULARY, (EXAMPLES, PREDICTIONS), np.int32),
        "masked_weights": rng.integers(0, 2, (EXAMPLES, PREDICTIONS)).astype(np.float32),
        "next_sentence_labels": rng.integers(0, 2, EXAMPLES, np.int32),
        "example_weights": np.ones(EXAMPLES, np.float32),
    }


@dataclasses.dataclass(frozen=True)
class AllHeads:
    """A task, as far as a train step needs it: the losses of all heads that a model has."""

    model: TransformerConfig

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        weights = {"masked_lm": "masked_weights", "next_sentence": "example_weights"}
        return {f"{head}_loss": batch[weights.get(head, "target_weights")].sum() for head in self.model.heads}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        model = self.model
        if model.architecture == "encoder_decoder":
            inputs = {"target_tokens_BT": batch["targets"], "target_valid_BT": batch["valid"]}
            inputs["valid_BS"] = batch["valid"]
        else:
            inputs = {"valid_BT": batch["valid"], "segments_BT": batch["segments"] if model.num_segments else None}
        if "masked_lm" in model.heads:
            inputs["masked_positions_BP"] = batch["masked_positions"]
        output = registry.build(model).apply({"params": params}, batch["tokens"], **inputs, deterministic=True)
        metrics = {}
        if "masked_lm" in model.heads:
            layer = output.output_layers["masked_lm"]
            metrics |= language_modeling("masked_lm", layer, batch["masked_targets"], batch["masked_weights"])
        if "next_sentence" in model.heads:
            labels, weights = batch["next_sentence_labels"], batch["example_weights"]
            metrics |= classification("next_sentence", output.logits["next_sentence"], labels, weights)
        if "causal_lm" in model.heads:
            layer = output.output_layers["causal_lm"]
            metrics |= language_modeling("causal_lm", layer, batch["targets"], batch["target_weights"])
        if "replaced_token" in model.heads:
            losses = optax.sigmoid_binary_cross_entropy(output.logits["replaced_token"], batch["targets"] % 2)
            weights = batch["target_weights"]
            metrics["replaced_token_loss"] = WeightedSum((losses * weights).sum(), weights.sum())
        return metrics

"""Distillation: a student with fewer layers learns to predict what its teacher does (DistilBERT, Sanh et al. 2019).

The teacher's parameters are part of the run's, under `teacher/`, but are frozen. So they are sharded and restored like
all others. Shapes: B batch, T length, P predictions, D model, V vocabulary.
"""

import dataclasses

import jax
import jax.numpy as jnp
import optax

from tx_jax.batch import Batch, token_weights
from tx_jax.config import Phase, TransformerConfig
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.tasks.base import Metrics, WeightedSum, model_inputs
from tx_jax.tasks.masked_lm import MaskedLM, MaskedLMObjective

TEACHER = "teacher"


class DistillationObjective(MaskedLMObjective):
    """Masked language modeling with a teacher.

    The soft targets are taken at the masked positions alone, where the head runs (the published code has this as
    `--restrict_ce_to_mask`); the hidden states are compared at all tokens.
    """

    def check(self) -> None:
        super().check()
        config = self.config
        if not config.distillation.layers:
            raise InputError(
                "task='distillation' needs a student: --config.distillation.layers=N, fewer than the teacher has"
            )
        if config.model.heads != ("masked_lm",):
            raise InputError(f"model.heads={config.model.heads}: distillation needs ('masked_lm',)")

    @property
    def teacher(self) -> TransformerConfig:
        config = self.config.distillation
        return dataclasses.replace(
            self.config.model, num_layers=config.teacher_layers, num_segments=config.teacher_segments
        )

    def init(self, rng: jax.Array) -> dict:
        return super().init(rng) | {TEACHER: registry.init_params(self.teacher, rng)}

    def loss_weights(self, batch: Batch) -> dict[str, jax.Array]:
        """A loss is divided by its weight: one that counts five times has a fifth of the weight."""
        config, masked, tokens = self.config.distillation, batch["masked_weights"].sum(), token_weights(batch).sum()
        weights = {
            "soft_loss": (masked, config.soft_weight),
            "masked_lm_loss": (masked, config.masked_lm_weight),
            "cosine_loss": (tokens, config.cosine_weight),
        }
        return {name: weight / share for name, (weight, share) in weights.items() if share}

    def metrics(self, params: dict, batch: Batch, *, dropout_rng: jax.Array | None) -> Metrics:
        student = {name: module for name, module in params.items() if name != TEACHER}
        positions = batch["masked_positions"]
        output = self.apply(student, batch, dropout_rng=dropout_rng, masked_positions_BP=positions)
        taught = registry.build(self.teacher).apply(
            {"params": params[TEACHER]},
            batch["tokens"],
            **model_inputs(batch),
            masked_positions_BP=positions,
            deterministic=True,
        )
        weights_BP, tokens_BT = batch["masked_weights"], token_weights(batch)
        temperature = self.config.distillation.temperature
        soft_BP = optax.losses.kl_divergence_with_log_targets(
            jax.nn.log_softmax(output.logits["masked_lm"] / temperature),
            jax.nn.log_softmax(taught.logits["masked_lm"] / temperature),
        )
        cosine_BT = optax.losses.cosine_distance(
            output.hidden.astype(jnp.float32), taught.hidden.astype(jnp.float32), epsilon=1e-6
        )
        return self.masked_lm_metrics(output, batch) | {
            "soft_loss": WeightedSum((soft_BP * weights_BP).sum() * temperature**2, weights_BP.sum()),
            "cosine_loss": WeightedSum((cosine_BT * tokens_BT).sum(), tokens_BT.sum()),
        }

    def flops_per_token(self, phase: Phase | None = None) -> float:
        """The student's FLOPs plus the teacher's forward pass, which is a third of those of training it."""
        data = self.data(phase)
        teacher = registry.flops_per_token(self.teacher, data.sequence_length, data.max_predictions)
        return super().flops_per_token(phase) + teacher / 3


class Distillation(MaskedLM):
    """Distillation on token stores."""

    objective_class = DistillationObjective

"""The configuration of distillation: learning from a larger model."""

import dataclasses
import math

from tx_jax.config.checks import require


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """A student with fewer layers learns from the masked LM that `start_from` names, as DistilBERT (Sanh et al. 2019).

    Its layers are initialized from the teacher's (with half as many layers, from every second one), and so are its
    other parameters. It has no pooler and no segments: the embedding of BERT's first segment is added to the position
    table. The loss is the weighted sum of three: the Kullback-Leibler divergence from the teacher's softened
    distribution at the masked positions, times temperature squared; the masked LM's own loss; and one minus the cosine
    of the two models' last hidden states.

    Attributes:
      layers: number of the student's layers; 0 = no distillation.
      teacher_layers, teacher_segments: filled in from the teacher.
      temperature: divides the logits of both models.
      soft_weight, masked_lm_weight, cosine_weight: weights of the three losses; the defaults are those of the
        published training command (huggingface/transformers, research_projects/distillation).
    """

    layers: int = 0
    teacher_layers: int = 0
    teacher_segments: int = 0
    temperature: float = 2.0
    soft_weight: float = 5.0
    masked_lm_weight: float = 2.0
    cosine_weight: float = 1.0

    def __post_init__(self):
        require(self.layers >= 0, f"distillation.layers={self.layers} must not be negative")
        require(
            not self.teacher_layers or self.layers <= self.teacher_layers,
            f"distillation.layers={self.layers} exceeds the {self.teacher_layers} layers of the teacher",
        )
        for name in ("soft_weight", "masked_lm_weight", "cosine_weight"):
            value = getattr(self, name)
            require(0 <= value < math.inf, f"distillation.{name}={value} must not be negative or infinite")
        require(0 < self.temperature < math.inf, f"distillation.temperature={self.temperature} must be positive")

    def teacher_layer(self, layer: int) -> int:
        """The teacher's layer that a layer of the student is initialized from: every second one of twice as many."""
        return layer * self.teacher_layers // self.layers


NO_DISTILLATION = DistillationConfig()

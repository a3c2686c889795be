"""What a model returns."""

import dataclasses
from collections.abc import Mapping

import flax.struct
import jax

from tx_jax.nn.cross_entropy import OutputLayer


@flax.struct.dataclass
class Output:
    """What a model computes from a batch.

    Shapes: B batch, T length, P predictions, D model, V vocabulary.

    Attributes:
      hidden: [B, T, D], the last layer's output.
      logits: the logits of each configured head with an output layer, by the head's name; float32.
        masked_lm: [B, P, V], or [B, T, V] if no positions were given.
        next_sentence: [B, 2]; 0 = B follows A.
        replaced_token: [B, T]; positive = the token is a replacement.
        causal_lm: [B, T, V], for the next token.
        sequence_classification: [B, labels].
        token_classification: [B, T, labels].
        question_answering: [B, T, 2]: the answer's first and last token.
        multiple_choice: [B], where each choice is a row of the batch; the softmax is over a question's choices.
      pooled: [B, D]; None if no head reads it.
      output_layers: of the heads over the vocabulary, the layer that makes the logits, with its input: for a loss that
        needs no logits. What is not used is not computed in a compiled function.
    """

    hidden: jax.Array
    logits: Mapping[str, jax.Array]
    pooled: jax.Array | None = None
    output_layers: Mapping[str, OutputLayer] = dataclasses.field(default_factory=dict)

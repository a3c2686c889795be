"""What a model returns."""

from collections.abc import Mapping

import flax.struct
import jax


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
    """

    hidden: jax.Array
    logits: Mapping[str, jax.Array]
    pooled: jax.Array | None = None

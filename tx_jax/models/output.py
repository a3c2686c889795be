"""What a model returns."""

import flax.struct
import jax


@flax.struct.dataclass
class Output:
    """What a model's configuration has no head for is None. Logits are float32.

    Shapes: B batch, T length, P predictions, D model, V vocabulary.

    Attributes:
      hidden: [B, T, D], the last layer.
      pooled: [B, D].
      masked_lm: logits [B, P, V], or [B, T, V] where no positions were asked for.
      next_sentence: logits [B, 2]; 0 = B follows A.
      replaced_token: logits [B, T]; positive = the token is a replacement.
      causal_lm: logits [B, T, V] of the next token.
      sequence_classification: logits [B, labels].
      token_classification: logits [B, T, labels].
      question_answering: logits [B, T, 2]: the answer's first and last token.
      multiple_choice: scores [B], each choice being a row of the batch; a question's choices compete in a softmax.
    """

    hidden: jax.Array
    pooled: jax.Array | None = None
    masked_lm: jax.Array | None = None
    next_sentence: jax.Array | None = None
    replaced_token: jax.Array | None = None
    causal_lm: jax.Array | None = None
    sequence_classification: jax.Array | None = None
    token_classification: jax.Array | None = None
    question_answering: jax.Array | None = None
    multiple_choice: jax.Array | None = None

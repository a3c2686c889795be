"""The logit lens: what each layer would predict, were it the last (nostalgebraist 2020, "interpreting GPT: the logit
lens"). The model's own head, with the closing norm before it if there is one, reads every layer's hidden states; of an
encoder the masked LM's head does.

Shapes: L layers and the embeddings, P places, V vocabulary, B batch, T length.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.data.by_length import bucket
from tx_jax.errors import InputError
from tx_jax.interpret import capture, predictions, sites
from tx_jax.interpret.texts import Row, arrays


@dataclasses.dataclass(frozen=True)
class Lens:
    """
    Attributes:
      places: the tokens at which something is predicted: the masks, or of a decoder all.
      logits: float32 [L, P, V].
    """

    places: tuple[int, ...]
    logits: np.ndarray

    def log_probabilities(self) -> np.ndarray:
        """[L, P, V]."""
        x = self.logits.astype(np.float64)
        x = x - x.max(-1, keepdims=True)
        return x - np.log(np.exp(x).sum(-1, keepdims=True))

    def ranks(self, ids: np.ndarray) -> np.ndarray:
        """The rank of a token at each place, [L, P]; 1 = the likeliest.

        Args:
          ids: int [P].
        """
        own = np.take_along_axis(self.logits, np.broadcast_to(ids[None, :, None], (*self.logits.shape[:2], 1)), axis=-1)
        return 1 + (self.logits > own).sum(-1)

    def divergences(self) -> np.ndarray:
        """KL(last layer || layer) at each place, nats: [L, P]."""
        log_p = self.log_probabilities()
        last = log_p[-1:]
        return (np.exp(last) * (last - log_p)).sum(-1)


def look(model: capture.Model, row: Row) -> Lens:
    """What each layer predicts at the masks of a row, or of a decoder at every token.

    Raises:
      InputError: the model is no language model, its masked LM has a decoder of its own (DeBERTa's), or there is no
        mask.
    """
    config = model.model
    stack = sites.only_stack(config)
    head = predictions.head_of(model, classifiers=False)
    if config.enhanced_mask_decoder:
        raise InputError("DeBERTa's mask decoder reads two layers, so the lens cannot show what one would predict")
    tokenizer = model.require_tokenizer()
    places = [i for i, token in enumerate(row.ids) if head == "causal_lm" or token == tokenizer.mask_id]
    if not places:
        raise InputError(f"no {tokenizer.token(tokenizer.mask_id)} in the text: write it where the model shall predict")
    read, through = _compiled(config, stack, head)
    with jax.set_mesh(model.mesh):
        length = bucket(len(row.ids), config.max_length)
        inputs = {key: jnp.asarray(value) for key, value in arrays([row], config, length).items()}
        padded = np.resize(places, 1 << (len(places) - 1).bit_length())  # few shapes
        states = read(model.params, inputs)
        logits = [np.asarray(through(model.params, inputs, x, padded))[: len(places)] for x in states]
    # The model's table may be padded beyond the tokenizer's vocabulary.
    return Lens(tuple(places), np.stack(logits)[..., : tokenizer.vocab_size])


@functools.lru_cache(maxsize=8)
def _compiled(config: TransformerConfig, stack: str, head: str) -> tuple[Callable, Callable]:
    names = (f"{stack}/input", *(f"{stack}/layer_{i}/output" for i in range(config.num_layers)))

    def read(params: Any, inputs: Any) -> tuple[jax.Array, ...]:
        _, values = capture.run(config, params, inputs, read=names)
        return tuple(values[name] for name in names)

    def through(params: Any, inputs: Any, state_BTD: jax.Array, places: jax.Array) -> jax.Array:
        """Logits [P, V]. The state takes the place of the last layer's output, and no layer is computed."""
        output, _ = capture.run(config, params, inputs, write={names[-1]: lambda _: state_BTD})
        return output.logits[head][0, places].astype(jnp.float32)

    return jax.jit(read), jax.jit(through)

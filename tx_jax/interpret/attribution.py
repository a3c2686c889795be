"""Which tokens a prediction comes from.

Integrated gradients (Sundararajan et al. 2017), along the straight line from a baseline in which every token that is
not special is a neutral one; attention rollout (Abnar & Zuidema 2020), which knows nothing of the prediction; and two
baselines that see the model as a black box: occlusion (Zeiler & Fergus 2014; Li et al. 2016), one token neutral at a
time, and LIME (Ribeiro et al. 2016), a linear model of many random choices.

Shapes: T tokens, E width of the token table, N points.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.data.by_length import bucket
from tx_jax.interpret import capture, predictions, sites
from tx_jax.interpret.predictions import Question
from tx_jax.interpret.texts import Row, arrays

Score = Callable[[np.ndarray], np.ndarray]
BATCH_SIZE = 32
SITE = "embeddings/token"
STEPS, MOST_STEPS, TOLERANCE = 64, 1024, 0.01


class Embedded:
    """A question as a function of its token embeddings.

    Attributes:
      x, baseline: float32 [T, E], those of the text and of the neutral text. Special tokens and the mask that is asked
        about are the same in both.
      neutral: the name of the neutral token; "zeros" where the vocabulary has none.
    """

    def __init__(self, model: capture.Model, question: Question):
        """Raises InputError if the model has two stacks."""
        config = model.model
        sites.only_stack(config)
        self._model, self._question = model, question
        self._compute = _compiled(config, predictions.head_of(model), question.wrong is not None)
        tokenizer, row = model.require_tokenizer(), question.row
        table = np.asarray(model.params["embeddings"]["token"]["embedding"], np.float32)
        kept = np.array(row.special)
        if predictions.head_of(model) == "masked_lm":
            kept[question.place] = True
        # Padding would be hidden from attention, so a mask stands for "some word"; GPT-2 has nothing of the kind.
        neutral = tokenizer.mask_id if tokenizer.mask_id is not None else tokenizer.unk_id
        self.neutral = "zeros" if neutral is None else tokenizer.token(neutral)
        self.x = table[list(row.ids)]
        empty = np.zeros_like(self.x) if neutral is None else np.broadcast_to(table[neutral], self.x.shape)
        self.baseline = np.where(kept[:, None], self.x, empty)

    def score(self, embeddings_NTE: np.ndarray) -> np.ndarray:
        """The answer's score at each of N points, see `predictions.scores`: [N]."""
        return self._run(embeddings_NTE)[0]

    def gradient(self, embeddings_NTE: np.ndarray) -> np.ndarray:
        """The score's gradient at each point: [N, T, E]."""
        return self._run(embeddings_NTE)[1]

    def _run(self, embeddings_NTE: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        config, question = self._model.model, self._question
        length = bucket(len(question.row.ids), config.max_length)
        inputs = arrays([question.row] * BATCH_SIZE, config, length)
        asked = predictions.arrays([question] * BATCH_SIZE)
        values, gradients = [], []
        with jax.set_mesh(self._model.mesh):
            for start in range(0, len(embeddings_NTE), BATCH_SIZE):
                some = embeddings_NTE[start : start + BATCH_SIZE].astype(np.float32)
                missing = BATCH_SIZE - len(some), length - some.shape[1]
                padded = np.pad(some, ((0, missing[0]), (0, missing[1]), (0, 0)))
                value, gradient = jax.device_get(self._compute(self._model.params, inputs, padded, *asked))
                values.append(value[: len(some)])
                gradients.append(gradient[: len(some), : some.shape[1]])
        return np.concatenate(values), np.concatenate(gradients)


@functools.lru_cache(maxsize=8)
def _compiled(config: TransformerConfig, head: str, compares: bool) -> Callable:
    def total(embeddings: jax.Array, params: Any, inputs: Any, places: Any, answers: Any, wrong: Any) -> Any:
        inputs = {key: jnp.asarray(value) for key, value in inputs.items()}
        output, _ = capture.run(config, params, inputs, write={SITE: lambda _: embeddings})
        found = predictions.scores(output, head, places, answers, wrong if compares else None)
        return found.sum(), found

    def both(params: Any, inputs: Any, embeddings: jax.Array, *asked: Any) -> tuple[jax.Array, jax.Array]:
        (_, values), gradients = jax.value_and_grad(total, has_aux=True)(embeddings, params, inputs, *asked)
        return values, gradients

    return jax.jit(both)


def integrated_gradients(gradient: Score, x_TE: np.ndarray, baseline_TE: np.ndarray, steps: int) -> np.ndarray:
    """The share of each token in the difference of the score between text and baseline: [T].

    Args:
      gradient: of points [N, T, E], the gradients there.
      steps: points on the line, at the middles of as many equal parts.
    """
    total = np.zeros(x_TE.shape)
    places = (np.arange(steps) + 0.5) / steps
    for start in range(0, steps, BATCH_SIZE):
        some = places[start : start + BATCH_SIZE, None, None]
        total += gradient(baseline_TE[None] + some * (x_TE - baseline_TE)[None]).sum(axis=0)
    return ((x_TE - baseline_TE) * total / steps).sum(axis=-1)


def complete(embedded: Embedded, steps: int = STEPS) -> tuple[np.ndarray, float, int]:
    """Integrated gradients with as many steps as completeness needs: the attributions add up to the difference of the
    scores, to within `TOLERANCE` of it.

    Returns:
      The attributions [T], by how much of the difference they miss it, and the steps. A larger miss than `TOLERANCE`
      remains where `MOST_STEPS` are too few.
    """
    ends = embedded.score(np.stack([embedded.x, embedded.baseline]))
    difference = float(ends[0] - ends[1])
    while True:
        found = integrated_gradients(embedded.gradient, embedded.x, embedded.baseline, steps)
        missed = abs(float(found.sum()) - difference) / max(abs(difference), 1e-9)
        if missed <= TOLERANCE or 2 * steps > MOST_STEPS:
            return found, missed, steps
        steps *= 2


def occlusion(score: Score, x_TE: np.ndarray, baseline_TE: np.ndarray) -> np.ndarray:
    """By how much the score falls where each token is replaced by the baseline's: [T]."""
    points = np.repeat(x_TE[None], len(x_TE) + 1, axis=0)
    for place in range(len(x_TE)):
        points[place, place] = baseline_TE[place]
    found = score(points)
    return found[-1] - found[:-1]


def lime(
    score: Score, x_TE: np.ndarray, baseline_TE: np.ndarray, *, samples: int = 512, seed: int = 0, ridge: float = 1e-3
) -> np.ndarray:
    """The coefficients [T] of a linear model of the score, by which tokens are the text's and which the baseline's in
    random choices of half of them (Ribeiro et al. 2016, section 3.4)."""
    rng, length = np.random.default_rng(seed), len(x_TE)
    kept = rng.random((samples, length)) < 0.5
    found = np.concatenate(
        [
            score(np.where(part[:, :, None], x_TE[None], baseline_TE[None]))
            for part in np.array_split(kept, -(-samples // BATCH_SIZE))
        ]
    )
    changed = np.abs(x_TE - baseline_TE).max(axis=-1) > 0
    design = kept[:, changed].astype(np.float64)
    design = design - design.mean(axis=0, keepdims=True)
    coefficients = np.linalg.solve(
        design.T @ design + ridge * np.eye(design.shape[1]), design.T @ (found - found.mean())
    )
    result = np.zeros(length)
    result[changed] = coefficients
    return result


def rollout(model: capture.Model, row: Row) -> np.ndarray:
    """How much of each token each token's last hidden state holds if attention were all that moves it: [T, T].

    The product over layers of the mean over heads and the identity, half each (Abnar & Zuidema 2020, section 3.1).
    """
    config = model.model
    stack = sites.only_stack(config)
    names = [f"{stack}/layer_{i}/attention/probabilities" for i in range(config.num_layers)]
    (values,) = capture.collect(model, [row], names)
    total = np.eye(len(row.ids))
    for name in names:
        mixed = 0.5 * values[name].mean(axis=0, dtype=np.float64) + 0.5 * np.eye(len(row.ids))
        total = mixed / mixed.sum(axis=-1, keepdims=True) @ total
    return total

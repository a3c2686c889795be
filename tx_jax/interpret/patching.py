"""Activation patching: what a prediction becomes where a part of the model has the activations of another text (Vig et
al. 2020, "Causal Mediation Analysis"; Meng et al. 2022, "Locating and Editing Factual Associations in GPT").

Shapes: L layers, H heads, T length, N patched runs.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.data.by_length import bucket
from tx_jax.errors import InputError
from tx_jax.interpret import capture, predictions, sites
from tx_jax.interpret.predictions import Question
from tx_jax.interpret.texts import Row, arrays

# What can be patched -> the site in a layer.
PARTS = {"hidden": "output", "attention": "attention/output", "mlp": "mlp/output", "heads": "attention/heads"}
BATCH_SIZE = 64


@dataclasses.dataclass(frozen=True)
class Patched:
    """
    Attributes:
      scores: [L, T] by layer and position, or [L, H] by layer and head: the answer's score with that part from the
        donor. Of "hidden" there is one more layer, the embeddings, first.
      base, donor: its scores in the two texts as they are.
    """

    scores: np.ndarray
    base: float
    donor: float

    @property
    def restored(self) -> np.ndarray:
        """0 where the score is still the base's, 1 where it is the donor's."""
        return (self.scores - self.base) / (self.donor - self.base)


def patch(
    model: capture.Model,
    question: Question,
    donor: Row,
    part: str,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Patched:
    """The score of a question's answer with each part of the model patched in turn: a layer's activation at one token;
    of heads, at all tokens.

    Args:
      part: of `PARTS`.
      donor: the row whose activations are put in.

    Raises:
      InputError: the texts have different numbers of tokens, or there is no such part.
    """
    names, count = _sites(model.model, part), len(question.row.ids)
    require_same_length(question.row, donor)
    units = model.model.num_heads if part == "heads" else count
    grid = np.array(list(np.ndindex(len(names), units)))
    chosen = np.zeros((len(names), len(grid), units), bool)
    chosen[grid[:, 0], np.arange(len(grid)), grid[:, 1]] = True
    found = run(model, question, donor, part, chosen, progress=progress)
    ends = run(model, question, donor, part, np.zeros((len(names), 1, units), bool))
    (of_donor,) = score_rows(model, [dataclasses.replace(question, row=donor)])
    return Patched(found.reshape(len(names), units), float(ends[0]), float(of_donor))


def require_same_length(row: Row, donor: Row) -> None:
    """Raises InputError unless the tokens of two texts stand in the same places."""
    if len(row.ids) != len(donor.ids):
        raise InputError(
            f"patching needs texts of the same number of tokens: {len(row.ids)} ({' '.join(row.tokens)}) and "
            f"{len(donor.ids)} ({' '.join(donor.tokens)})"
        )


def _sites(config: TransformerConfig, part: str) -> tuple[str, ...]:
    if part not in PARTS:
        raise InputError(f"{part!r} cannot be patched: {', '.join(PARTS)} can")
    stack = sites.only_stack(config)
    layers = tuple(f"{stack}/layer_{i}/{PARTS[part]}" for i in range(config.num_layers))
    return (f"{stack}/input", *layers) if part == "hidden" else layers


def run(
    model: capture.Model,
    question: Question,
    donor: Row,
    part: str,
    chosen: np.ndarray,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> np.ndarray:
    """The scores [N] of N runs, each with its own choice of what comes from the donor.

    Args:
      chosen: bool [L, N, T], or [L, N, H] for heads: where the donor's activations are put in.
    """
    config, head = model.model, predictions.head_of(model)
    names, length = _sites(config, part), bucket(len(question.row.ids), config.max_length)
    if part != "heads":
        chosen = np.pad(chosen, ((0, 0), (0, 0), (0, length - chosen.shape[2])))
    read, patched = _compiled(config, names, head, question.wrong is not None)
    found, total = [], chosen.shape[1]
    size = min(BATCH_SIZE, 1 << (total - 1).bit_length())
    with jax.set_mesh(model.mesh):
        donors = read(model.params, arrays([donor], config, length))
        for start in range(0, total, size):
            some = chosen[:, start : start + size]
            filled = np.pad(some, ((0, 0), (0, size - some.shape[1]), (0, 0)))
            inputs = arrays([question.row] * size, config, length)
            values = patched(model.params, inputs, donors, filled, *predictions.arrays([question] * size))
            found.append(np.asarray(values)[: some.shape[1]])
            progress(start + some.shape[1], total)
    return np.concatenate(found)


@functools.lru_cache(maxsize=16)
def _compiled(
    config: TransformerConfig, names: tuple[str, ...], head: str, compares: bool
) -> tuple[Callable, Callable]:
    def read(params: Any, inputs: Any) -> tuple[jax.Array, ...]:
        _, values = capture.run(config, params, _on_device(inputs), read=names)
        return tuple(values[name] for name in names)

    def patched(
        params: Any,
        inputs: Any,
        donors: tuple[jax.Array, ...],
        chosen: jax.Array,
        places: jax.Array,
        answers: jax.Array,
        wrong: jax.Array,
    ) -> jax.Array:
        def put(layer: int) -> capture.Write:
            # Of hidden states [N, T, D], a choice for each token; of heads [N, T, H, K], for each head.
            def write(x: jax.Array) -> jax.Array:
                where = chosen[layer][:, None, :, None] if x.ndim == 4 else chosen[layer][:, :, None]
                return jnp.where(where, donors[layer], x)

            return write

        write = {name: put(layer) for layer, name in enumerate(names)}
        output, _ = capture.run(config, params, _on_device(inputs), write=write)
        return predictions.scores(output, head, places, answers, wrong if compares else None)

    return jax.jit(read), jax.jit(patched)


def _on_device(inputs: dict[str, Any]) -> dict[str, jax.Array]:
    return {key: jnp.asarray(value) for key, value in inputs.items()}


def score_rows(model: capture.Model, questions: Sequence[Question]) -> np.ndarray:
    """The scores of questions of one length in the model as it is: [N]."""
    config, head = model.model, predictions.head_of(model)
    length = bucket(max(len(one.row.ids) for one in questions), config.max_length)
    score = _scored(config, head, questions[0].wrong is not None)
    with jax.set_mesh(model.mesh):
        inputs = arrays([one.row for one in questions], config, length)
        return np.asarray(score(model.params, inputs, *predictions.arrays(questions)))


@functools.lru_cache(maxsize=16)
def _scored(config: TransformerConfig, head: str, compares: bool) -> Callable:
    def score(params: Any, inputs: Any, places: jax.Array, answers: jax.Array, wrong: jax.Array) -> jax.Array:
        output, _ = capture.run(config, params, _on_device(inputs))
        return predictions.scores(output, head, places, answers, wrong if compares else None)

    return jax.jit(score)

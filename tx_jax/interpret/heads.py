"""What each head of attention does, and how much it matters.

Patterns of heads after Clark et al. 2019, "What Does BERT Look At?": entropy, distance, special tokens, the previous
token, the syntactic head. Importance after Michel et al. 2019, "Are Sixteen Heads Really Better than One?": the
gradient of the loss by a gate on each head, and the loss without it.

Shapes: L layers, H heads, T tokens, W words.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError
from tx_jax.interpret import ablation, capture, predictions, sites
from tx_jax.interpret.texts import NO_WORD, Row, batches

PATTERNS = {
    "entropy": "entropy of the weights, nats",
    "distance": "mean distance to what is attended to, tokens",
    "special": "weight on special tokens",
    "first": "weight on the first token",
    "previous": "weight on the previous token",
    "next": "weight on the next token",
    "self": "weight on the token itself",
}


def patterns(
    model: capture.Model, rows: Sequence[Row], *, progress: Callable[[int, int], None] = lambda done, total: None
) -> dict[str, np.ndarray]:
    """The mean of each of the `PATTERNS` over all tokens that are not special: [L, H] by name."""
    config = model.model
    names = _probabilities(config)
    sums, tokens = {name: np.zeros((len(names), config.num_heads)) for name in PATTERNS}, 0
    for index, values, _ in capture.stream(model, rows, names, progress=progress):
        row = rows[index]
        p_LHTS = np.stack([values[name] for name in names])
        queries = np.flatnonzero(~np.array(row.special))
        for name, value in _of_row(p_LHTS, np.array(row.special)).items():
            sums[name] += value[:, :, queries].sum(-1)
        tokens += len(queries)
    return {name: value / tokens for name, value in sums.items()}


def _probabilities(config: TransformerConfig) -> list[str]:
    stack = sites.only_stack(config)
    return [f"{stack}/layer_{i}/attention/probabilities" for i in range(config.num_layers)]


def _of_row(p_LHTS: np.ndarray, special_S: np.ndarray) -> dict[str, np.ndarray]:
    """Each pattern of each query: [L, H, T]."""
    length = p_LHTS.shape[-1]
    distance = np.abs(np.arange(length)[:, None] - np.arange(length)[None])
    shifted = {}
    for name, shift in (("previous", -1), ("next", 1)):
        shifted[name] = np.zeros(p_LHTS.shape[:3])
        diagonal = np.diagonal(p_LHTS, shift, axis1=2, axis2=3)
        shifted[name][..., slice(1, None) if shift < 0 else slice(0, length - 1)] = diagonal
    return {
        "entropy": -(p_LHTS * np.log(np.maximum(p_LHTS, 1e-30))).sum(-1),
        "distance": (p_LHTS * distance).sum(-1),
        "special": p_LHTS[..., special_S].sum(-1),
        "first": p_LHTS[..., 0],
        "self": np.diagonal(p_LHTS, axis1=2, axis2=3),
        **shifted,
    }


@dataclasses.dataclass(frozen=True)
class Syntax:
    """How often a head's strongest word is the syntactic head, or a dependent.

    Attributes:
      to_head: [L, H], the share of words whose syntactic head gets most of their attention among all other words.
      to_dependent: [L, H], the same from the head's side: the share of words that get most of their head's attention.
      relations: by relation: (number of words, layer, head, direction, the best share there, the best fixed offset, its
        share), the relation's best head beside the best baseline "the word at such a distance".
      words: how many words have a syntactic head.
      baseline: the best fixed offset over all relations, and its share.
    """

    to_head: np.ndarray
    to_dependent: np.ndarray
    relations: dict[str, tuple[int, int, int, str, float, int, float]]
    words: int
    baseline: tuple[int, float]


def syntax(
    model: capture.Model,
    rows: Sequence[Row],
    parents: Sequence[Sequence[int]],
    relations: Sequence[Sequence[str]],
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Syntax:
    """Compares heads with a treebank (Clark et al. 2019, section 4.2).

    Attention to a word is the sum over its pieces, from a word the mean over them; special tokens and the word itself
    do not count.

    Args:
      rows: rows of words.
      parents: each word's syntactic head, from 0; -1 for the root.

    Raises:
      InputError: a sentence has another number of words than of heads.
    """
    config, names = model.model, _probabilities(model.model)
    hits: dict[str, np.ndarray] = {}
    counts: dict[str, int] = {}
    offsets: dict[str, dict[int, int]] = {}
    for index, values, _ in capture.stream(model, rows, names, progress=progress):
        parent, relation = np.array(parents[index]), relations[index]
        words = len(rows[index].first_pieces())
        if len(parent) != words or len(relation) != words:
            raise InputError(f"sentence {index + 1} has {words} words, but {len(parent)} heads: each word needs one")
        p_LHWW = between_words(np.stack([values[name] for name in names]), rows[index])
        p_LHWW[..., np.arange(words), np.arange(words)] = -1
        strongest_LHW = p_LHWW.argmax(-1)
        for word in np.flatnonzero(parent >= 0):
            kind, head = relation[word], int(parent[word])
            found = np.stack([strongest_LHW[..., word] == head, strongest_LHW[..., head] == word])
            hits[kind] = hits.get(kind, 0) + found
            counts[kind] = counts.get(kind, 0) + 1
            of_kind = offsets.setdefault(kind, {})
            of_kind[head - int(word)] = of_kind.get(head - int(word), 0) + 1
    if not counts:
        raise InputError("no word has a syntactic head: give CoNLL-U with the columns head and deprel")
    total = sum(counts.values())
    shares = sum(hits.values()) / total
    best: dict[str, tuple[int, int, int, str, float, int, float]] = {}
    for kind, count in sorted(counts.items(), key=lambda item: -item[1]):
        direction, layer, head = np.unravel_index(int(np.argmax(hits[kind])), (2, len(names), config.num_heads))
        offset, times = max(offsets[kind].items(), key=lambda item: item[1])
        share = float(hits[kind].max() / count)
        toward = ("to head", "to dependent")[int(direction)]
        best[kind] = (count, int(layer), int(head), toward, share, offset, times / count)
    together: dict[int, int] = {}
    for of_kind in offsets.values():
        for offset, times in of_kind.items():
            together[offset] = together.get(offset, 0) + times
    offset, times = max(together.items(), key=lambda item: item[1])
    return Syntax(shares[0], shares[1], best, total, (offset, times / total))


def between_words(p_LHTS: np.ndarray, row: Row) -> np.ndarray:
    """Attention between the words of a row of words: [L, H, W, W]."""
    words = np.array(row.words)
    belongs_WT = (words[None] == np.arange(words.max() + 1)[:, None]).astype(np.float64)
    assert words.max() != NO_WORD
    from_WT = belongs_WT / belongs_WT.sum(axis=1, keepdims=True)
    return np.einsum("wt,lhts,vs->lhwv", from_WT, p_LHTS, belongs_WT, optimize=True)


def importance(
    model: capture.Model,
    rows: Sequence[Row],
    *,
    method: str,
    seed: int = 0,
    batch_size: int = capture.BATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[np.ndarray, float]:
    """How much each head matters to a language model, [L, H], and the loss with all of them, nats a token.

    Args:
      method: "gradient", the mean over batches of |d loss / d gate| with a gate of 1 on each head (Michel et al. 2019,
        section 4.1); or "ablation", the rise of the loss where the head gives zeros (section 3.2).
      seed: of the masks.

    Raises:
      InputError: the model is no language model, or it has two stacks.
    """
    config = model.model
    sites.only_stack(config)
    predictions.head_of(model, classifiers=False)
    made = []
    for indices, inputs in batches(rows, config, batch_size, model.mesh.devices.size):
        filled = [rows[i] for i in np.resize(indices, len(inputs["tokens"]))]
        batch = predictions.corpus(model, filled, inputs, seed + len(made))
        batch.weights[len(indices) :] = 0  # of rows that only fill the batch up
        made.append(batch)
    weight = sum(float(batch.weights.sum()) for batch in made)
    if not weight:
        raise InputError("there is nothing to predict in these texts: give longer ones")
    gates = np.ones((config.num_layers, config.num_heads), np.float32)
    compute = _gradients(config) if method == "gradient" else _loss(config)
    found, loss, done = np.zeros(gates.shape), 0.0, 0
    trials = [gates] if method == "gradient" else [gates, *(_without(gates, head) for head in np.ndindex(gates.shape))]
    losses = np.zeros(len(trials))
    with jax.set_mesh(model.mesh):
        for batch in made:
            arrays = capture.placed(batch.inputs, model.mesh), batch.targets, batch.weights
            for number, trial in enumerate(trials):
                value = compute(model.params, *arrays, trial)
                if method == "gradient":
                    value, gradient = value
                    found += np.abs(np.asarray(gradient))
                losses[number] += float(value)
                done += 1
                progress(done, len(made) * len(trials))
    loss = losses[0] / weight
    if method == "ablation":
        found = (losses[1:] / weight - loss).reshape(gates.shape)
    else:
        found /= weight
    return found, float(loss)


def _without(gates: np.ndarray, head: tuple[int, ...]) -> np.ndarray:
    less = gates.copy()
    less[head] = 0
    return less


@functools.lru_cache(maxsize=8)
def _loss(config: TransformerConfig) -> Callable:
    def loss(params: Any, inputs: Any, targets: jax.Array, weights: jax.Array, gates: jax.Array) -> jax.Array:
        output, _ = capture.run(config, params, inputs, write=ablation.gated_heads(config, gates))
        return predictions.corpus_loss(config, output, jnp.asarray(targets), jnp.asarray(weights))

    return jax.jit(loss)


@functools.lru_cache(maxsize=8)
def _gradients(config: TransformerConfig) -> Callable:
    return jax.jit(jax.value_and_grad(_loss(config), argnums=4))

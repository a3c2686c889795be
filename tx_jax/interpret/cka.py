"""How similar the representations of layers are, by linear CKA (Kornblith et al. 2019, "Similarity of Neural Network
Representations Revisited"): 1 for representations that differ by a rotation and a scale.

Shapes: N tokens or texts, D and E widths, L layers.
"""

import warnings
from collections.abc import Callable, Sequence

import numpy as np

from tx_jax.errors import InputError, InputWarning
from tx_jax.interpret import capture, vectors
from tx_jax.interpret.texts import Row

MOST = 4096  # tokens that are compared


def linear_cka(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """||Y^T X||^2 / (||X^T X|| ||Y^T Y||) of centered representations (Kornblith et al. 2019, section 3)."""
    x, y = _centered(x_ND), _centered(y_NE)
    return _alignment(x, y) / (_alignment(x, x) * _alignment(y, y)) ** 0.5


def _centered(x_ND: np.ndarray) -> np.ndarray:
    return x_ND.astype(np.float64) - x_ND.mean(axis=0, keepdims=True, dtype=np.float64)


def _alignment(x_ND: np.ndarray, y_NE: np.ndarray) -> float:
    """||Y^T X||^2, of few examples by their Gram matrices, which are smaller then."""
    if len(x_ND) < min(x_ND.shape[1], y_NE.shape[1]):
        return float(((x_ND @ x_ND.T) * (y_NE @ y_NE.T)).sum())
    return float(((y_NE.T @ x_ND) ** 2).sum())


def matrix(states: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> np.ndarray:
    """CKA of each layer with each, [L, M]; layers are [N, D] each, of the same N."""
    if {len(x) for x in states} != {len(x) for x in others}:
        raise InputError("CKA compares representations of the same tokens, but there are different numbers of them")
    count, width = len(states[0]), max(x.shape[1] for x in (*states, *others))
    if count < 2 * width:
        warnings.warn(
            f"CKA of {count:,} tokens or texts of width {width:,} is too large: chance alone makes representations "
            "similar; give more text",
            InputWarning,
            stacklevel=2,
        )
    xs, ys = (list(map(_centered, layers)) for layers in (states, others))
    own = [np.array([_alignment(x, x) for x in layers]) for layers in (xs, ys)]
    return np.array([[_alignment(x, y) for y in ys] for x in xs]) / np.sqrt(np.outer(*own))


def states(
    model: capture.Model,
    rows: Sequence[Row],
    *,
    of_texts: bool = False,
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[np.ndarray]:
    """The hidden states of each layer, embeddings first: [N, D] each, of at most `MOST` tokens that are not special, or
    of texts the means over their tokens.

    Args:
      seed: of the choice of tokens; the same rows and seed give the same tokens.
    """
    names = vectors.hidden_sites(model.model, range(model.model.num_layers + 1))
    parts: list[list[np.ndarray]] = [[] for _ in rows]
    kept = _kept(rows, seed)
    for index, values, _ in capture.stream(model, rows, names, progress=progress):
        plain = ~np.array(rows[index].special)
        for name in names:
            x = values[name]
            parts[index].append(x[plain].mean(axis=0, keepdims=True) if of_texts else x[kept[index]])
    return [np.concatenate([part[layer] for part in parts]) for layer in range(len(names))]


def _kept(rows: Sequence[Row], seed: int) -> list[np.ndarray]:
    """The places of each row's tokens that are compared."""
    places = [(row, place) for row, one in enumerate(rows) for place in np.flatnonzero(~np.array(one.special))]
    if len(places) > MOST:
        chosen = np.sort(np.random.default_rng(seed).choice(len(places), MOST, replace=False))
        places = [places[i] for i in chosen]
    found: list[list[int]] = [[] for _ in rows]
    for row, place in places:
        found[row].append(int(place))
    return [np.array(of_row, int) for of_row in found]

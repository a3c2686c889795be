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
    x, y = (z.astype(np.float64) - z.mean(axis=0, keepdims=True, dtype=np.float64) for z in (x_ND, y_NE))
    if len(x) < min(x.shape[1], y.shape[1]):  # the same by Gram matrices of examples, which are smaller
        kx, ky = x @ x.T, y @ y.T
        return float((kx * ky).sum() / np.sqrt((kx**2).sum() * (ky**2).sum()))
    across = ((y.T @ x) ** 2).sum()
    return float(across / np.sqrt(((x.T @ x) ** 2).sum() * ((y.T @ y) ** 2).sum()))


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
    if states is others:  # symmetric
        found = np.ones((len(states), len(states)))
        for i, j in zip(*np.triu_indices(len(states), 1), strict=True):
            found[i, j] = found[j, i] = linear_cka(states[i], states[j])
        return found
    return np.array([[linear_cka(x, y) for y in others] for x in states])


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

"""One word in different contexts, layer by layer (Ethayarajh 2019, "How Contextual are Contextualized Word
Representations?"): cosines between its vectors, beside those of any two tokens, which in deep layers are large too.

Shapes: L layers and the embeddings, N contexts, D model.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from tx_jax.errors import InputError
from tx_jax.interpret import capture, vectors
from tx_jax.interpret.texts import rows_to_encode, tokens_of

BASELINE_PAIRS = 2000


@dataclasses.dataclass(frozen=True)
class Contexts:
    """
    Attributes:
      vectors: [L, N, D], the mean over the word's pieces.
      baseline: [L], the mean cosine of two tokens of different texts that are not the word.
    """

    vectors: np.ndarray
    baseline: np.ndarray

    def cosines(self) -> np.ndarray:
        """[L, N, N]."""
        return np.stack([vectors.similarities(x, x) for x in self.vectors])

    def within_and_across(self, senses: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The mean cosines by layer of contexts of one sense, and of different senses; NaN where there are none."""
        same = np.array([[a == b for b in senses] for a in senses])
        upper = np.triu(np.ones_like(same), 1)
        cosines = self.cosines()

        def mean(pairs: np.ndarray) -> np.ndarray:
            return cosines[:, pairs].mean(-1) if pairs.any() else np.full(len(cosines), np.nan)

        return mean(same & upper), mean(~same & upper)


def look(model: capture.Model, texts: Sequence[str], words: Sequence[str], *, seed: int = 0) -> Contexts:
    """The word's vectors in each text.

    Args:
      words: the word in each text, or one word for all; forms may differ.
      seed: of the baseline's pairs.

    Raises:
      InputError: a text does not have its word.
    """
    words = list(words) * len(texts) if len(words) == 1 else list(words)
    if len(words) != len(texts):
        raise InputError(f"{len(texts)} texts and {len(words)} words: give one word, or one for each text")
    rows = rows_to_encode(model, texts)
    places = [tokens_of(*one, f"text {n}") for n, one in enumerate(zip(rows, texts, words, strict=True), start=1)]
    names = vectors.hidden_sites(model.model, range(model.model.num_layers + 1))
    states = capture.collect(model, rows, names)
    of_word = [[values[name][place].mean(0) for values, place in zip(states, places, strict=True)] for name in names]
    others = [
        (text, place)
        for text, row in enumerate(rows)
        for place in range(len(row.ids))
        if not row.special[place] and place not in places[text]
    ]
    rng = np.random.default_rng(seed)
    drawn = [(others[a], others[b]) for a, b in rng.integers(len(others), size=(BASELINE_PAIRS, 2))] if others else []
    pairs = [(a, b) for a, b in drawn if a[0] != b[0]]
    baseline = []
    for name in names:
        cosines = [_cosine(states[a][name][i], states[b][name][j]) for (a, i), (b, j) in pairs]
        baseline.append(np.mean(cosines) if cosines else np.nan)
    return Contexts(np.array(of_word), np.array(baseline))


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def check_plane(count: int, method: str) -> None:
    """Raises InputError where so many vectors are too few for `plane`."""
    least = 4 if method == "tsne" else 2
    if count < least:
        raise InputError(f"{count} contexts: a picture by {method} needs {least} at least")


def plane(vectors_ND: np.ndarray, method: str, *, seed: int = 0) -> np.ndarray:
    """The vectors in the plane, [N, 2], by scikit-learn.

    Args:
      method: "pca", the directions of the largest variance; or "tsne" (van der Maaten & Hinton 2008), which keeps
        neighbors together and says nothing about distances.

    Raises:
      InputError: there are fewer than four vectors for t-SNE, or fewer than two.
    """
    check_plane(len(vectors_ND), method)
    if method == "tsne":
        from sklearn.manifold import TSNE

        perplexity = min(30.0, (len(vectors_ND) - 1) / 3)
        return TSNE(2, perplexity=perplexity, init="pca", random_state=seed).fit_transform(
            vectors_ND.astype(np.float64)
        )
    centered = vectors_ND - vectors_ND.mean(axis=0, keepdims=True)
    left, values, _ = np.linalg.svd(centered, full_matrices=False)
    return (left * values[None])[:, :2] if len(values) > 1 else np.pad(left * values[None], ((0, 0), (0, 1)))

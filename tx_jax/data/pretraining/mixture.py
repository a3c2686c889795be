"""Which corpus each example of an endless run comes from, as a function of the seed and the example's index.

Shapes: N examples, C corpora.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np

from tx_jax.data.rng import hash_text, keys, permute
from tx_jax.errors import InputError

WINDOW = 1 << 16  # examples
_MIXTURE = hash_text("mixture")


def smoothed_shares(sizes: Sequence[int], alpha: float) -> np.ndarray:
    """p_i proportional to n_i^alpha (Conneau et al. 2020, section 3.1; Lample & Conneau 2019): float64 [C].

    1 is in proportion to size, 0 gives all corpora the same share, XLM-R's 0.3 favors small corpora.
    """
    shares = np.asarray(sizes, np.float64) / np.sum(sizes)
    return shares**alpha / (shares**alpha).sum()


@dataclasses.dataclass(frozen=True)
class Mixture:
    """A fixed number of examples of each corpus in every window of 65,536, in a random order that the window draws.

    So shares are exact to 1 in 65,536 over any whole window, and any example's place in its corpus can be computed
    without those before it.

    Attributes:
      shares: the corpora's shares, which sum to 1.
      seed: the seed of the order.

    Raises InputError for a corpus whose share is too small to come up in a window.
    """

    shares: tuple[float, ...]
    seed: int

    def __post_init__(self):
        if absent := [share for share, count in zip(self.shares, self.counts, strict=True) if not count]:
            raise InputError(
                f"a corpus with a share of {absent[0]:.1e} of the mixture would never be seen: leave it out, raise its "
                "data.mixture_weights, or lower data.mixture_alpha"
            )

    @functools.cached_property
    def counts(self) -> np.ndarray:
        """Examples of each corpus in a window, by largest remainder: int64 [C]."""
        exact = np.asarray(self.shares, np.float64) * WINDOW
        counts = np.floor(exact).astype(np.int64)
        remainders = np.argsort(counts - exact, kind="stable")
        counts[remainders[: WINDOW - counts.sum()]] += 1
        return counts

    def locate(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The corpus of each of these examples, and its index among that corpus's examples: int64 [N] each."""
        window, slot = np.divmod(numbers, WINDOW)
        place = permute(slot, WINDOW, keys(self.seed, _MIXTURE, window))
        ends = np.cumsum(self.counts)
        corpus = np.searchsorted(ends, place, side="right")
        return corpus, window * self.counts[corpus] + place - (ends - self.counts)[corpus]

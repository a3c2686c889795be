"""Corruption for masked language modelling (Devlin et al. 2018, section 3.1).

Shapes: B examples, T sequence length, P predictions.
"""

import dataclasses
import functools

import numpy as np

from tx_jax.data.rng import RowRandom


@dataclasses.dataclass(frozen=True)
class Masking:
    """How tokens are chosen and replaced.

    Attributes:
      rate: share of the real tokens to predict, [CLS] and [SEP] counted in the length as google-research/bert does.
      max_predictions: P.
      replace_with_mask, replace_with_random: shares of the chosen tokens; the rest keep their token.
      special_ids: never chosen, and never a random replacement. google-research/bert spares only [CLS] and [SEP]; here
        [UNK] and the others are spared too, since there is nothing to learn from them.
    """

    rate: float
    max_predictions: int
    replace_with_mask: float
    replace_with_random: float
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]

    @functools.cached_property
    def ordinary_ids(self) -> np.ndarray:
        """What a token may be replaced with at random."""
        return np.setdiff1d(np.arange(self.vocab_size), self.special_ids)

    def num_predictions(self, lengths: np.ndarray) -> np.ndarray:
        """min(P, max(1, round(rate * length))) for lengths in tokens, specials included."""
        return np.clip(np.rint(lengths * self.rate), 1, self.max_predictions).astype(np.int64)


def mask_tokens(tokens_BT: np.ndarray, valid_BT: np.ndarray, masking: Masking, rng: RowRandom) -> dict[str, np.ndarray]:
    """Chooses tokens at random and corrupts them.

    Returns:
      tokens int32 [B, T], corrupted; masked_positions int32 [B, P], ascending; masked_targets int32 [B, P], the tokens
      that stood there; masked_weights float32 [B, P], 1 for a prediction and 0 for the unused rest (position 0).
    """
    length, count = tokens_BT.shape[1], masking.max_predictions
    candidates = valid_BT & ~np.isin(tokens_BT, masking.special_ids)
    wanted = np.minimum(masking.num_predictions(valid_BT.sum(axis=1)), candidates.sum(axis=1))
    # A random order of the candidates; the first `wanted` are chosen.
    order = np.argsort(np.where(candidates, rng.uniform(length), 2.0), axis=1)[:, :count]
    chosen = np.arange(count)[None] < wanted[:, None]
    positions = np.sort(np.where(chosen, order, length), axis=1)  # unused ones go last
    positions = np.where(chosen, positions, 0)
    rows = np.arange(len(tokens_BT))[:, None]
    targets = np.where(chosen, tokens_BT[rows, positions], 0)

    kind = rng.uniform(count)
    random_tokens = masking.ordinary_ids[rng.integers(len(masking.ordinary_ids), count)]
    replaced = np.where(kind < masking.replace_with_mask, masking.mask_id, targets)
    at_random = (kind >= masking.replace_with_mask) & (kind < masking.replace_with_mask + masking.replace_with_random)
    replaced = np.where(at_random, random_tokens, replaced)
    corrupted = tokens_BT.copy()
    corrupted[np.broadcast_to(rows, chosen.shape)[chosen], positions[chosen]] = replaced[chosen]
    return {
        "tokens": corrupted,
        "masked_positions": positions.astype(np.int32),
        "masked_targets": targets.astype(np.int32),
        "masked_weights": chosen.astype(np.float32),
    }

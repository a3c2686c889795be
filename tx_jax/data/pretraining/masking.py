"""Corruption for masked language modeling (Devlin et al. 2018, section 3.1): the choice of tokens, then their
replacement. Here tokens are chosen singly; `words` chooses whole words and spans, `selective` listed words.

Shapes: B examples, T sequence length, P predictions.
"""

import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from tx_jax.data.rng import RowRandom


@dataclasses.dataclass(frozen=True)
class Masking:
    """How many tokens are chosen, and how they are replaced.

    Attributes:
      rate: share of the real tokens to predict; [CLS] and [SEP] count in the length, as in google-research/bert.
      max_predictions: P.
      replace_with_mask, replace_with_random: shares of the chosen tokens; the rest keep their token.
      special_ids: never chosen, and never a random replacement. google-research/bert excludes only [CLS] and [SEP];
        here [UNK] and the others are excluded too, since there is nothing to learn from them.
    """

    rate: float
    max_predictions: int
    replace_with_mask: float
    replace_with_random: float
    mask_id: int
    vocab_size: int
    special_ids: tuple[int, ...]

    @property
    def is_special(self) -> np.ndarray:
        """bool [vocab_size]."""
        return _is_special(self.vocab_size, self.special_ids)

    @property
    def ordinary_ids(self) -> np.ndarray:
        """The tokens that may be random replacements."""
        return _ordinary_ids(self.vocab_size, self.special_ids)

    def candidates(self, tokens_BT: np.ndarray, valid_BT: np.ndarray) -> np.ndarray:
        """bool [B, T]: the tokens that may be chosen."""
        return valid_BT & ~self.is_special[tokens_BT]

    def wanted(self, valid_BT: np.ndarray, candidates_BT: np.ndarray) -> np.ndarray:
        """max(1, round(rate * length)) predictions, but not more than there are candidates: int64 [B].

        Lengths count the special tokens. `max_predictions` is not applied here: see `budget`.
        """
        wanted = np.maximum(np.rint(valid_BT.sum(axis=1) * self.rate), 1).astype(np.int64)
        return np.minimum(wanted, candidates_BT.sum(axis=1))

    def budget(self, wanted_B: np.ndarray) -> np.ndarray:
        """The number of wanted predictions, limited to `max_predictions`."""
        return np.minimum(wanted_B, self.max_predictions)


@functools.lru_cache
def _is_special(vocab_size: int, special_ids: tuple[int, ...]) -> np.ndarray:
    return np.isin(np.arange(vocab_size), special_ids)


@functools.lru_cache
def _ordinary_ids(vocab_size: int, special_ids: tuple[int, ...]) -> np.ndarray:
    return np.flatnonzero(~_is_special(vocab_size, special_ids))


class Choice(NamedTuple):
    """The tokens to predict.

    chosen_BT: bool, at most P in a row.
    dropped_B: int64, wanted predictions for which P has no room.
    group_BT: int; adjacent tokens with equal numbers are replaced in the same way. None: each token by itself.
    """

    chosen_BT: np.ndarray
    dropped_B: np.ndarray
    group_BT: np.ndarray | None = None


def choose_tokens(tokens_BT: np.ndarray, valid_BT: np.ndarray, masking: Masking, rng: RowRandom) -> Choice:
    """Tokens chosen uniformly at random, exactly as many as are wanted."""
    candidates = masking.candidates(tokens_BT, valid_BT)
    wanted = masking.wanted(valid_BT, candidates)
    budget = masking.budget(wanted)
    # A random order of the candidates; the first of them are chosen.
    count = masking.max_predictions
    order = rng.order(candidates)[:, :count]
    chosen = np.zeros_like(candidates)
    np.put_along_axis(chosen, order, np.arange(order.shape[1])[None] < budget[:, None], axis=1)
    return Choice(chosen, wanted - budget)


def corrupt(tokens_BT: np.ndarray, choice: Choice, masking: Masking, rng: RowRandom) -> dict[str, np.ndarray]:
    """Replaces the chosen tokens by the mask, by a random token, or by themselves.

    Returns:
      tokens int32 [B, T], corrupted; masked_positions int32 [B, P], ascending; masked_targets int32 [B, P], the
      original tokens there; masked_weights float32 [B, P], 1 for a prediction and 0 for the unused rest (position 0);
      masked_dropped float32 [B], the wanted predictions that P had no room for.
    """
    (size, length), count = tokens_BT.shape, masking.max_predictions
    at = np.flatnonzero(choice.chosen_BT)
    row = at // length
    numbers = choice.chosen_BT.sum(axis=1)
    slots = row * count + np.arange(len(at)) - np.repeat(np.cumsum(numbers) - numbers, numbers)
    originals = tokens_BT.reshape(-1)[at]
    positions, targets = np.zeros((2, size, count), np.int32)
    positions.reshape(-1)[slots] = at - row * length
    targets.reshape(-1)[slots] = originals

    kind = rng.uniform(count).reshape(-1)[slots]
    others = masking.ordinary_ids[rng.integers(len(masking.ordinary_ids), count).reshape(-1)[slots]]
    if choice.group_BT is not None:  # the draw of a group's first token counts for all of it
        group = choice.group_BT.reshape(-1)[at]
        begins = np.ones(len(at), bool)
        begins[1:] = (group[1:] != group[:-1]) | (row[1:] != row[:-1])
        kind = kind[begins][np.cumsum(begins) - 1]
    replaced = np.where(kind < masking.replace_with_mask, masking.mask_id, originals)
    at_random = (kind >= masking.replace_with_mask) & (kind < masking.replace_with_mask + masking.replace_with_random)
    corrupted = tokens_BT.copy()
    corrupted.reshape(-1)[at] = np.where(at_random, others, replaced)
    return {
        "tokens": corrupted,
        "masked_positions": positions,
        "masked_targets": targets,
        "masked_weights": (np.arange(count)[None] < numbers[:, None]).astype(np.float32),
        "masked_dropped": choice.dropped_B.astype(np.float32),
    }

"""How many words the targets of a causal LM stand for, so that losses per word are comparable across tokenizers.

Shapes: B examples, T sequence length.
"""

import numpy as np

from tx_jax.data.pretraining.byte_lengths import token_texts
from tx_jax.text import Tokenizer


class WordCounts:
    """Words are what white space separates, as in `str.split`; of WordPiece, which drops white space, also punctuation.

    A word counts where it begins, and a special token separates words, too. So the counts of a text's tokens add up to
    its words, however it is cut into rows.
    """

    def __init__(self, tokenizer: Tokenizer):
        texts = [text.decode("utf-8", errors="replace") for text in token_texts(tokenizer)]
        self._opens = np.array([bool(text) and not text[0].isspace() for text in texts])
        self._closes = np.array([not text or text[-1].isspace() for text in texts])
        self._inside = np.array([len(text.split()) for text in texts], np.int32) - self._opens

    def __call__(self, tokens: np.ndarray, targets: np.ndarray) -> np.ndarray:
        """Words that begin in each target, int32 [B, T]. `tokens`: those before the targets."""
        return self._inside[targets] + (self._opens[targets] & self._closes[tokens])

"""How many bytes of text each token stands for, so that losses per byte are comparable across tokenizers."""

import re

import numpy as np

from tx_jax.text import Tokenizer
from tx_jax.text.bpe import ByteLevelBPE
from tx_jax.text.engine import EngineTokenizer
from tx_jax.text.spm import SPACE, SentencePiece
from tx_jax.text.wordpiece import PREFIX

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def byte_lengths(tokenizer: Tokenizer) -> np.ndarray:
    """UTF-8 bytes of each token, float32 [vocab_size]; 0 for special tokens.

    The sum over the tokens of a text is

    - byte-level BPE: exactly the bytes that were encoded, the space included where `add_prefix_space` adds one;
    - SentencePiece: exactly the bytes of the normalized text with one space before every word. Characters that became
      the unknown token count 0;
    - WordPiece: close to the bytes of the normalized text: a space is counted before every word, which is one too many
      before most punctuation. Characters of words that became [UNK] count 0.

    Words that were added after training count with a space before them, which may be one too many.

    The text is what was encoded: the sentences of the store, not the white space between them.
    """
    if isinstance(tokenizer, ByteLevelBPE):  # one visible character for each byte
        lengths = [len(token) for token in tokenizer.tokens(range(tokenizer.vocab_size))]
    elif isinstance(tokenizer, SentencePiece):
        lengths = [_sentencepiece_length(token) for token in tokenizer.tokens(range(tokenizer.vocab_size))]
    else:
        tokens = tokenizer.tokens(range(tokenizer.vocab_size))
        pairs = zip(tokens, tokenizer.is_continuation.tolist(), strict=True)
        lengths = [len((token.removeprefix(PREFIX) if inside else f" {token}").encode()) for token, inside in pairs]
    if isinstance(tokenizer, EngineTokenizer):
        for index, text in tokenizer.added_texts.items():
            lengths[index] = len(text.encode())
    table = np.array(lengths, np.float32)
    table[list(tokenizer.special_ids)] = 0
    table.flags.writeable = False
    return table


def _sentencepiece_length(token: str) -> int:
    return 1 if _BYTE.fullmatch(token) else len(token.replace(SPACE, " ").encode())

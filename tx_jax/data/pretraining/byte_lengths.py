"""How many bytes of text each token stands for, so that losses per byte are comparable across tokenizers."""

import re

import numpy as np

from tx_jax.text import Tokenizer
from tx_jax.text.bpe import BYTES, ByteLevelBPE
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
    table = np.array([len(text) for text in token_texts(tokenizer)], np.float32)
    table.flags.writeable = False
    return table


def token_texts(tokenizer: Tokenizer) -> list[bytes]:
    """The UTF-8 text that each token stands for; none for special tokens. See `byte_lengths`."""
    added = tokenizer.added_texts if isinstance(tokenizer, EngineTokenizer) else {}
    special = set(tokenizer.special_ids)

    def text(index: int, token: str) -> bytes:
        if index in special:
            return b""
        if index in added:
            return added[index].encode()
        if isinstance(tokenizer, ByteLevelBPE):  # one visible character for each byte
            return bytes(BYTES[char] for char in token)
        if isinstance(tokenizer, SentencePiece):
            return bytes([int(token[3:5], 16)]) if _BYTE.fullmatch(token) else token.replace(SPACE, " ").encode()
        return (token.removeprefix(PREFIX) if tokenizer.is_continuation[index] else f" {token}").encode()

    return [text(index, token) for index, token in enumerate(tokenizer.tokens(range(tokenizer.vocab_size)))]

"""What every tokenizer can do, whatever algorithm it runs."""

import abc
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np


class Tokenizer(abc.ABC):
    """Text to token ids and back. Instances are immutable: one vocabulary, one fingerprint.

    Attributes:
      vocab_size: number of ids; every id is in [0, vocab_size).
      pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens.
      fingerprint: sha256 (hex) of everything that determines the encoding. Two tokenizers with the same
        fingerprint give the same ids for every text.
    """

    vocab_size: int
    pad_id: int
    unk_id: int
    cls_id: int
    sep_id: int
    mask_id: int
    fingerprint: str

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the special tokens, ascending. Encoding a text gives none of them but `unk_id`."""
        return tuple(sorted({self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id}))

    @property
    @abc.abstractmethod
    def is_continuation(self) -> np.ndarray:
        """bool [vocab_size]: True for pieces that continue the word begun by the piece before them."""

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens. The names of special tokens in a text are plain text."""

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of the ids, special tokens included. Not an exact inverse where encoding loses something."""

    @abc.abstractmethod
    def token(self, token_id: int) -> str:
        """The vocabulary's entry for one id. Raises InputError for an id outside the vocabulary."""

    @abc.abstractmethod
    def save(self, directory: str | Path) -> None:
        """Write the tokenizer's files into `directory` (made if missing), in a layout that transformers loads."""

    def encode(self, text: str) -> list[int]:
        """Token ids of one text, without special tokens."""
        return self.encode_batch([text])[0]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries for several ids."""
        return [self.token(token_id) for token_id in ids]

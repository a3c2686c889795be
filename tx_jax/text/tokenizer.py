"""What every tokenizer can do, whatever algorithm it runs."""

import abc
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tx_jax.errors import InputError
from tx_jax.text.alignment import Aligned

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")


class Tokenizer(abc.ABC):
    """Text to token ids and back. Instances are immutable: one vocabulary, one fingerprint.

    Attributes:
      vocab_size: number of ids; every id is in [0, vocab_size).
      pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens, None where the vocabulary has none: GPT-2's
        has only an `eos_id`, and a byte-level vocabulary needs no `unk_id`. See `require`.
      bos_id, eos_id: what begins and what ends a text. BERT's [CLS] and [SEP], RoBERTa's <s> and </s> (which are its
        cls_id and sep_id too), GPT-2's <|endoftext|> for both.
      fingerprint: sha256 (hex) of everything that determines the encoding. Two tokenizers with the same
        fingerprint give the same ids for every text.
    """

    vocab_size: int
    pad_id: int | None
    unk_id: int | None
    cls_id: int | None
    sep_id: int | None
    mask_id: int | None
    bos_id: int | None
    eos_id: int | None
    fingerprint: str

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the special tokens, ascending. Encoding a text gives none of them but `unk_id`."""
        ids = {getattr(self, f"{role}_id") for role in ROLES}
        return tuple(sorted(ids - {None}))

    def require(self, *roles: str, source: str | Path = "") -> None:
        """Raise InputError unless there is a special token for each of these `ROLES`.

        Args:
          roles: such as "mask", "pad".
          source: the folder that the tokenizer is from, for the message.
        """
        if missing := [role for role in roles if getattr(self, f"{role}_id") is None]:
            where = f"the tokenizer in {source}" if source else "the tokenizer"
            raise InputError(
                f"{where} has no {' and no '.join(missing)} token, which is needed here: choose a tokenizer that has "
                "one, such as BERT's or RoBERTa's, or train one"
            )

    @property
    @abc.abstractmethod
    def is_continuation(self) -> np.ndarray:
        """bool [vocab_size]: True for pieces that continue the word begun by the piece before them.

        Special tokens never do. The first piece of a text begins a word whatever it is; a property of a piece alone
        cannot say so. What a word is depends on the kind of tokenizer: see there.
        """

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens. The names of special tokens in a text are plain text."""

    @abc.abstractmethod
    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        """As `encode_batch`, with the characters of the text that each piece stands for."""

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """Token ids of each word as it is in the midst of a text, after a space."""
        return self.encode_batch(words)

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

    def encode_masked(self, text: str) -> list[int]:
        """Token ids of a text in which the name of the mask token stands for a mask; no other special tokens.

        It becomes what masking makes of a text: the space before a mask belongs to the masked word, and what follows a
        mask without a space has none. Raises InputError where there is no mask token.
        """
        self.require("mask")
        first, *others = text.split(self.token(self.mask_id))
        ids = self.encode(first.rstrip() if others else first)
        for number, other in enumerate(others, start=1):
            ids += [self.mask_id, *self._encode_attached(other.rstrip() if number < len(others) else other)]
        return ids

    def _encode_attached(self, text: str) -> list[int]:
        """Token ids of a text that continues another, without a space unless it begins with one."""
        return self.encode(text)

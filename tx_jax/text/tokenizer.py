"""The interface shared by all tokenizers."""

import abc
import itertools
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Self

import numpy as np

from tx_jax.errors import InputError, InputWarning
from tx_jax.text.alignment import Aligned
from tx_jax.text.pair_forms import PLAIN, PairForm, PairTokens, tokens_of

ROLES = ("pad", "unk", "cls", "sep", "mask", "bos", "eos")
_MARKS = ("##", "▁", "Ġ")  # how vocabularies mark "inside a word" and a space


class Tokenizer(abc.ABC):
    """Text to token ids and back. Instances are immutable: one vocabulary, one fingerprint.

    Attributes:
      vocab_size: number of ids; every id is in [0, vocab_size).
      pad_id, unk_id, cls_id, sep_id, mask_id: ids of the special tokens; None for a token that the vocabulary lacks.
        GPT-2's has only an `eos_id`, and a byte-level vocabulary needs no `unk_id`. See `require`.
      bos_id, eos_id: the tokens that begin and end a text: BERT's [CLS] and [SEP], RoBERTa's <s> and </s> (also its
        cls_id and sep_id), GPT-2's <|endoftext|> for both.
      fingerprint: sha256 (hex) of everything that determines the encoding. Two tokenizers with the same
        fingerprint give the same ids for every text.
      pair_form: the convention of the special tokens of pairs; see `pair_tokens`.
    """

    vocab_size: int
    _vocabulary: Sequence[str]  # the entry of each id
    pad_id: int | None
    unk_id: int | None
    cls_id: int | None
    sep_id: int | None
    mask_id: int | None
    bos_id: int | None
    eos_id: int | None
    fingerprint: str
    pair_form: PairForm = PLAIN

    @property
    def pair_tokens(self) -> PairTokens:
        """The special tokens that an encoder-decoder reads and writes beside the texts of a pair. Raises InputError if
        the tokenizer lacks one, or a language is not chosen."""
        return tokens_of(self)

    def with_pair_form(self, form: PairForm) -> Self:
        """This tokenizer for an encoder-decoder with this form; the ids of texts stay the same."""
        changed = object.__new__(type(self))
        changed.__dict__.update(self.__dict__, pair_form=form)
        changed.__dict__.pop("for_targets", None)
        return changed

    @property
    def for_targets(self) -> "Tokenizer":
        """The tokenizer of the texts that a translation model writes, whose ids mean the same. Few models have one of
        their own."""
        return self

    @property
    def special_ids(self) -> tuple[int, ...]:
        """Ids of the special tokens, ascending. Encoding a text produces none of them except `unk_id`."""
        ids = {getattr(self, f"{role}_id") for role in ROLES}
        return tuple(sorted(ids - {None}))

    @property
    def pair_separators(self) -> int:
        """Number of separators between two texts: as in tokenizer.json, otherwise two if the separator is </s>."""
        return 2 if self.sep_id is not None and self.token(self.sep_id) == "</s>" else 1

    def require(self, *roles: str, source: str | Path = "") -> None:
        """Raise InputError unless there is a special token for each of these `ROLES`.

        Args:
          roles: such as "mask", "pad".
          source: the folder that the tokenizer was loaded from, for the message.
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

        Special tokens never do. The first piece of a text always begins a word, which this property of single pieces
        cannot express. What counts as a word depends on the kind of tokenizer: see its class.
        """

    @abc.abstractmethod
    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, without special tokens. The names of special tokens in a text are plain text."""

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Like `encode_batch`, as arrays: (the ids of all texts, one after another, int32 [N]; how many each has,
        int64 [len(texts)])."""
        encoded = self.encode_batch(texts)
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        return np.fromiter(itertools.chain.from_iterable(encoded), np.int32, int(lengths.sum())), lengths

    @abc.abstractmethod
    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        """Like `encode_batch`, but also gives the characters of the text that each piece stands for."""

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        """Token ids of each word as it is encoded in the middle of a text, after a space."""
        return self.encode_batch(words)

    @abc.abstractmethod
    def decode(self, ids: Iterable[int]) -> str:
        """Readable text of the ids, including special tokens. Not an exact inverse if encoding loses information."""

    def token(self, token_id: int) -> str:
        """The vocabulary's entry for one id. Raises InputError for an id outside the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise InputError(f"token id {token_id} is outside the vocabulary of {self.vocab_size} tokens")
        return self._vocabulary[token_id]

    @abc.abstractmethod
    def save(self, directory: str | Path) -> None:
        """Write the tokenizer's files into `directory` (created if missing), in a layout that transformers loads."""

    def with_tokens(self, words: Iterable[str]) -> Self:
        """A tokenizer of the same kind with one more token for each of these words, used where it is a whole word.

        Existing tokens keep their ids; the new ones follow in the order given. In BERT's WordPiece a new token may also
        begin a longer word, as all of its tokens do; for the other kinds see `added_words`.

        Warns with InputWarning if a word is added in another form (for example lowercased) or if two words have the
        same form. Raises InputError for a word that is empty or contains white space, is already a token, or could
        never be matched.
        """
        known = set(self.tokens(range(self.vocab_size)))
        fresh: dict[str, str] = {}
        for word in words:
            normal = self._normalize(word)
            if not normal or any(map(str.isspace, word)):
                raise InputError(f"{word!r} cannot become a token: a token is one word, without white space")
            if word.startswith(_MARKS):
                raise InputError(
                    f"{word!r} begins with a mark that the vocabulary uses in its spelling: give the word alone"
                )
            (ids,) = self.encode_words([normal])
            if word in known or normal in known or (len(ids) == 1 and ids[0] != self.unk_id):
                raise InputError(f"{word!r} is already a token of this vocabulary: leave it out")
            if normal in fresh:
                _warn(f"{word!r} is the same token as {fresh[normal]!r}, which is given too: it is added once")
            elif normal != word:
                _warn(f"{word!r} is added as {normal!r}, which is what this tokenizer turns it into")
            fresh.setdefault(normal, word)
        extended = self._extended(tuple(fresh)).with_pair_form(self.pair_form) if fresh else self
        for index, (word, ids) in enumerate(zip(fresh, extended.encode_batch(tuple(fresh)), strict=True)):
            if ids != [self.vocab_size + index]:
                pieces = " ".join(extended.tokens(ids))
                raise InputError(f"{word!r} cannot become one token, because this tokenizer always splits it: {pieces}")
        return extended

    def with_reserved(self, num_ids: int) -> Self:
        """A tokenizer with at least `num_ids` ids. The new ids belong to no token, and no text is encoded as them.

        For a model with more embedding rows than the tokenizer has tokens: words added later get ids after all rows.
        """
        if num_ids <= self.vocab_size:
            return self
        return self._reserved(range(self.vocab_size, num_ids)).with_pair_form(self.pair_form)

    @abc.abstractmethod
    def _reserved(self, ids: range) -> Self:
        """The tokenizer with a `nameless` token for each of these ids, which follow its last id."""

    @abc.abstractmethod
    def with_pad(self) -> Self:
        """This tokenizer if it has a token used only for padding, otherwise one with such a token added as the last.

        GPT-2's tokenizer has none. Its end token cannot be used instead: code that looks for the end of a text before
        the padding, such as transformers' classifiers, would skip it.
        """

    @abc.abstractmethod
    def _normalize(self, word: str) -> str:
        """Normalize a word as encoding does before it looks for tokens."""

    @abc.abstractmethod
    def _extended(self, words: Sequence[str]) -> Self:
        """The tokenizer with these normalized words."""

    def encode(self, text: str) -> list[int]:
        """Token ids of one text, without special tokens."""
        return self.encode_batch([text])[0]

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries for several ids."""
        return [self.token(token_id) for token_id in ids]

    def encode_masked(self, text: str) -> list[int]:
        """Token ids of a text in which the name of the mask token is read as a mask; no other special tokens are.

        The result matches a masked text: the space before a mask belongs to the masked word, and text that follows a
        mask without a space is encoded without one. Raises InputError if there is no mask token.
        """
        self.require("mask")
        first, *others = text.split(self.token(self.mask_id))
        ids = self.encode(first.rstrip() if others else first)
        for number, other in enumerate(others, start=1):
            ids += [self.mask_id, *self._encode_attached(other.rstrip() if number < len(others) else other)]
        return ids

    def _encode_attached(self, text: str) -> list[int]:
        """Token ids of a text that continues another; no space is added before it."""
        return self.encode(text)


def _warn(message: str) -> None:
    warnings.warn(message, InputWarning, stacklevel=3)

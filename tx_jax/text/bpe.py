"""Byte-level byte pair encoding, the tokenizer of GPT-2 (Radford et al. 2019) and RoBERTa (Liu et al. 2019).

A text is split into words with GPT-2's pattern (a word includes the space before it; punctuation, digits and letters
are separated). Each word is split into UTF-8 bytes, and the bytes are merged in the order in which the merges were
learned. The vocabulary contains all 256 bytes, each written as one visible character (the space as Ġ), so any text can
be encoded and decoding is exact.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, pre_tokenizers, processors, trainers

from tx_jax.errors import InputError
from tx_jax.text.added_words import superfluous_spaces
from tx_jax.text.alignment import Aligned
from tx_jax.text.chunks import chunks, counted, until_many_words
from tx_jax.text.definition import (
    describe,
    pre_tokenizers_of,
    write_json,
)
from tx_jax.text.engine import EngineTokenizer, starts_spaceless
from tx_jax.text.wordpiece import template

ROBERTA = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>", "mask": "<mask>", "cls": "<s>", "sep": "</s>"}
GPT2 = {"bos": "<|endoftext|>", "eos": "<|endoftext|>"}
FAMILIES = {"roberta": ROBERTA, "gpt2": GPT2}


def _byte_alphabet() -> dict[str, int]:
    """The visible character of each byte, as GPT-2 assigns them.

    Printable Latin-1 characters stand for themselves; the other bytes get the characters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}


BYTES = _byte_alphabet()
# These never occur in UTF-8, and some published vocabularies lack them.
_NEVER_IN_UTF8 = frozenset([0xC0, 0xC1, *range(0xF5, 0x100)])


class ByteLevelBPE(EngineTokenizer):
    """A byte-level BPE vocabulary with the special tokens of RoBERTa, GPT-2 or another model; see `from_merges`.

    Whole words are separated by white space, as in fairseq's whole-word masking for RoBERTa: a piece continues a word
    unless it begins with white space, so punctuation belongs to the word that it touches ("Ġend", "."). In scripts
    written without spaces (Chinese, Japanese, Thai and others), every piece that begins with one of their characters,
    or with bytes that can only begin such a character, is its own word; only pieces inside a character continue it.

    Args:
      definition: the contents of a tokenizer.json whose model is BPE and whose pre-tokenizer is byte-level.
      names: the special token of each role; see `EngineTokenizer`.

    Raises InputError if a byte that occurs in UTF-8 is missing from the vocabulary: texts would silently lose
    characters.
    """

    def __init__(self, definition: Mapping[str, Any], names: Mapping[str, str]):
        super().__init__(definition, names)
        if missing := [char for char in BYTES.keys() - set(self._vocabulary) if BYTES[char] not in _NEVER_IN_UTF8]:
            raise InputError(
                f"the byte-level vocabulary lacks {len(missing)} of the 256 bytes ({' '.join(sorted(missing)[:5])}):"
                " characters that need them would be lost; train it with the whole byte alphabet"
            )
        # If words were added, a Metaspace adds the space at the beginning: see `added_words`.
        parts = pre_tokenizers_of(definition)
        self.add_prefix_space = any(part.get("add_prefix_space") or part["type"] == "Metaspace" for part in parts)

    @classmethod
    def from_merges(
        cls,
        vocabulary: Sequence[str],
        merges: Sequence[tuple[str, str]],
        *,
        names: Mapping[str, str],
        add_prefix_space: bool = False,
    ) -> "ByteLevelBPE":
        """Build a tokenizer from a vocabulary and merges.

        Args:
          vocabulary: the tokens in id order, including the special tokens at any position.
          merges: pairs of tokens in the order in which they were learned.
          names: the special tokens, such as `ROBERTA` or `GPT2`; names that are not in the vocabulary count as missing.
          add_prefix_space: encode a text as if it began with a space, so that its first word is encoded like any other.
        """
        ids = {token: index for index, token in enumerate(vocabulary)}
        try:
            engine = Engine(models.BPE(vocab=ids, merges=list(merges)))
        except Exception as error:  # the library raises nothing more specific
            raise InputError(f"the merges do not fit the vocabulary ({error})") from None
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
        engine.decoder = decoders.ByteLevel()
        cls_, sep = names.get("cls"), names.get("sep")
        if cls_ in ids and sep in ids and sep != "</s>":  # DeBERTa's, with BERT's special tokens
            engine.post_processor = processors.Sequence(
                [processors.ByteLevel(trim_offsets=True), template(cls_, sep, ids)]
            )
        elif cls_ in ids and sep in ids:
            engine.post_processor = processors.RobertaProcessing(
                (sep, ids[sep]), (cls_, ids[cls_]), trim_offsets=True, add_prefix_space=add_prefix_space
            )
        else:
            engine.post_processor = processors.ByteLevel(trim_offsets=False)
        return cls(describe(engine), names)

    @property
    def tokenizer_class(self) -> str:
        """The transformers class that gives the same ids; it keeps only the vocabulary of tokenizer.json."""
        model, pre_tokenizer = self._definition["model"], self._definition["pre_tokenizer"]
        is_plain = pre_tokenizer["type"] == "ByteLevel" and pre_tokenizer["use_regex"] and not model["ignore_merges"]
        if (
            self._superfluous_spaces is None
            and is_plain
            and self._definition["normalizer"] is None
            and model["unk_token"] is None
        ):
            adds = (self._definition["post_processor"] or {}).get("type")
            has_all = None not in (self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id)
            if has_all and adds == "RobertaProcessing":
                return "RobertaTokenizer"
            if self.cls_id is None and self.eos_id is not None and adds in (None, "ByteLevel"):
                return "GPT2Tokenizer"
        return super().tokenizer_class

    @property
    def merges(self) -> list[tuple[str, str]]:
        """The pairs of tokens that are merged, in the order in which they were learned."""
        return [(left, right) for left, right in self._definition["model"]["merges"]]

    def _begins_word(self, token: str) -> bool:
        start = bytes(BYTES[char] for char in token[:4] if char in BYTES)
        return start[:1].isspace() or _starts_spaceless(start)

    def encode_words(self, words: Sequence[str]) -> list[list[int]]:
        return self.encode_batch(words if self.add_prefix_space else [f" {word}" for word in words])

    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        found = super().encode_aligned(texts)
        for ids, spans in found:
            # The library assigns the text's first character to the space added before the text.
            spans[self._is_blank[ids], 1] = spans[self._is_blank[ids], 0]
        return found

    @cached_property
    def _is_blank(self) -> np.ndarray:
        """bool [vocab_size]: True for tokens that consist of white space."""
        return np.array([bytes(BYTES.get(char, 0) for char in token).isspace() for token in self._vocabulary])

    def decode(self, ids: Iterable[int]) -> str:
        """The exact text, except for the space before added words.

        Bytes that are not valid UTF-8, such as part of a character, become U+FFFD.
        """
        whole = self._whole
        parts = (
            whole[index].encode() if index in whole else bytes(BYTES[char] for char in self.token(index))
            for index in map(int, ids)
        )
        text = b"".join(parts).decode("utf-8", errors="replace")
        if self._superfluous_spaces:
            text = self._superfluous_spaces.sub("", text)
        return text.removeprefix(" ") if self.add_prefix_space else text

    @cached_property
    def _whole(self) -> dict[int, str]:
        """The tokens that are not spelled as bytes."""
        return {index: self.token(index) for index in self.special_ids} | self.added_texts

    @cached_property
    def _superfluous_spaces(self) -> re.Pattern | None:
        words = [text[1:] for text in self.added_texts.values() if text.startswith(" ")]
        return re.compile(superfluous_spaces(words)) if words else None

    def save(self, directory: str | Path) -> None:
        """Write vocab.json and merges.txt, and the three files from which transformers builds the same tokenizer."""
        super().save(directory)
        write_json(Path(directory) / "vocab.json", {token: index for index, token in enumerate(self._vocabulary)})
        merges = "".join(f"{left} {right}\n" for left, right in self.merges)
        (Path(directory) / "merges.txt").write_text("#version: 0.2\n" + merges, encoding="utf-8")

    def _config(self) -> dict[str, Any]:
        return {**super()._config(), "add_prefix_space": self.add_prefix_space}


def _starts_spaceless(start: bytes) -> bool:
    """Whether UTF-8 bytes begin with a character of a script without spaces.

    If that character is incomplete, every possible completion must belong to such a script.
    """
    lead = start[0] if start else 0
    size = 1 if lead < 0xC0 else 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    ends = (start[:size].ljust(size, end).decode("utf-8", errors="ignore") for end in (b"\x80", b"\xbf"))
    return all(starts_spaceless(end) for end in ends)


def train(
    documents: Iterable[str],
    *,
    vocab_size: int = 50_265,
    family: str = "roberta",
    add_prefix_space: bool = True,
    min_frequency: int = 2,
    progress: Callable[[int], None] | None = None,
) -> ByteLevelBPE:
    """Learn a byte-level BPE vocabulary; the same documents give the same vocabulary in every process.

    The special tokens get the same ids as in the published vocabularies. RoBERTa's: <s> 0, <pad> 1, </s> 2, <unk> 3,
    <mask> last. GPT-2's: <|endoftext|> last. Between them come the 256 bytes, then the pieces in the order in which
    they were learned.

    Args:
      documents: read once, as a stream, up to the limit of `until_many_words`.
      vocab_size: target size; a small corpus may give fewer tokens.
      family: "roberta" or "gpt2": whose special tokens to use.
      add_prefix_space: as for `ByteLevelBPE.from_merges`. The published vocabularies do not use it; here sentences are
        encoded one by one, and a word at the beginning of one should be the same token as elsewhere.
      min_frequency: pairs of pieces rarer than this are not merged.
      progress: called with the number of characters read so far.

    Raises InputError if the documents have no text, or `vocab_size` is too small for the bytes and special tokens.
    """
    if family not in FAMILIES:
        raise InputError(f"unknown family {family!r}: expected one of {tuple(FAMILIES)}")
    names = FAMILIES[family]
    alphabet = sorted(BYTES)
    first, last = (["<s>", "<pad>", "</s>", "<unk>"], ["<mask>"]) if family == "roberta" else ([], ["<|endoftext|>"])
    num_special = len(first) + len(last)
    if vocab_size < len(alphabet) + num_special:
        raise InputError(
            f"vocab_size={vocab_size} cannot hold the 256 bytes and {num_special} special tokens: raise it"
        )
    # Equally frequent pairs are merged in the order of their ids. All 256 bytes are given here, and the trainer numbers
    # them by code point, so two runs learn the same merges; adding "##" forms, as WordPiece does, would break that.
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - num_special,
        min_frequency=min_frequency,
        initial_alphabet=alphabet,
        show_progress=False,
    )
    engine = Engine(models.BPE())
    engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=add_prefix_space)
    has_text = False

    def texts() -> Iterator[str]:
        nonlocal has_text
        for document in until_many_words(counted(documents, progress)):
            has_text = has_text or bool(document.strip())
            yield from chunks(document)

    engine.train_from_iterator(texts(), trainer)
    if not has_text:
        raise InputError("no text to train the tokenizer on: the documents are empty or hold only white space")
    ids = engine.get_vocab()
    merges = [tuple(pair) for pair in json.loads(engine.to_str())["model"]["merges"]]
    vocabulary = [*first, *sorted(ids, key=ids.get), *last]
    return ByteLevelBPE.from_merges(vocabulary, merges, names=names, add_prefix_space=add_prefix_space)

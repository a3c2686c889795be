"""Encodes each distinct word once: most words of a text have been seen before.

For tokenizers whose ids of a text are those of its words, one after another, whatever stands next to a word. `rule_of`
says which these are, and what a word is for them: a piece between two spaces for BERT's; for byte-level BPE such a
piece with the space before it.
"""

import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# The memory is emptied when it holds more than this: about 50 MB, of which every worker of a preparation has its own.
MAX_WORDS = 1 << 18
MAX_CHARACTERS = 1 << 22
_GROUP = 1024  # texts processed together


class Rule(NamedTuple):
    """How texts consist of words.

    Attributes:
      words: cuts a text into its words, at least one.
      text: the text whose ids are those of a word.
    """

    words: Callable[[str], list[str]]
    text: Callable[[str], str]


def _pieces(text: str) -> list[str]:
    return text.split(" ")


def _pieces_with_space(text: str) -> list[str]:
    """The pieces of a text between single spaces, the first one marked by a space if no space stands before it. A text
    with other white space, or several spaces in a row, is one such piece."""
    words = text.split()
    joined = " ".join(words)
    if not words or text not in (joined, f" {joined}"):
        return [f" {text}"]
    if text == joined:
        words[0] = f" {words[0]}"
    return words


def _with_its_space(piece: str) -> str:
    """Most pieces have a space before them: so it is the others that are marked."""
    return piece[1:] if piece.startswith(" ") else f" {piece}"


# BERT's normalizer and pre-tokenizer drop, replace or separate one character at a time, lowercase without looking
# around, and sort accents only within a run of them, which no space interrupts. So a piece's ids do not depend on what
# stands before or after a space. That holds for the space alone: BERT drops some characters that Python counts as white
# space ("a\vb" is "ab").
BERT = Rule(_pieces, str)
# GPT-2's pattern begins a new word with a space that stands alone between two other characters, and looks back no
# further; so a text can be cut before each such space.
BYTE_LEVEL = Rule(_pieces_with_space, _with_its_space)


def rule_of(definition: Mapping[str, Any]) -> Rule | None:
    """The rule of a tokenizer.json, by its normalizer, pre-tokenizer and model; None if it follows none of them.

    Its added tokens are not looked at: a word whose text contains one may have other ids than between its neighbors.
    """
    normalizer, splitter, model = (definition[part] or {} for part in ("normalizer", "pre_tokenizer", "model"))
    if model["type"] == "WordPiece" and splitter.get("type") == "BertPreTokenizer":
        return BERT if normalizer.get("type") == "BertNormalizer" else None
    is_byte_level = splitter.get("type") == "ByteLevel" and splitter["use_regex"] and not normalizer
    return BYTE_LEVEL if model["type"] == "BPE" and is_byte_level and model["dropout"] is None else None


class SeenWords:
    """Encodes texts by a rule, and remembers the words seen so far. May be used by several threads.

    Args:
      rule: how the texts consist of words.
      encode: the ids of each of several texts. It is called with the text of each distinct word once, as long as the
        memory lasts.
      max_words, max_characters: when the memory holds more, it starts anew.
    """

    def __init__(
        self,
        rule: Rule,
        encode: Callable[[list[str]], list[list[int]]],
        *,
        max_words: int = MAX_WORDS,
        max_characters: int = MAX_CHARACTERS,
    ):
        self._rule, self._encode = rule, encode
        self._max_words, self._max_characters = max_words, max_characters
        self._lock = threading.Lock()
        self._forget()

    def _forget(self) -> None:
        self._numbers, self._characters = _Numbers(), 0
        # Of each word by its number: where its ids begin in `_ids`, and how many they are.
        self._begins, self._sizes, self._ids = (_Growing(dtype) for dtype in (np.int64, np.int64, np.int32))

    def flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """(The ids of all texts, one after another, int32; the number of ids of each text, int64.)"""
        ids, lengths = [np.empty(0, np.int32)], [np.empty(0, np.int64)]
        for first in range(0, len(texts), _GROUP):
            with self._lock:
                found, counts = self._group([self._rule.words(text) for text in texts[first : first + _GROUP]])
            ids.append(found)
            lengths.append(counts)
        return np.concatenate(ids), np.concatenate(lengths)

    def _group(self, texts: list[list[str]]) -> tuple[np.ndarray, np.ndarray]:
        counts = np.fromiter(map(len, texts), np.int64, len(texts))
        words = itertools.chain.from_iterable(texts)
        numbers = np.fromiter(map(self._numbers.__getitem__, words), np.int64, int(counts.sum()))
        try:
            self._learn()
        except BaseException:  # the new words have numbers, but no ids
            self._forget()
            raise
        sizes = self._sizes.items[numbers]
        ends = np.cumsum(sizes)
        at = np.repeat(self._begins.items[numbers] - (ends - sizes), sizes)
        ids = self._ids.items[at + np.arange(len(at))]
        if len(self._numbers) > self._max_words or self._characters > self._max_characters:
            self._forget()
        return ids, np.diff(ends[np.cumsum(counts) - 1], prepend=0)

    def _learn(self) -> None:
        """Encode the words that have a number, but no ids yet."""
        if not (words := self._numbers.new):
            return
        encoded = self._encode([self._rule.text(word) for word in words])
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        ids = np.fromiter(itertools.chain.from_iterable(encoded), np.int32, int(sizes.sum()))
        self._begins.append(self._ids.length + np.cumsum(sizes) - sizes)
        self._sizes.append(sizes)
        self._ids.append(ids)
        self._characters += sum(map(len, words))
        words.clear()


class _Numbers(dict):
    """Numbers words from 0 in the order in which they are looked up; `new` lists those numbered since it was cleared.

    A lookup of a known word runs no Python.
    """

    def __init__(self):
        super().__init__()
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        self.new.append(word)
        return number


class _Growing:
    """An array that grows at its end: `items[:length]`."""

    def __init__(self, dtype: np.typing.DTypeLike):
        self.items, self.length = np.empty(1024, dtype), 0

    def append(self, items: np.ndarray) -> None:
        end = self.length + len(items)
        if end > len(self.items):
            self.items = np.concatenate([self.items, np.empty(max(end, len(self.items)), self.items.dtype)])
        self.items[self.length : end] = items
        self.length = end


def as_lists(ids: np.ndarray, lengths: np.ndarray) -> list[list[int]]:
    """The ids of each text, from those of all texts and the number of each."""
    numbers, ends = ids.tolist(), np.cumsum(lengths).tolist()
    return [numbers[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]

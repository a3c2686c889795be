"""Selective masking: only the words of a list are predicted (Timoneda & Vallejo Vera 2025, PLoS ONE 20(2):e0318421).

The paper pretrains further on text of a domain and masks only words that matter there, at rates of 15 to 80%. What the
rate is a share of is a choice here, `rate_of`:

- "occurrences": of the occurrences of listed words in the sequence. The number is rounded up or down at random, so that
  the expected share is exact even if a sequence has a single occurrence.
- "tokens": of all tokens of the sequence, as in random masking, as far as there are enough listed words.

A sequence without a listed word predicts nothing. Shapes: B examples, T sequence length, M matches.
"""

import hashlib
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from tx_jax.data.corpus.index import Recipe, open_index
from tx_jax.data.corpus.token_store import Split
from tx_jax.data.pretraining.masking import Choice, Masking
from tx_jax.data.pretraining.words import fill_budget, run_sizes, spread_over_words
from tx_jax.data.rng import RowRandom
from tx_jax.data.rows import document_blocks, document_bounds, put
from tx_jax.errors import InputError
from tx_jax.files import path_of
from tx_jax.text import Tokenizer

RateOf = Literal["occurrences", "tokens"]
_BLOCK = 1 << 22  # tokens searched together
_BRACKET = "("  # put before a word, without a space, to see how the word is then tokenized


class Matches(NamedTuple):
    """Occurrences of listed words, in order; the longest one at each place. row, column, length, word: int64 [M]."""

    row: np.ndarray
    column: np.ndarray
    length: np.ndarray
    word: np.ndarray


class WordList:
    """Words, or phrases of several words, and the ways that a tokenizer writes them: at the beginning of a text, after
    a space and after punctuation.

    An occurrence begins and ends where letters and digits do, so that "art" occurs in "(art)." and not in "party", even
    if the tokenizer's words include adjacent punctuation. Whether case matters depends on the tokenizer: for a cased
    one, list "Covid" and "covid".

    Attributes:
      words: as listed, without repetition.
      unwritable: the words that the tokenizer cannot write without its unknown token; they can never occur.
    """

    def __init__(self, words: Sequence[str], tokenizer: Tokenizer):
        self.words = tuple(dict.fromkeys(filter(None, map(str.strip, words))))
        if not self.words:
            raise InputError("the list of words for selective masking is empty")
        self.vocab_size = tokenizer.vocab_size
        self._goes_on, self._may_go_on = _letters_at_the_ends(tokenizer)
        self._is_special = np.isin(np.arange(tokenizer.vocab_size), tokenizer.special_ids)
        forms: dict[tuple[int, ...], int] = {}
        for before in ("", " ", _BRACKET):
            lead = tokenizer.encode(before.strip())
            for index, ids in enumerate(tokenizer.encode_batch([before + word for word in self.words])):
                form = tuple(ids[len(lead) :])
                if form and ids[: len(lead)] == lead and not self._is_special[list(form)].any():
                    forms.setdefault(form, index)
        written = set(forms.values())
        self.unwritable = tuple(word for index, word in enumerate(self.words) if index not in written)
        self._build_trie(forms)

    def _build_trie(self, forms: dict[tuple[int, ...], int]) -> None:
        """All forms as one automaton: sorted keys (state, token) -> next state, and the word that ends in a state."""
        states: dict[tuple[int, ...], int] = {(): 0}
        for ids in forms:
            for end in range(1, len(ids) + 1):
                states.setdefault(ids[:end], len(states))
        edges = sorted((states[ids[:-1]] * self.vocab_size + ids[-1], state) for ids, state in states.items() if ids)
        self._keys = np.array([key for key, _ in edges], np.int64)
        self._next = np.array([state for _, state in edges], np.int64)
        self._word = np.full(len(states), -1, np.int64)
        for ids, index in forms.items():
            self._word[states[ids]] = index
        self._longest = max(map(len, forms), default=0)
        self._is_first = np.zeros(self.vocab_size, bool)
        self._is_first[[ids[0] for ids in forms]] = True

    def find(self, tokens_BT: np.ndarray, valid_BT: np.ndarray) -> Matches:
        """All occurrences in rows of tokens. Special tokens and padding end a word."""
        inside = np.zeros((len(tokens_BT), tokens_BT.shape[1] + 1), bool)
        inside[:, :-1] = valid_BT & ~self._is_special[tokens_BT]
        # True where a token continues the word of the one before it; the last column stands for the end of the row.
        goes_on = np.zeros_like(inside)
        goes_on[:, 1:-1] = self._goes_on[tokens_BT[:, 1:]] & self._may_go_on[tokens_BT[:, :-1]]
        goes_on[:, 1:] &= inside[:, 1:] & inside[:, :-1]
        begins = inside[:, :-1] & ~goes_on[:, :-1]
        row, column = np.nonzero(begins & self._is_first[tokens_BT])
        length, word = np.zeros(len(row), np.int64), np.full(len(row), -1)
        alive, state = np.arange(len(row)), np.zeros(len(row), np.int64)
        for depth in range(self._longest):
            at = column[alive] + depth
            alive, state, at = (x[inside[row[alive], at]] for x in (alive, state, at))
            key = state * self.vocab_size + tokens_BT[row[alive], at]
            edge = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
            found = self._keys[edge] == key
            alive, state, after = alive[found], self._next[edge[found]], at[found] + 1
            here = self._word[state]
            ends = (here >= 0) & ~goes_on[row[alive], after]
            length[alive[ends]], word[alive[ends]] = depth + 1, here[ends]
        kept = np.flatnonzero(word >= 0)
        # A word after a "▁" of its own is found with and without it: one occurrence, the longer one.
        ends = (row * inside.shape[1] + column + length) * len(self.words) + word
        kept = kept[np.sort(np.unique(ends[kept], return_index=True)[1])]
        return Matches(row[kept], column[kept], length[kept], word[kept])


def _letters_at_the_ends(tokenizer: Tokenizer) -> tuple[np.ndarray, np.ndarray]:
    """For each piece, whether it continues a word with a letter or a digit, and whether it ends in one."""
    pieces = [tokenizer.decode([index]) for index in range(tokenizer.vocab_size)]
    continues = np.array([_is_letter(piece.removeprefix("##")[:1]) for piece in pieces])
    return continues & np.asarray(tokenizer.is_continuation), np.array([_is_letter(piece[-1:]) for piece in pieces])


def _is_letter(character: str) -> bool:
    """Letters, the marks upon them, digits; and U+FFFD, which is a part of a character, most likely of one of these."""
    return character == "\ufffd" or (character != "" and unicodedata.category(character)[0] in "LMN")


def read_words(path: str | Path) -> list[str]:
    """The words of a text file, one per line. Raises InputError if it cannot be read or is empty."""
    try:
        text = path_of(path, "data.selective_words", reads=True).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the list of words {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid UTF-8 at byte {error.start}: convert it with iconv") from None
    words = [line.strip() for line in text.splitlines() if line.strip()]
    if not words:
        raise InputError(f"the list of words {path} is empty: give one word per line")
    return words


def choose_listed(
    tokens_BT: np.ndarray,
    valid_BT: np.ndarray,
    masking: Masking,
    words: WordList,
    rng: RowRandom,
    *,
    rate_of: RateOf,
) -> Choice:
    """Occurrences of listed words, each whole, at the rate that the head of this file defines; each piece is replaced
    by itself. Occurrences that overlap (of phrases) count as one.
    """
    sizes = occurrence_sizes(words.find(tokens_BT, valid_BT), tokens_BT.shape)
    order = rng.order(sizes[:, :-1] > 0)
    round_up = rng.uniform()
    if rate_of == "tokens":
        wanted = np.minimum(np.rint(valid_BT.sum(axis=1) * masking.rate).astype(np.int64), sizes.sum(axis=1))
        budget = masking.budget(wanted)
        return Choice(fill_budget(sizes, budget, order), wanted - budget)
    number = np.floor((sizes > 0).sum(axis=1) * masking.rate + round_up).astype(np.int64)
    in_order = np.take_along_axis(sizes, order, axis=1)
    in_order[np.arange(sizes.shape[1] - 1)[None] >= number[:, None]] = 0
    fits = (np.cumsum(in_order, axis=1) <= masking.max_predictions) & (in_order > 0)
    chosen = np.zeros(sizes.shape, bool)
    np.put_along_axis(chosen, order, fits, axis=1)
    return Choice(spread_over_words(chosen, sizes), (in_order * ~fits).sum(axis=1))


def occurrence_sizes(matches: Matches, shape: tuple[int, int]) -> np.ndarray:
    """int64 [B, T + 1]: at the first token of each occurrence the number of its tokens, 0 elsewhere."""
    inside, begins = np.zeros((2, *shape), bool)
    put(inside, matches.row, matches.column, matches.length, True)
    # An occurrence that begins inside the one before it is part of it.
    ends = np.maximum.accumulate(matches.row * shape[1] + matches.column + matches.length)
    is_new = np.ones(len(ends), bool)
    is_new[1:] = (matches.row * shape[1] + matches.column)[1:] >= ends[:-1]
    begins[matches.row[is_new], matches.column[is_new]] = True
    return run_sizes(inside, begins)


def count_occurrences(split: Split, words: WordList) -> np.ndarray:
    """How often each listed word occurs in a split: int64 [len(words.words)]. Reads all of it, a block at a time.

    Words that never occur deserve a warning: they may be misspelled, or written in another case.
    """
    counts = np.zeros(len(words.words), np.int64)
    for first, last in document_blocks(split, _BLOCK):
        bounds = document_bounds(split, first, last)
        starts, ends = bounds[:-1], bounds[1:]
        lengths = ends - starts
        # One row, with a gap after each document, so that no occurrence goes across.
        columns = starts - starts[0] + np.arange(len(starts))
        tokens = np.zeros((1, int(ends[-1] - starts[0]) + len(starts)), np.int32)
        valid = np.zeros(tokens.shape, bool)
        for array, values in ((tokens, split.read(starts, ends)), (valid, True)):
            put(array, np.zeros_like(columns), columns, lengths, values)
        counts += np.bincount(words.find(tokens, valid).word, minlength=len(counts))
    return counts


def kept_counts(split: Split, words: WordList) -> np.ndarray:
    """`count_occurrences`, computed once and kept next to the store."""
    digest = hashlib.sha256("\n".join(words.words).encode()).hexdigest()

    def blocks() -> Iterator[dict[str, np.ndarray]]:
        yield {"counts": count_occurrences(split, words)}

    title, columns = f"counts of {len(words.words):,} listed words", {"counts": np.dtype("<i8")}
    return open_index(split, Recipe("occurrences", title, {"words": digest}, columns, blocks))["counts"]

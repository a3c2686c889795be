"""Labeled words as rows: [CLS] pieces of the words [SEP] (Devlin et al. 2018, section 5.3).

Words are split into pieces one by one, as transformers does with `is_split_into_words`. By default only a word's first
piece is trained on its label; the prediction always comes from the first piece. A sentence with too many pieces becomes
several rows, split between words, so that every word gets a label.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from tokenizers import Regex, pre_tokenizers

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.labeled.labels import is_null_label, label_ids, label_text
from tx_jax.data.labeled.readers import Record
from tx_jax.data.labeled.sequences import Layout
from tx_jax.data.labeled.table import Ragged, Table
from tx_jax.data.rows import require_room
from tx_jax.errors import InputError
from tx_jax.text.tokenizer import Tokenizer

NO_LABEL = -1
# Python's \w lacks Hindi vowel signs and other combining marks; Oniguruma's has them. Joiners occur inside words.
_WORDS = pre_tokenizers.Split(Regex(r"\w+(?:[\u200c\u200d]\w+)*|[^\w\s]"), "removed", invert=True)


def table(
    records: Sequence[Record], data: LabeledDataConfig, tokenizer: Tokenizer, *, labels: Sequence[str] | None
) -> Table:
    """ "tokens", and "token_labels": the label id of each token that is trained on a label, `NO_LABEL` for others.

    Its `alignment`: "record", int64 [N], the record that each row comes from, ascending; "first_pieces", whether a
    token is the first piece of a word. The words of a record correspond to the first pieces in its rows, in order.

    Args:
      labels: all labels, in the order of their ids; None: the records have no labels.

    Raises:
      InputError: a record has different numbers of labels and words, or a label that is not in `labels`.
    """
    layout = Layout.of(tokenizer)
    room = require_room(data.sequence_length, len(layout.before) + len(layout.after), "a row of words")
    sentences = [words_of(record, data, number) for number, record in enumerate(records, start=1)]
    pieces, dropped = _pieces(sentences, tokenizer)
    rows, record = [], []
    for number, sentence in enumerate(pieces):
        for row in _rows([ids[:room] for ids in sentence], room):
            rows.append(row)
            record.append(number)
    numbers = iter(_label_numbers(records, data, labels, sum(map(len, rows))))
    tokens, learned, first, every = [], [], [], data.label_pieces == "all"
    for row in rows:
        tokens.append([*layout.before, *itertools.chain.from_iterable(row), *layout.after])
        first.append(_flat(([True] + [False] * (len(ids) - 1) for ids in row), layout, False))
        of_words = [(next(numbers), len(ids) - 1) for ids in row]
        learned.append(_flat(([n] + [n if every else NO_LABEL] * others for n, others in of_words), layout, NO_LABEL))
    columns = {
        "tokens": Ragged.of(tokens, fill=tokenizer.pad_id or 0),
        "token_labels": Ragged.of(learned, fill=NO_LABEL),
    }
    alignment = {"record": np.array(record, np.int64), "first_pieces": Ragged.of(first, dtype=bool)}
    counts = {
        "in several rows": int((np.bincount(alignment["record"], minlength=1) > 1).sum()),
        "with a word cut to the length of a row": sum(any(len(ids) > room for ids in words) for words in pieces),
        "with a word that the tokenizer drops": dropped,
    }
    counts = {name: count for name, count in counts.items() if count}
    return Table(columns, data.sequence_length, counts, alignment)


def words_of(record: Record, data: LabeledDataConfig, number: int = 1) -> list[str]:
    """The words of a record; if it has a text instead, the text's words and punctuation marks.

    Raises:
      InputError: the values are not words.
    """
    words = record[data.text[0]]
    if isinstance(words, str):
        return [word for word, _ in _WORDS.pre_tokenize_str(words)]
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError(f"example {number}: column {data.text[0]!r} is not a list of words: {words!r:.60}")
    return words


def labels_of_words(records: Sequence[Record], data: LabeledDataConfig) -> list[list[str]]:
    """The labels of each record.

    Raises:
      InputError: a record has different numbers of labels and words.
    """
    result = []
    for number, record in enumerate(records, start=1):
        labels, count = record[data.label], len(words_of(record, data, number))
        if not isinstance(labels, list) or len(labels) != count:
            found = f"{len(labels)} labels" if isinstance(labels, list) else "no list of labels"
            raise InputError(
                f"example {number}: {found} in column {data.label!r} for {count} words, but each word needs one"
            )
        if at := next((i for i, label in enumerate(labels, 1) if is_null_label(label, data.null_values)), None):
            raise InputError(f"example {number}: word {at} has no label in column {data.label!r}")
        result.append(list(map(label_text, labels)))
    return result


def _pieces(sentences: Sequence[Sequence[str]], tokenizer: Tokenizer) -> tuple[list[list[list[int]]], int]:
    """The ids of each word of each sentence, and how many sentences have a word that the tokenizer drops.

    Every word has at least one id: a word that the tokenizer drops, such as a control character, is an unknown token.
    """
    vocabulary = list({word: None for sentence in sentences for word in sentence})
    ids = dict(zip(vocabulary, tokenizer.encode_words(vocabulary), strict=True))
    dropped = {word for word in vocabulary if not ids[word]}
    if dropped:
        tokenizer.require("unk")
        ids |= {word: [tokenizer.unk_id] for word in dropped}
    pieces = [[ids[word] for word in sentence] for sentence in sentences]
    return pieces, sum(not dropped.isdisjoint(sentence) for sentence in sentences)


def _rows(words: Sequence[list[int]], room: int) -> Iterator[list[list[int]]]:
    """Splits the words into rows, with as many words in each row as fit."""
    row, size = [], 0
    for ids in words:
        if size + len(ids) > room:
            yield row
            row, size = [], 0
        row.append(ids)
        size += len(ids)
    if row:
        yield row


def _flat(row: Iterable[Sequence], layout: Layout, special: Any) -> list:
    """The values for the pieces of a row, with `special` for each special token around them."""
    values = itertools.chain.from_iterable(row)
    return [*(special for _ in layout.before), *values, *(special for _ in layout.after)]


def _label_numbers(
    records: Sequence[Record], data: LabeledDataConfig, labels: Sequence[str] | None, num_words: int
) -> Sequence[int]:
    """The label id of each word."""
    if labels is None:
        return [NO_LABEL] * num_words
    texts = itertools.chain.from_iterable(labels_of_words(records, data))
    return label_ids(list(texts), labels, unit="word").tolist()

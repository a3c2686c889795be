"""Sentences of labeled words: the columns of the CoNLL shared tasks, and CoNLL-U.

Each line is a word with its labels; an empty line ends a sentence. Each record is a sentence, with a list of values
for each column.
"""

import re
from collections.abc import Iterator

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.labeled.lines import lines
from tx_jax.data.reading import InputFile
from tx_jax.errors import InputError

Sentence = dict[str, list[str]]
# https://universaldependencies.org/format.html
CONLLU = ("id", "form", "lemma", "upos", "xpos", "feats", "head", "deprel", "deps", "misc")
# Multiword tokens such as 1-2, whose words follow, and nodes such as 8.1 that are not words.
_NO_WORD = re.compile(r"\d+[-.]\d+")


def conll(file: InputFile, config: LabeledDataConfig) -> Iterator[tuple[int, Sentence]]:
    """The sentences of a file in CoNLL-2003 or a similar format, each with the number of its first line.

    Columns are separated by tabs, or by spaces if a line has no tab. `config.columns` names them; by default they
    are "0", "1", ... Lines with -DOCSTART- and comments before the first word of a sentence are skipped.

    Raises:
      InputError: a line and the first line differ in their number of columns.
    """
    in_sentence = False

    def words() -> Iterator[tuple[int, list[str]]]:
        nonlocal in_sentence
        for number, text in lines(file):
            # Inside a sentence, a line that begins with # is the word #.
            fields = fields_of(text, "" if in_sentence else config.comment)
            if fields is not None:
                in_sentence = bool(fields)
                yield number, fields

    return _sentences(file, words(), config.columns, has_comments=bool(config.comment))


def fields_of(line: str, comment: str) -> list[str] | None:
    """A line's fields, separated by tabs, or by spaces if it has no tab; None for a line to skip.

    Args:
      comment: what a comment begins with, followed by white space or nothing: "#word" is no comment. "": no comments.
    """
    fields = line.split("\t") if "\t" in line else line.split(" ")
    fields = [field for field in fields if field]
    return None if fields and fields[0] in ("-DOCSTART-", comment) else fields


def conllu(file: InputFile) -> Iterator[tuple[int, Sentence]]:
    """The sentences of a CoNLL-U file, each with the number of its first line; `CONLLU` names the columns.

    The words are the syntactic words, which carry the labels: "de" and "el" for "del". Comments are skipped.

    Raises:
      InputError: a line that is not a comment does not have ten columns, or has no number in the first.
    """

    def words() -> Iterator[tuple[int, list[str]]]:
        for number, text in lines(file):
            fields = text.split("\t") if text.strip() else []
            if text.startswith("#") or (fields and _NO_WORD.fullmatch(fields[0])):
                continue
            if fields and not fields[0].isdecimal():
                raise InputError(
                    f"{file}, line {number}: begins with {fields[0][:30]!r} where CoNLL-U has a word's number; for "
                    "other columns give --config.data.format=conll"
                )
            yield number, fields

    return _sentences(file, words(), CONLLU, has_comments=True)


def _sentences(
    file: InputFile, words: Iterator[tuple[int, list[str]]], columns: tuple[str, ...], *, has_comments: bool
) -> Iterator[tuple[int, Sentence]]:
    """Groups words into sentences; a line without fields ends a sentence."""
    first, rows, signs = 0, [], set()
    for number, fields in words:
        if not fields:
            if rows:
                yield first, _by_column(columns, rows)
            rows = []
            continue
        columns = columns or tuple(map(str, range(len(fields))))
        signs = signs or {fields[0]}
        if len(fields) != len(columns):
            problem = f"{file}, line {number}: {len(fields)} columns, not {len(columns)} ({', '.join(columns)})"
            if not has_comments and "#" in (signs | {fields[0]}):
                raise InputError(f"{problem}; if lines that begin with # are comments, give --config.data.comment='#'")
            raise InputError(f"{problem}; an empty line ends a sentence")
        first = first if rows else number
        rows.append(fields)
    if rows:
        yield first, _by_column(columns, rows)


def _by_column(columns: tuple[str, ...], rows: list[list[str]]) -> Sentence:
    return {name: list(values) for name, values in zip(columns, zip(*rows, strict=True), strict=True)}

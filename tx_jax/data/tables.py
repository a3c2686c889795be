"""Text tables: reads rows of delimited fields, and detects the delimiter and quote character."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tx_jax.errors import InputError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# The library's default limit is low; with no limit, one unclosed quote would read a whole corpus into memory.
_LONGEST_FIELD = 1 << 28


class BadQuotes(InputError):
    """Quotes in a table are invalid; callers may add an option to the message."""


@dataclass(frozen=True)
class TableShape:
    """How a table is written.

    Attributes:
      delimiter: one character.
      quote: the character around fields that contain delimiters, line breaks or quotes (which are doubled), or "" if
        quotes mean nothing.
      first: the fields of the first row.
      is_regular: there are several rows, all with the same number of fields, at least two.
    """

    delimiter: str
    quote: str
    first: tuple[str, ...]
    is_regular: bool


def rows(
    lines: Iterable[tuple[int, str]], place: str, *, delimiter: str, quote: str
) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) for every row; an empty line is a row without fields.

    Args:
      lines: (line number, text), with or without line endings.
      place: the file, for messages.
      delimiter, quote: see `TableShape`.

    Raises:
      BadQuotes: a quote is never closed, or text follows a closing quote; the message names the line.
    """
    if not quote:
        for number, text in lines:
            text = text.rstrip("\r\n")
            yield number, text.split(delimiter) if text else []
        return
    at = 0

    def texts() -> Iterator[str]:
        nonlocal at
        for number, text in lines:
            at = number
            yield text if text.endswith("\n") else text + "\n"

    reader = csv.reader(texts(), delimiter=delimiter, quotechar=quote, strict=True)
    begins = 1
    while True:
        try:
            fields = _next(reader)
        except csv.Error as error:
            unclosed = "unexpected end" in str(error) or "field limit" in str(error)
            problem = "a quote is opened and never closed" if unclosed else str(error)
            raise BadQuotes(f"{place}, line {begins}: {problem}; inside quotes, a quote is written twice") from None
        if fields is None:
            return
        yield begins, fields
        begins = at + 1


def _next(reader: Iterator[list[str]]) -> list[str] | None:
    before = csv.field_size_limit(_LONGEST_FIELD)  # the limit is process-wide: restore it before other code runs
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def detect(
    head: str, *, whole: bool, names: Iterable[str] = (), delimiter: str = "", quote: str | None = None
) -> TableShape:
    """The `TableShape` that best fits the beginning of a file.

    Prefers a delimiter with which the first row contains the requested names; then one that gives all rows the same
    number of fields, with the most fields; then the most frequent one in the first row.

    Args:
      head: text from the beginning of the file.
      whole: whether `head` is the entire file; otherwise its last line is ignored.
      names: names of expected columns.
      delimiter, quote: their values, if known.
    """
    text = head if whole or "\n" not in head else head[: head.rfind("\n") + 1]
    first = text.lstrip("\r\n").partition("\n")[0]
    possible = [delimiter] if delimiter else [one for one in DELIMITERS if one in first] or [","]
    shapes = [_shape(text, whole, one, quote) for one in possible]
    names = set(names)

    def fit(shape: TableShape) -> tuple[int, bool, int]:
        cells = {cell.strip() for cell in shape.first}
        return len(names & cells) if len(cells) > 1 else 0, shape.is_regular, len(shape.first)

    return max(shapes, key=fit)


def _shape(text: str, whole: bool, delimiter: str, quote: str | None) -> TableShape:
    """The shape of a table, given its delimiter.

    In tab-separated files, quotes are often part of the text, as in GLUE. They are taken to enclose fields only if that
    alone gives all rows the same number of fields, or if quoted fields contain doubled quotes, or if every field is
    quoted.
    """
    quotes = (['"', ""] if delimiter == "\t" else ['"']) if quote is None else [quote]
    shapes = []
    for one in quotes:
        found = _parsed(text, whole, delimiter, one)
        first = tuple(found[0]) if found else ()
        is_regular = len(found) > 1 and len(first) > 1 and all(len(fields) == len(first) for fields in found)
        shapes.append(TableShape(delimiter, one, first, is_regular))
    if len(shapes) == 2 and (shapes[1].is_regular or not shapes[0].is_regular) and not _encloses(text):
        return shapes[1]
    return shapes[0]


def _parsed(text: str, whole: bool, delimiter: str, quote: str) -> list[list[str]]:
    """The rows before the first one that cannot be read or that may continue after the text."""
    numbered = enumerate(io.StringIO(text, newline="\n"), start=1)
    found = []
    try:
        for _, fields in rows(numbered, "", delimiter=delimiter, quote=quote):
            if fields:
                found.append(fields)
    except BadQuotes:
        return found if not whole else [*found, []]
    return found


def _encloses(text: str) -> bool:
    """Whether double quotes in a tab-separated file seem to enclose fields rather than to be part of the text."""
    fields = [field for line in text.splitlines() if line for field in line.split("\t")]
    opened = [field for field in fields if field.startswith('"')]
    inside = [field[1:-1] for field in opened if len(field) > 1 and field.endswith('"')]
    if not inside or len(inside) < len(opened) or any('"' in text.replace('""', "") for text in inside):
        return False
    return len(inside) == len(fields) or any('""' in text for text in inside)

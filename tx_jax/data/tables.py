"""Tables as text: rows of fields between delimiters, and which delimiter and quote a table has."""

import csv
import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tx_jax.errors import InputError

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
# The library's own limit is low; without any, one quote that is never closed would read a whole corpus into memory.
_LONGEST_FIELD = 1 << 28


class BadQuotes(InputError):
    """Quotes in a table do not fit; who reads it may know an option to add to the message."""


@dataclass(frozen=True)
class TableShape:
    """How a table is written.

    Attributes:
      delimiter: one character.
      quote: the character around fields with delimiters, line breaks or quotes in them (a quote is then written twice),
        or "" where quotes mean nothing.
      first: the fields of the first row.
      is_regular: there are several rows of several fields, and all have equally many.
    """

    delimiter: str
    quote: str
    first: tuple[str, ...]
    is_regular: bool


def rows(
    lines: Iterable[tuple[int, str]], place: str, *, delimiter: str, quote: str
) -> Iterator[tuple[int, list[str]]]:
    """(number of its first line, fields) of every row; an empty line is a row without fields.

    Args:
      lines: with their numbers; with or without their ends.
      place: the file, for messages.
      delimiter, quote: see `TableShape`.

    Raises:
      BadQuotes: a quote that is never closed, or text after a closing one; with the line.
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
    before = csv.field_size_limit(_LONGEST_FIELD)  # one limit for the whole process: put back before others run
    try:
        return next(reader, None)
    finally:
        csv.field_size_limit(before)


def detect(
    head: str, *, whole: bool, names: Iterable[str] = (), delimiter: str = "", quote: str | None = None
) -> TableShape:
    """The `TableShape` that fits the beginning of a file best.

    A delimiter that makes the first row hold the names asked for goes before all others; then one that makes all rows
    equally long, with the most fields; then the most frequent one of the first row.

    Args:
      head: text from the beginning of the file.
      whole: whether it is all of it; otherwise its last line is left out.
      names: of columns that are looked for.
      delimiter, quote: where they are known.
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
    """How a table is written, if this is what stands between its columns.

    Between tabs, quotes are often a part of the text, as in GLUE. They enclose fields where only that makes the rows
    equally long, or else where there are doubled quotes inside of them, or quotes around every field.
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
    """The rows up to the first that cannot be read, or that may go on after the text."""
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
    """Whether double quotes look like those around fields between tabs, rather than like a part of the text."""
    fields = [field for line in text.splitlines() if line for field in line.split("\t")]
    opened = [field for field in fields if field.startswith('"')]
    inside = [field[1:-1] for field in opened if len(field) > 1 and field.endswith('"')]
    if not inside or len(inside) < len(opened) or any('"' in text.replace('""', "") for text in inside):
        return False
    return len(inside) == len(fields) or any('""' in text for text in inside)

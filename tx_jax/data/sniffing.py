"""Detects what a file holds from its beginning: JSON lines, a JSON array, a table, markup, parquet, plain text, ...

The content decides. The file extension is used only if the content looks like plain text. Broken JSON and a table with
one column look like that too; with the extension, reading them fails with the line instead of treating them as text.
"""

import codecs
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass

from tx_jax.data import tables
from tx_jax.data.reading import InputFile, refuse_utf16

HEAD_BYTES = 1 << 14
# A first line longer than the head is read up to this limit, to distinguish JSON lines from one large object.
_LONGEST_FIRST_LINE = 1 << 22

# Possible values of `Content.kind` -> their names in messages.
KINDS = {
    "text": "plain text",
    "jsonl": "JSON lines",
    "json_array": "a JSON array",
    "json": "JSON objects",
    "table": "a table",
    "conll": "words in CoNLL columns",
    "conllu": "CoNLL-U",
    "parquet": "parquet",
    "markup": "HTML or XML",
    "binary": "no text",
    "empty": "an empty file",
}
_BY_ENDING = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "json",
    ".csv": "table",
    ".tsv": "table",
    ".conll": "conll",
    ".iob2": "conll",
    ".conllu": "conllu",
    ".parquet": "parquet",
}
_DELIMITER_BY_ENDING = {".tsv": "\t"}
_FORMATS_OF_BYTES = (
    (b"%PDF", "PDF"),
    (b"\xd0\xcf\x11\xe0", "a document of an older office program"),
    (b"{\\rtf", "RTF"),
    (b"7z\xbc\xaf'\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"),
    (b"ARROW1", "an Arrow file"),
    (b"\x89HDF", "HDF5"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x1f\x8b", "compressed twice (gzip)"),
    (b"PK\x03\x04", "a zip in an archive"),
    (b"\x28\xb5\x2f\xfd", "compressed twice (zstd)"),
    (b"\xfd7zXZ\0", "compressed twice (xz)"),
    (b"BZh", "compressed twice (bzip2)"),
)
_TAR = slice(257, 262)
_OBJECT = re.compile(r'\{\s*(?:"(?:[^"\\]|\\.)*"\s*:|\})')
_ARRAY = re.compile(r"\[\s*\{\s*[\"}]|\[\s*\]\s*\Z")
_TAG = re.compile(r"<[!?/]?[A-Za-z][^<>]{0,2000}>")
_CLOSING_TAG = re.compile(r"</[A-Za-z][\w:.-]*\s*>")
_WORD_NUMBER = re.compile(r"\d+(?:[-.]\d+)?")
_ENTITY_TAG = re.compile(r"O|[BIESLUM]-\S+")
_HEADER_CELL = re.compile(r"[\w.-]+")


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
      kind: one of `KINDS`.
      because: the evidence, as the rest of a sentence that begins with "because".
      table: the format of a table; also set for plain text whose lines all have the same number of fields.
    """

    kind: str
    because: str
    table: tables.TableShape | None = None

    def __str__(self) -> str:
        name = KINDS[self.kind]
        if self.kind == "table":
            name += f" with {tables.DELIMITERS.get(self.table.delimiter, repr(self.table.delimiter))} between columns"
        return f"{name}, because {self.because}"


def sniff(file: InputFile, *, names: Iterable[str] = ()) -> Content:
    """Detects what a file holds. `names`: names of expected columns, which help recognize a table.

    Raises:
      InputError: it is in UTF-16, or its compression is damaged.
    """
    data, whole = read_head(file)
    if not data:
        return Content("empty", "there is nothing in it")
    if binary := _binary(data):
        return binary
    refuse_utf16(data, file)
    if zeros_and_the_like := _control_characters(data):
        return zeros_and_the_like
    head = decode_head(data, whole)
    return sniff_text(head, whole=whole, ending=file.ending, names=names)


def read_head(file: InputFile) -> tuple[bytes, bool]:
    """(the first bytes, decompressed; whether they are the whole file)."""
    with file.open() as stream:
        data = stream.read(HEAD_BYTES)
        if b"\n" not in data and data.lstrip(codecs.BOM_UTF8 + b" \t\r").startswith(b"{"):
            data += stream.readline(_LONGEST_FIRST_LINE)
        return data, not stream.read(1)


def decode_head(data: bytes, whole: bool) -> str:
    """Decodes text for inspection: invalid UTF-8 is replaced, and a character cut off at the end is dropped."""
    return codecs.getincrementaldecoder("utf-8-sig")(errors="replace").decode(data, final=whole)


def sniff_text(head: str, *, whole: bool, ending: str = "", names: Iterable[str] = ()) -> Content:
    """Detects what a text holds from its beginning.

    Args:
      head: the beginning; `whole`: whether it is the entire text.
      ending: the file extension, such as ".csv", which decides if the text does not.
      names: see `sniff`.
    """
    lines = head.splitlines() if whole or "\n" not in head else head[: head.rindex("\n")].splitlines()
    lines = [line for line in lines if line.strip()]
    if not lines:
        return Content("text", "there is only white space")
    content = _json(head, lines, whole, ending) or _markup(head) or _conllu(lines) or _conll(lines)
    if content:
        return content
    shape = tables.detect(head, whole=whole, names=names, delimiter=_DELIMITER_BY_ENDING.get(ending, ""))
    if found := _header(shape, lines, set(names)):
        return Content("table", f"its first line names the column {found!r} among {len(shape.first)}", shape)
    if kind := _BY_ENDING.get(ending):
        return Content(kind, f"its name ends in {ending}", shape if kind == "table" else None)
    because = "nothing in it says that it is anything else"
    if not shape.is_regular or shape.delimiter == ",":  # prose has commas
        return Content("text", because)
    return Content("text", f"{because} (though {tables.DELIMITERS[shape.delimiter]} divide every line alike)", shape)


def _binary(data: bytes) -> Content | None:
    if data.startswith(b"PAR1"):
        return Content("parquet", "it begins with PAR1")
    for magic, name in _FORMATS_OF_BYTES:
        if data.startswith(magic):
            return Content("binary", f"it is {name}")
    if data[_TAR] == b"ustar":
        return Content("binary", "it is a tar archive: unpack it")
    return None


def _control_characters(data: bytes) -> Content | None:
    """Detects binary data by its control characters: text has almost none, but about half of binary data."""
    control = sum(data.count(byte) for byte in range(32) if byte not in b"\t\n\r\x0b\x0c\x1b")
    if control >= 16 and control > 0.05 * len(data):
        return Content("binary", f"{control / len(data):.0%} of its first bytes are control characters")
    return None


def _json(head: str, lines: list[str], whole: bool, ending: str) -> Content | None:
    text = head.lstrip()
    if _ARRAY.match(text):
        return Content("json_array", f"it begins with {_beginning(text)}")
    if not _OBJECT.match(text):
        return None
    objects = sum(1 for _ in itertools.takewhile(_is_object, lines))
    if objects and (len(lines) > 1 or not whole or ending in (".jsonl", ".ndjson")):
        first = "its first line is" if objects == 1 else f"its first {objects} lines are each"
        return Content("jsonl", f"{first} a JSON object")
    if not objects and any(map(_is_object, lines)):
        return Content("jsonl", "some of its lines are JSON objects, though not the first")
    return Content("json", f"it begins with {_beginning(text)}")


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _beginning(text: str) -> str:
    text = " ".join(text[:60].split())
    return text if len(text) <= 30 else f"{text[:27]}..."


def _markup(head: str) -> Content | None:
    text = head.lstrip()
    if re.match(r"<!doctype\s|<\?xml\s|<html[\s>]", text, re.IGNORECASE):
        return Content("markup", f"it begins with {_beginning(text)}")
    tags = _TAG.findall(head)
    if len(tags) < 3 or not _CLOSING_TAG.search(head):
        return None
    if _TAG.match(text):
        return Content("markup", f"it begins with {_beginning(text)} and has more such tags")
    share = sum(map(len, tags)) / len(head)
    return Content("markup", f"{share:.0%} of it are tags such as {_beginning(tags[0])}") if share > 0.2 else None


def _conllu(lines: list[str]) -> Content | None:
    words = [line.split("\t") for line in lines if not line.startswith("#")]
    if words and all(len(fields) == 10 and _WORD_NUMBER.fullmatch(fields[0]) for fields in words):
        return Content("conllu", "its lines are ten columns, the first of which counts words")
    return None


def _conll(lines: list[str]) -> Content | None:
    """Detects CoNLL: a column other than the first has a tag such as O or B-... on every line."""
    words = [line.split("\t") if "\t" in line else line.split() for line in lines if "-DOCSTART-" not in line]
    if len(words) > 1 and len(words[-1]) > 1:
        columns = len(words[-1])
        words = [fields for fields in words if len(fields) == columns or not fields[0].startswith("#")]
    if len(words) < 2 or len(words[0]) < 2 or any(len(fields) != len(words[0]) for fields in words):
        return None
    for column in range(1, len(words[0])):
        if all(_ENTITY_TAG.fullmatch(fields[column]) for fields in words):
            return Content("conll", f"column {column + 1} of {len(words[0])} is O, B-... or I-... on every line")
    return None


def _header(shape: tables.TableShape, lines: list[str], names: set[str]) -> str | None:
    """A requested column name in the first line of a table; None if that line may be a sentence with commas."""
    cells = [cell.strip() for cell in shape.first]
    found = [cell for cell in cells if cell in names]
    plain = all(_HEADER_CELL.fullmatch(cell) for cell in cells)
    return found[0] if found and len(cells) > 1 and len(lines) > 1 and (shape.is_regular or plain) else None

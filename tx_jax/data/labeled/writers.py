"""Writes records as tables, JSON lines and CoNLL columns, in the formats that `readers` reads."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tx_jax.data.labeled.readers import Record, is_read
from tx_jax.errors import InputError
from tx_jax.files import check_writable, is_local, json_text, write_atomically

ENDINGS = (".csv", ".tsv", ".jsonl", ".conll")
_BREAKS = {"\t", "\n", "\r"}  # these end a cell or a line if there are no quotes


def check(path: Path, records: Sequence[Record] = (), *, source: str = "") -> None:
    """Raises InputError if the file's extension gives no known format, its folder does not exist, it is an input file
    of the source, or TSV cannot represent the records."""
    if _ending(path) not in ENDINGS:
        raise InputError(f"{path}: its extension must say what to write: {', '.join(ENDINGS)}, or one of them with .gz")
    if not is_local(path):
        check_writable(path.parent, "output")
    elif not path.parent.is_dir():
        raise InputError(f"{path}: there is no folder {path.parent}")
    if source and is_read(path, source):
        raise InputError(f"{path} is an input file, which would be lost: choose another --output")
    if _ending(path) == ".tsv":
        _table(path, records, "\t")


def write(path: Path, records: Sequence[Record]) -> None:
    """Replaces the whole file. In tables, values that are neither strings nor numbers are written as JSON.

    Raises:
      InputError: as for `check`, or a record is not a sentence that fits CoNLL's columns.
    """
    check(path)
    ending = _ending(path)
    if ending == ".jsonl":
        text = "".join(json_text(record, ensure_ascii=False) + "\n" for record in records)
    elif ending == ".conll":
        text = "\n".join(_sentence(path, number, record) for number, record in enumerate(records, start=1))
    else:
        text = _table(path, records, "\t" if ending == ".tsv" else ",")
    data = text.encode("utf-8")
    write_atomically(path, gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def _ending(path: Path) -> str:
    return Path(path.name.removesuffix(".gz")).suffix.lower()


def _table(path: Path, records: Sequence[Record], delimiter: str) -> str:
    columns = dict.fromkeys(name for record in records for name in record)
    rows = [list(columns), *([_cell(record.get(name, "")) for name in columns] for record in records)]
    if delimiter == ",":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        return text.getvalue()
    for number, row in enumerate(rows):
        if bad := next((cell for cell in row if set(cell) & _BREAKS), None):
            raise InputError(f"{path}: TSV cannot hold {bad[:40]!r} of record {number}: write .csv or .jsonl")
    return "".join("\t".join(row) + "\n" for row in rows)


def _sentence(path: Path, number: int, record: Record) -> str:
    """One word per line, with the values of all columns that have one value per word."""
    columns = [values for values in record.values() if isinstance(values, list)]
    lengths = set(map(len, columns))
    if len(lengths) != 1 or not all(isinstance(value, str | int | float) for values in columns for value in values):
        raise InputError(f"{path}: record {number} is not a sentence of words with their labels: write .jsonl or .csv")
    rows = [list(map(str, word)) for word in zip(*columns, strict=True)]
    if bad := [cell for row in rows for cell in row if not cell or set(cell) & _BREAKS]:
        raise InputError(
            f"{path}: CoNLL's columns cannot hold {bad[0][:40]!r} of record {number}: write .jsonl or .csv"
        )
    return "".join("\t".join(row) + "\n" for row in rows)


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, str | int | float) else json_text(value, ensure_ascii=False)

"""Reads labeled records from tables, JSON, parquet, CoNLL columns, SQuAD JSON and TFDS, as dicts by column name.

A file's content determines its format (see `kinds`), and its first bytes the compression (see `data.reading`).

CSV follows RFC 4180: texts that contain delimiters, quotes or line breaks are in double quotes. TSV is as in GLUE: tabs
separate columns, and quotes have no special meaning.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data import json_values, reading, tables
from tx_jax.data.corpus.sources import matches, open_tfds
from tx_jax.data.labeled.conll import conll, conllu
from tx_jax.data.labeled.kinds import Kind, kind_of
from tx_jax.data.labeled.labels import is_null, is_null_label
from tx_jax.data.labeled.lines import lines
from tx_jax.data.labeled.squad_json import squad
from tx_jax.data.reading import InputFile
from tx_jax.errors import InputError, InputWarning, did_you_mean
from tx_jax.files import is_local

Record = dict[str, Any]
Numbered = Iterator[tuple[int, Record]]
_SKIPPING = "; in training, --config.data.bad_lines=skip leaves such lines out"


def read(source: str, config: LabeledDataConfig, *, labeled: bool = True) -> list[Record]:
    """All records of a source (see `LabeledDataConfig`), in order.

    Args:
      labeled: whether each record must have a label; otherwise the label column may be missing.

    Raises:
      InputError: a file does not exist, is empty, damaged, not in UTF-8, or in no known format; a column is missing; or
        a record has no text or no label. The message names the line.
    """
    records = []
    columns = {"text": config.text, "choices": config.choices, "label": (config.label,) if labeled else ()}
    for name, unit, numbered in _open(source, config, labeled):
        before, skipped = len(records), []
        for number, record in numbered:
            _require_columns(record, f"{name}, {unit} {number}", columns, labeled)
            if problem := _missing(record, columns, config):
                if config.bad_lines == "error":
                    raise InputError(f"{name}, {unit} {number}: {problem}{_SKIPPING if labeled else ''}")
                skipped.append(number)
            else:
                records.append(record)
        if len(records) == before:
            raise InputError(f"{name} is empty: it contains no examples")
        _warn_of_skipped(name, f"{unit}s without a text or a label", skipped)
    return records


def notices(source: str, config: LabeledDataConfig, *, labeled: bool = True) -> list[str]:
    """The detected format of each file of a source, one line each, if neither the file's name nor the configuration
    gives the format.

    Raises the same errors as `read`.
    """
    files = (file for part in _parts(source) if not part.startswith("tfds:") for file in _files(part))
    return [kind.notice for file in files if (kind := kind_of(file, config, labeled=labeled)).notice]


def is_read(path: Path, source: str) -> bool:
    """Whether this file, under any name, is one of a source's files. Raises InputError if the source has no files."""
    sources = (file for part in _parts(source) for file in matches(part) or ())
    return path.exists() and any(is_local(path) == is_local(file) and path.samefile(file) for file in sources)


def _open(source: str, config: LabeledDataConfig, labeled: bool) -> Iterator[tuple[str, str, Numbered]]:
    """The name of each file, the unit that its numbers count, and its numbered records."""
    for part in _parts(source):
        if part.startswith("tfds:"):
            yield part, "record", _tfds(part)
            continue
        for file in _files(part):
            kind = kind_of(file, config, labeled=labeled)
            unit = {"squad": "question", "parquet": "record"}.get(kind.format, "line")
            yield str(file), unit, FORMATS[kind.format](file, kind, config)


def _parts(source: str) -> Iterator[str]:
    return filter(None, map(str.strip, source.split(",")))


def _files(part: str) -> Iterator[InputFile]:
    for path in matches(part):
        yield from reading.files_in(path)


def _table(file: InputFile, kind: Kind, config: LabeledDataConfig) -> Numbered:
    """Records from the fields of each line; the first line names the columns unless the configuration does."""
    columns, skipped = config.columns, []
    for number, fields in _rows(file, kind):
        if not fields:
            continue
        if not columns:
            columns = tuple(field.strip() for field in fields)
            if doubled := {name for name in columns if name and columns.count(name) > 1}:
                raise InputError(f"{file} has several columns named {', '.join(sorted(doubled))}")
        elif len(fields) == len(columns):
            yield number, dict(zip(columns, fields, strict=True))
        elif config.bad_lines == "skip":
            skipped.append(number)
        else:
            raise InputError(
                f"{file}, line {number}: {len(fields)} fields, not {len(columns)} ({', '.join(columns)}): quote texts "
                f"with separators in them{_other_shape(kind)}{_SKIPPING}"
            )
    _warn_of_skipped(str(file), "lines with another number of fields than columns", skipped)


def _rows(file: InputFile, kind: Kind) -> Iterator[tuple[int, list[str]]]:
    try:
        yield from tables.rows(reading.lines(file), str(file), delimiter=kind.delimiter, quote=kind.quote)
    except tables.BadQuotes as error:
        advice = "if quotes mean nothing in this file, give --config.data.quote=none"
        raise InputError(f"{error}; {advice}") from None


def _other_shape(kind: Kind) -> str:
    between = tables.DELIMITERS.get(kind.delimiter, repr(kind.delimiter))
    return f", or name the delimiter, which is taken to be {between}, with --config.data.delimiter"


def _warn_of_skipped(name: str, what: str, numbers: list[int]) -> None:
    if numbers:
        first = ", ".join(map(str, numbers[:3])) + (", ..." if len(numbers) > 3 else "")
        warnings.warn(f"{name}: {len(numbers)} {what} are skipped: {first}", InputWarning, stacklevel=3)


def _jsonl(file: InputFile, kind: Kind, config: LabeledDataConfig) -> Numbered:
    for number, text in lines(file):
        if text.strip():
            place = f"{file}, line {number}"
            yield number, _object(json_values.parse_json(text, place), place)


def _json(file: InputFile, kind: Kind, config: LabeledDataConfig) -> Numbered:
    """The items of a list, or a sequence of objects."""
    with file.open() as stream:
        chunks = json_values.json_chunks(json_values.byte_chunks(stream), file)
        for number, value in json_values.json_values(chunks, str(file)):
            place = f"{file}, line {number}"
            json_values.refuse_half_characters(value, place)
            yield number, _object(value, place)


def _object(value: Any, place: str) -> Record:
    if not isinstance(value, dict):
        raise InputError(f"{place}: a {type(value).__name__}, not an object with named fields")
    return value


def _parquet(file: InputFile, kind: Kind, config: LabeledDataConfig) -> Numbered:
    pyarrow = reading.import_pyarrow(f"{file}: parquet")
    from pyarrow import parquet

    with file.open() as stream:  # decompressed, since reading parquet starts at the end
        content = pyarrow.BufferReader(stream.read())
    done = 0
    try:
        for batch in parquet.ParquetFile(content).iter_batches():
            yield from enumerate(map(_as_json, batch.to_pylist()), start=done + 1)
            done += len(batch)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{file} is damaged after record {done} ({' '.join(str(error).split())})") from None


def _as_json(value: Any) -> Any:
    """A value as JSON represents it: NaN as null; dates, decimals and other types that JSON lacks as strings."""
    if isinstance(value, dict):
        return {str(key): _as_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return list(map(_as_json, value))
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="backslashreplace")
    if value is None or value != value:
        return None
    return value if isinstance(value, str | bool | int | float) else str(value)


def _txt(file: InputFile, kind: Kind, config: LabeledDataConfig) -> Numbered:
    """One text per line; empty lines are skipped, with a warning about those between texts."""
    if len(config.text) > 1 or config.choices:
        raise InputError(
            f"{file}: one text per line is not enough for {', '.join(config.text + config.choices)}: give CSV"
        )
    skipped: list[int] = []
    empty: list[int] = []
    for number, text in lines(file):
        if text.strip():
            skipped += empty
            empty.clear()
            yield number, {config.text[0]: text}
        else:
            empty.append(number)
    _warn_of_skipped(str(file), "empty lines", skipped)


def _tfds(source: str) -> Numbered:
    name, _, split = source.removeprefix("tfds:").partition("#")
    if not split:
        raise InputError(f"{source}: which split of it? {source}#train, or another")
    records = open_tfds(name, split, None)
    features = records.dataset_info.features
    for index in range(len(records)):
        yield index, {key: _plain(value, features[key]) for key, value in records[index].items()}


def _plain(value: Any, feature: Any) -> Any:
    """A TFDS value as JSON represents it; classes by name, and None for the -1 of an unlabeled example."""
    if isinstance(value, dict):
        inner = getattr(feature, "feature", feature)
        return {key: _plain(item, inner[key]) for key, item in value.items()}
    if getattr(value, "ndim", 0) or isinstance(value, list):
        return [_plain(item, getattr(feature, "feature", feature)) for item in value]
    if isinstance(value, bytes):
        return value.decode("utf-8")
    value = value.item() if hasattr(value, "item") else value
    if not hasattr(feature, "int2str"):
        return value
    return feature.int2str(value) if value >= 0 else None


def _require_columns(record: Record, place: str, columns: Mapping[str, Sequence[str]], labeled: bool) -> None:
    """Raises InputError unless the record has all these columns, given by the configuration keys that name them."""
    for key, names in columns.items():
        for name in names:
            if name not in record:
                near = did_you_mean(name, map(str, record))
                advice = f"Name it with --config.data.{key}"
                advice += "" if labeled else ", or give it the name that training had"
                raise InputError(
                    f"{place}: no column {name!r} among {_shortened(record)}.{near} {advice}; a table whose first line "
                    "has no names needs --config.data.columns"
                )


def _missing(record: Record, columns: Mapping[str, Sequence[str]], config: LabeledDataConfig) -> str | None:
    """What is missing from a record that has all the columns."""
    # A text with separators may contain no labels at all.
    of_label = is_null if config.label_separator else is_null_label
    for key, names in columns.items():
        for name in names:
            if (of_label if key == "label" else is_null)(record[name], config.null_values):
                return f"no {'label' if key == 'label' else 'text'} in column {name!r}"
    return None


def _shortened(record: Record) -> str:
    return ", ".join(repr(name if len(name) <= 30 else f"{name[:27]}...") for name in map(str, record)) or "none"


# Format (a key of `kinds.NAMES`) -> its reader, which maps a file to (line number, record) pairs.
FORMATS: dict[str, Callable[[InputFile, Kind, LabeledDataConfig], Numbered]] = {
    "csv": _table,
    "tsv": _table,
    "jsonl": _jsonl,
    "json": _json,
    "parquet": _parquet,
    "txt": _txt,
    "conll": lambda file, kind, config: conll(file, config),
    "conllu": lambda file, kind, config: conllu(file),
    "squad": lambda file, kind, config: squad(file),
}

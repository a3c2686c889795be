"""Records with labels: of tables, JSON lines, CoNLL columns, SQuAD JSON and TFDS. A record is a dict by column name.

CSV is RFC 4180: texts with commas, quotes or line breaks in them stand between double quotes. A first line with
semicolons and no comma means that semicolons separate, as spreadsheets write it in much of Europe. TSV is that of GLUE:
tabs separate, and quotes mean nothing.
"""

import csv
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data.corpus.sources import matches, open_tfds
from tx_jax.data.json_values import parse_json
from tx_jax.data.labeled.conll import conll, conllu
from tx_jax.data.labeled.lines import lines
from tx_jax.data.labeled.squad_json import squad
from tx_jax.errors import InputError, InputWarning, did_you_mean

Record = dict[str, Any]


def read(source: str, config: LabeledDataConfig, *, labeled: bool = True) -> list[Record]:
    """All records of a source, see `LabeledDataConfig`, in its order.

    Args:
      labeled: whether each must have a label; otherwise its column may be missing.

    Raises:
      InputError: no such file, an empty one, one that is damaged or not in UTF-8, columns that are not there, or a
        record without a text or a label; with the line.
    """
    records = []
    for part in filter(None, map(str.strip, source.split(","))):
        for name, unit, numbered in _open(part, config):
            before = len(records)
            for number, record in numbered:
                _check(record, f"{name}, {unit} {number}", config, labeled)
                records.append(record)
            if len(records) == before:
                raise InputError(f"{name} is empty: there are no examples in it")
    return records


def _open(part: str, config: LabeledDataConfig) -> Iterator[tuple[str, str, Iterator[tuple[int, Record]]]]:
    """The name of each file, what is counted in it, and its records with their numbers."""
    if part.startswith("tfds:"):
        yield part, "record", _tfds(part)
        return
    for path in matches(part):
        kind = format_of(path, config)
        yield str(path), "question" if kind == "squad" else "line", FORMATS[kind](path, config)


def format_of(path: Path, config: LabeledDataConfig) -> str:
    """Of a file, by the configuration or its ending.

    Raises:
      InputError: the ending says nothing.
    """
    if config.format != "auto":
        return config.format
    name = path.name.removesuffix(".gz")
    if (ending := name[name.rfind(".") :].lower()) not in ENDINGS:
        raise InputError(
            f"{path}: its ending does not say what it is; known are {', '.join(ENDINGS)}, or give "
            f"--config.data.format={'|'.join(FORMATS)}"
        )
    return ENDINGS[ending]


def _csv(path: Path, config: LabeledDataConfig) -> Iterator[tuple[int, Record]]:
    first = next((text for _, text in lines(path)), "")
    delimiter = ";" if ";" in first and "," not in first else ","
    # The library's limit on the length of a field is there for programs that hold many at once.
    limit = csv.field_size_limit(sys.maxsize)
    reader = csv.reader((text + "\n" for _, text in lines(path)), delimiter=delimiter, strict=True)

    def rows() -> Iterator[tuple[int, list[str]]]:
        begins = 1
        try:
            for fields in reader:
                yield begins, fields
                begins = reader.line_num + 1
        except csv.Error as error:
            unclosed = "unexpected end" in str(error)
            problem = "a quote is opened and never closed" if unclosed else str(error)
            raise InputError(
                f"{path}, line {begins}: {problem}; inside quotes, a quote is written twice. A file without quoting is "
                "--config.data.format=tsv"
            ) from None

    try:
        yield from _table(path, rows(), config)
    finally:
        csv.field_size_limit(limit)


def _tsv(path: Path, config: LabeledDataConfig) -> Iterator[tuple[int, Record]]:
    return _table(path, ((number, text.split("\t") if text else []) for number, text in lines(path)), config)


def _table(
    path: Path, rows: Iterator[tuple[int, list[str]]], config: LabeledDataConfig
) -> Iterator[tuple[int, Record]]:
    """Records from the fields of each line, the first of which names the columns unless the configuration does."""
    columns, skipped = config.columns, []
    for number, fields in rows:
        if not fields:
            continue
        if not columns:
            columns = tuple(field.strip() for field in fields)
            if doubled := {name for name in columns if name and columns.count(name) > 1}:
                raise InputError(f"{path} has several columns of the name {', '.join(sorted(doubled))}")
        elif len(fields) == len(columns):
            yield number, dict(zip(columns, fields, strict=True))
        elif config.bad_lines == "skip":
            skipped.append(number)
        else:
            raise InputError(
                f"{path}, line {number}: {len(fields)} fields, not {len(columns)} ({', '.join(columns)}): quote texts "
                "with separators in them; in training, --config.data.bad_lines=skip leaves such lines out"
            )
    if skipped:
        first = ", ".join(map(str, skipped[:3])) + (", ..." if len(skipped) > 3 else "")
        text = f"{path}: {len(skipped)} lines with another number of fields than columns are left out: {first}"
        warnings.warn(text, InputWarning, stacklevel=2)


def _jsonl(path: Path, config: LabeledDataConfig) -> Iterator[tuple[int, Record]]:
    for number, text in lines(path):
        if not text.strip():
            continue
        record = parse_json(text, f"{path}, line {number}")
        if not isinstance(record, dict):
            raise InputError(f"{path}, line {number}: a {type(record).__name__}, not an object with named fields")
        yield number, record


def _txt(path: Path, config: LabeledDataConfig) -> Iterator[tuple[int, Record]]:
    """A text a line; empty lines are left out."""
    if len(config.text) > 1 or config.choices:
        raise InputError(f"{path}: a text a line is not enough for {', '.join(config.text + config.choices)}: give CSV")
    return ((number, {config.text[0]: text}) for number, text in lines(path) if text.strip())


def _tfds(source: str) -> Iterator[tuple[int, Record]]:
    name, _, split = source.removeprefix("tfds:").partition("#")
    if not split:
        raise InputError(f"{source}: which split of it? {source}#train, or another")
    records = open_tfds(name, split, None)
    features = records.dataset_info.features
    for index in range(len(records)):
        yield index, {key: _plain(value, features[key]) for key, value in records[index].items()}


def _plain(value: Any, feature: Any) -> Any:
    """A TFDS value as JSON would have it; classes by their names, and None for the -1 of an unlabeled example."""
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


def _check(record: Record, place: str, config: LabeledDataConfig, labeled: bool) -> None:
    """Raises InputError unless all that the configuration names is there."""
    columns = {"text": config.text, "choices": config.choices, "label": (config.label,) if labeled else ()}
    for key, names in columns.items():
        for name in names:
            if name not in record:
                near = did_you_mean(name, map(str, record))
                advice = f"Name it with --config.data.{key}"
                advice += "" if labeled else ", or give it the name that training had"
                raise InputError(
                    f"{place}: no column {name!r} among {_shortened(record)}.{near} {advice}; a table whose first line "
                    "holds no names needs --config.data.columns"
                )
            if record[name] is None or (key == "label" and not str(record[name]).strip()):
                raise InputError(f"{place}: no {'label' if key == 'label' else 'text'} in column {name!r}")


def _shortened(record: Record) -> str:
    return ", ".join(repr(name if len(name) <= 30 else f"{name[:27]}...") for name in map(str, record)) or "none"


# Format -> its reader: from a file to (line number, record).
FORMATS: dict[str, Callable[[Path, LabeledDataConfig], Iterator[tuple[int, Record]]]] = {
    "csv": _csv,
    "tsv": _tsv,
    "jsonl": _jsonl,
    "txt": _txt,
    "conll": conll,
    "conllu": conllu,
    "squad": squad,
}
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".txt": "txt",
    ".conll": "conll",
    ".iob2": "conll",
    ".conllu": "conllu",
    ".json": "squad",
}

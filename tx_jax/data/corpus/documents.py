"""Reads the documents of a file according to its content: plain text, JSON lines, JSON, a table, or parquet.

A reader holds one document at a time (parquet: a few hundred rows of a row group), so memory does not grow with the
file.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

from tx_jax.data import tables
from tx_jax.data.corpus.cleaning import Cleaner
from tx_jax.data.corpus.config import TABLES, SourceConfig
from tx_jax.data.json_values import NotJSON, byte_chunks, json_chunks, json_values
from tx_jax.data.reading import InputFile, NotUTF8, import_pyarrow, lines
from tx_jax.data.sniffing import Content, decode_head, read_head, sniff
from tx_jax.errors import InputError, did_you_mean
from tx_jax.files import is_local

_PARQUET_ROWS = 256
_LINES_A_REPORT = 64
# Forced format -> kinds that the content may look like. Broken JSON looks like text; reading it fails with the line.
_FITS = {
    "text": ("text", "jsonl", "json_array", "json", "table", "conll", "conllu", "markup"),
    "jsonl": ("jsonl", "json"),
    "json": ("json", "json_array", "jsonl"),
    "csv": ("table", "text", "conll", "conllu"),
    "tsv": ("table", "text", "conll", "conllu"),
    "parquet": ("parquet",),
}
_REFUSED = {
    "markup": "markup is not text: extract the text first, or use the file as it is with --format=text",
    "conll": "words in columns are not running text: use the lines as they are with --format=text",
    "conllu": "words in columns are not running text: use the lines as they are with --format=text",
    "binary": "convert it to plain text, JSON lines or CSV first",
}

# Called with the number of bytes of the file on disk that have been read.
Report = Callable[[int], None]


def recognize(file: InputFile, config: SourceConfig) -> Content:
    """Determines the kind of a file from the configuration, or else from its content.

    Raises:
      InputError: it cannot be read, is not text, does not fit `config.format`, or is a table without the column.
    """
    content = sniff(file, names=(config.field,))
    if content.kind == "empty":
        return content
    if config.format != "auto":
        if content.kind not in _FITS[config.format]:
            raise InputError(f"{file} is {content}, which --format={config.format} cannot read")
        kind = "table" if config.format in TABLES else config.format
        content = Content(kind, f"--format={config.format} says so")
    if content.kind in _REFUSED:
        raise InputError(f"{file} is {content}: {_REFUSED[content.kind]}")
    return replace(content, table=_shape(file, config)) if content.kind == "table" else content


def _shape(file: InputFile, config: SourceConfig) -> tables.TableShape:
    """The shape of a table. Raises InputError if it lacks the text column."""
    delimiter = config.delimiter or ("\t" if config.format == "tsv" or file.ending == ".tsv" else "")
    data, whole = read_head(file)
    shape = tables.detect(
        decode_head(data, whole),
        whole=whole,
        names=(config.field,),
        delimiter=delimiter,
        quote=config.quote_character,
    )
    columns = [name.strip() for name in shape.first]
    if columns.count(config.field) != 1:
        problem = "several columns have the name" if config.field in columns else "no column"
        raise InputError(
            f"{file}, line 1: {problem} {config.field!r} among {', '.join(map(repr, columns))}; name the column of the "
            "text with --field, the separator of columns with --delimiter, or use the file as it is: --format=text."
            f"{did_you_mean(config.field, columns)}"
        )
    return shape


def read_documents(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    """The documents of a file.

    Args:
      file: what to read.
      content: the kind of the file, see `recognize`.
      cleaner: cleans the text of the documents.
      report: called periodically.

    Raises:
      InputError: some input cannot be used; the message names the file and the line.
    """
    try:
        yield from _READERS[content.kind](file, content, cleaner, report)
    except NotUTF8 as error:
        raise InputError(f"{error}, or set encoding_errors to replace or skip") from None
    except NotJSON as error:
        raise InputError(f"{error}; to read the file as plain text, give --format=text") from None
    except tables.BadQuotes as error:
        raise InputError(f"{error}; if quotes mean nothing in it, give --quote=none") from None


def _lines(file: InputFile, cleaner: Cleaner, report: Report) -> Iterator[tuple[int, str]]:
    """(line number from 1, text including its "\n") for every line that the policy for invalid UTF-8 keeps."""
    with file.open() as stream:
        policy = cleaner.config.encoding_errors
        for number, text in lines(file, invalid=policy, counts=cleaner.counts, stream=stream):
            if number % _LINES_A_REPORT == 0:
                report(stream.bytes_on_disk)
            text = cleaner.without_nuls(text)
            yield number, text.removesuffix("\r\n") + "\n" if text.endswith("\r\n") else text


def _text(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    texts = (text for _, text in _lines(file, cleaner, report))
    if cleaner.config.documents == "line":
        return (line for line in texts if line.strip())
    return _gather(texts, at_blank_lines=cleaner.config.documents == "blank_line")


def _gather(texts: Iterable[str], *, at_blank_lines: bool) -> Iterator[str]:
    """Join lines into documents, which end at blank lines or else at the end of the file."""
    document = []
    for line in texts:
        if line.strip() or not at_blank_lines:
            document.append(line)
        elif document:
            yield "".join(document)
            document.clear()
    if document:
        yield "".join(document)


def _json_lines(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    for number, line in _lines(file, cleaner, report):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise NotJSON(f"{file}, line {number}: not valid JSON ({error})") from None
        if (text := cleaner.text_of(record, f"{file}, line", number)) is not None:
            yield text


def _json(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    """The documents in the objects of an array, or in consecutive objects."""
    invalid = "error" if cleaner.config.encoding_errors == "error" else "surrogateescape"
    with file.open() as stream:

        def chunks() -> Iterator[bytes]:
            for chunk in byte_chunks(stream):
                report(stream.bytes_on_disk)
                yield chunk

        for number, record in json_values(json_chunks(chunks(), file, invalid=invalid), str(file)):
            text = cleaner.text_of(record, f"{file}, line", number, escapes="surrogateescape")
            if text is not None:
                yield text


def _table(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    shape = content.table
    column = [name.strip() for name in shape.first].index(cleaner.config.field)
    numbered = _lines(file, cleaner, report)
    rows = tables.rows(numbered, str(file), delimiter=shape.delimiter, quote=shape.quote)
    is_header = True
    for number, fields in rows:
        if not fields:
            continue
        if len(fields) != len(shape.first):
            raise InputError(
                f"{file}, line {number}: {len(fields)} fields, not {len(shape.first)} ({', '.join(shape.first)}): "
                "texts that contain delimiters must be quoted; see --delimiter, --quote and --format=text"
            )
        if not is_header:
            yield fields[column]
        is_header = False


def _parquet(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    name = cleaner.config.field
    with _opened_parquet(file) as parquet:
        top = name if name in parquet.schema_arrow.names else name.split(".")[0]
        if top not in parquet.schema_arrow.names:
            cleaner.text_of(dict.fromkeys(parquet.schema_arrow.names), f"{file}, row", 1)  # raises
        row, size = 0, file.path.stat().st_size
        try:
            for batch in parquet.iter_batches(batch_size=_PARQUET_ROWS, columns=[top], use_threads=False):
                for value in batch.column(top).to_pylist():
                    row += 1
                    if (text := cleaner.text_of({top: value}, f"{file}, row", row)) is not None:
                        yield text
                report(size * row // max(row, parquet.metadata.num_rows))
        except OSError as error:
            raise _damaged_parquet(file, error) from None


def _opened_parquet(file: InputFile) -> Any:
    import_pyarrow(f"{file} is parquet, which")
    from pyarrow import ArrowInvalid, parquet  # slow to import, and only needed for this kind of file

    if file.compression:
        raise InputError(f"{file} is parquet inside {file.compression}: unpack it first")
    try:
        source = file.path if is_local(file.path) else file.path.open("rb")
        return parquet.ParquetFile(source, memory_map=False, pre_buffer=False)
    except (ArrowInvalid, OSError) as error:
        raise _damaged_parquet(file, error) from None


def _damaged_parquet(file: InputFile, error: Exception) -> InputError:
    return InputError(f"{file} is damaged parquet ({' '.join(str(error).split())}): fetch or write it again")


def _nothing(file: InputFile, content: Content, cleaner: Cleaner, report: Report) -> Iterator[str]:
    return iter(())


_READERS: dict[str, Callable[[InputFile, Content, Cleaner, Report], Iterator[str]]] = {
    "text": _text,
    "jsonl": _json_lines,
    "json_array": _json,
    "json": _json,
    "table": _table,
    "parquet": _parquet,
    "empty": _nothing,
}

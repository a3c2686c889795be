"""Streaming sources of documents: text files, JSON lines, TFDS data sets, and the embedded corpus.

A source is iterated once per pass and holds one document at a time, so memory does not grow with the corpus.
"""

import codecs
import glob
import gzip
import json
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tx_jax.data.corpus import embedded
from tx_jax.errors import InputError, did_you_mean

DOCUMENT_BOUNDARIES = ("blank_line", "file", "line")
ENCODING_POLICIES = ("error", "replace", "skip")


@dataclass(frozen=True)
class SourceConfig:
    """Where documents come from, and how files become documents. Raises InputError for a value out of its range.

    Attributes:
      specs: one or more of: a glob of files (plain or .gz; .jsonl and .jsonl.gz hold one JSON object a line, all else
        is text), "tfds:NAME[/CONFIG][:VERSION][#SPLIT]", and "embedded". Files of one glob come in sorted order.
      documents: what ends a document in a text file: "blank_line", "file" (one file is one document), or "line".
      field: the field of a JSON object or TFDS record that holds the text.
      encoding_errors: what to do with invalid UTF-8: "error", "replace" (by U+FFFD), or "skip" (drop the line of a
        text file, the record of the others).
      tfds_data_dir: where TFDS data sets lie; None is TFDS's own default.
    """

    specs: tuple[str, ...]
    documents: str = "blank_line"
    field: str = "text"
    encoding_errors: str = "error"
    tfds_data_dir: str | None = None

    def __post_init__(self):
        if not self.specs or not all(self.specs):
            raise InputError("no source of documents: give a glob of files, tfds:NAME, or embedded")
        for name, known in (("documents", DOCUMENT_BOUNDARIES), ("encoding_errors", ENCODING_POLICIES)):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name}={value!r}: expected one of {known}.{did_you_mean(value, known)}")


class Source:
    """An iterable of documents (str, valid Unicode, no NULs). Iterating anew starts over and counts anew.

    Attributes:
      config: what was asked for.
      counts: what was cleaned or skipped in the current pass: "invalid_utf8" (lines or records), "nul" (characters).
      fraction_read: share of the files' bytes read in the current pass; None where there are only other sources.
      signature: what identifies the corpus cheaply: [name, bytes] of every file, [name, 0] of other sources.

    Raises InputError at construction where a glob matches nothing, and while iterating, with the file and the line,
    for input that cannot be used.
    """

    def __init__(self, config: SourceConfig):
        self.config = config
        self.counts: Counter[str] = Counter()
        self._bytes_read = 0
        self._parts = [(spec, matches(spec)) for spec in config.specs]
        self.signature = []
        for spec, files in self._parts:
            self.signature += [[spec, 0]] if files is None else [[str(path), path.stat().st_size] for path in files]
        self._total_bytes = sum(size for _, size in self.signature)

    @property
    def fraction_read(self) -> float | None:
        return self._bytes_read / self._total_bytes if self._total_bytes else None

    def __iter__(self) -> Iterator[str]:
        self.counts.clear()
        self._bytes_read = 0
        for spec, files in self._parts:
            if spec == "embedded":
                yield from embedded.documents()
            elif files is None:
                yield from self._tfds(spec.removeprefix("tfds:"))
            else:
                for path in files:
                    yield from self._file(path)

    def _file(self, path: Path) -> Iterator[str]:
        if path.name.removesuffix(".gz").endswith(".jsonl"):
            return self._jsonl(path)
        lines = (text for _, text in self._lines(path))
        if self.config.documents == "line":
            return (line for line in lines if line.strip())
        return _gather(lines, at_blank_lines=self.config.documents == "blank_line")

    def _lines(self, path: Path) -> Iterator[tuple[int, str]]:
        """(number from 1, text with its "\\n") of every line that the policy for invalid UTF-8 leaves."""
        offset, before, place = 0, self._bytes_read, f"{path}, line"
        with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as stream:
            for number, line in enumerate(guarded(stream, path), start=1):
                data = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
                text = self._decode(data, place, number, offset + len(line) - len(data))
                offset += len(line)
                if number % 64 == 0:
                    self._bytes_read = before + raw.tell()
                if text is not None:
                    yield number, text.removesuffix("\r\n") + "\n" if text.endswith("\r\n") else text
            self._bytes_read = before + raw.tell()

    def _jsonl(self, path: Path) -> Iterator[str]:
        for number, line in self._lines(path):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}, line {number}: not valid JSON ({error})") from None
            if (text := self._text(record, f"{path}, line", number)) is not None:
                yield text

    def _tfds(self, spec: str) -> Iterator[str]:
        name, _, split = spec.partition("#")
        records = open_tfds(name, split or "train", self.config.tfds_data_dir)
        for index in range(len(records)):
            if (text := self._text(records[index], f"tfds:{name}, record", index)) is not None:
                yield text

    def _text(self, record: object, place: str, number: int) -> str | None:
        """The text of a JSON or TFDS record; None where the policy for invalid UTF-8 drops the record."""
        name = self.config.field
        if not isinstance(record, dict) or name not in record:
            found = ", ".join(map(str, record)) if isinstance(record, dict) else f"a {type(record).__name__}"
            raise InputError(
                f"{place} {number}: no field {name!r}, found: {found or 'none'}; name the field that holds the text"
            )
        value = record[name]
        if isinstance(value, str):
            # JSON can spell half of a surrogate pair, which is no text: let the policy decide.
            value = value.encode("utf-8", errors="surrogatepass")
        if not isinstance(value, bytes):
            raise InputError(f"{place} {number}: field {name!r} is not text but {type(value).__name__}")
        return self._decode(value, place, number)

    def _decode(self, data: bytes, place: str, number: int, offset: int | None = None) -> str | None:
        """Text of UTF-8 bytes without NULs; None where the policy drops them. `offset`: of the bytes in their file."""
        try:
            text = data.decode("utf-8")
        except UnicodeDecodeError as error:
            if self.config.encoding_errors == "error":
                utf16 = offset == 0 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
                byte = "" if offset is None else f", byte {offset + error.start}"
                raise InputError(
                    f"{place} {number}{byte}: not valid UTF-8{' but UTF-16' if utf16 else ''}; "
                    "convert the file with iconv, or set encoding_errors to replace or skip"
                ) from None
            self.counts["invalid_utf8"] += 1
            if self.config.encoding_errors == "skip":
                return None
            text = data.decode("utf-8", errors="replace")
        if "\0" in text:
            self.counts["nul"] += text.count("\0")
            text = text.replace("\0", "")
        return text


def matches(spec: str) -> list[Path] | None:
    """The files of a glob, sorted; None for a source that is no glob."""
    if spec == "embedded" or spec.startswith("tfds:"):
        return None
    files = sorted(path for path in map(Path, glob.glob(spec, recursive=True)) if path.is_file())
    if not files:
        raise InputError(
            f"no file matches {spec!r}: check the path (globs such as 'corpus/**/*.txt' are expanded here)"
        )
    return files


def guarded(stream: BinaryIO, path: Path) -> Iterator[bytes]:
    """The lines of a stream, with damaged compression turned into an InputError."""
    lines = 0
    try:
        for line in stream:
            lines += 1
            yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise InputError(f"{path} is damaged after line {lines} ({error}): fetch or compress it again") from None


def _gather(lines: Iterable[str], *, at_blank_lines: bool) -> Iterator[str]:
    """Join lines to documents, which end at blank lines or else at the end of the file."""
    document = []
    for line in lines:
        if line.strip() or not at_blank_lines:
            document.append(line)
        elif document:
            yield "".join(document)
            document.clear()
    if document:
        yield "".join(document)


def open_tfds(name: str, split: str, data_dir: str | None):
    """A random-access view of a prepared TFDS data set, read without TensorFlow."""
    import tensorflow_datasets as tfds  # takes seconds, and only this kind of source needs it

    place = f"in {data_dir}" if data_dir else "in TFDS's default folder"
    try:
        return tfds.builder(name, data_dir=data_dir).as_data_source(split)
    except NotImplementedError:
        problem = f"tfds:{name} {place} is stored as TFRecord, which needs TensorFlow"
    except (ValueError, AssertionError, RuntimeError, OSError) as error:
        problem = f"cannot open tfds:{name}#{split} {place}: {str(error).strip().splitlines()[0]}"
    raise InputError(f"{problem}; prepare it with download_and_prepare(file_format='array_record')")

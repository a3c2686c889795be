"""Streaming sources of documents: files of several kinds, TFDS data sets, and the embedded corpus.

A source is iterated once per pass and holds one document at a time, so memory does not grow with the corpus.
"""

import functools
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from tx_jax.data.corpus import embedded
from tx_jax.data.corpus.cleaning import Cleaner
from tx_jax.data.corpus.config import SourceConfig
from tx_jax.data.corpus.documents import read_documents, recognize
from tx_jax.data.reading import InputFile, files_in
from tx_jax.data.sniffing import Content
from tx_jax.errors import InputError
from tx_jax.files import files_of


class Source:
    """An iterable of documents (str, valid Unicode, no NULs). Each new iteration starts over and resets the counts.

    Attributes:
      config: the requested configuration.
      counts: what was cleaned or skipped in the current pass: "invalid_utf8" (lines or records), "nul" (characters).
      fraction_read: share of the files' bytes read in the current pass; None if there are only other sources.
      signature: a cheap identifier of the corpus: [name, bytes] of every file, [name, 0] of other sources.
      contents: for every path, the detected kind of each file in it; computed on first access or iteration.

    Args:
      share: (number, of): only the files whose middle, counted in bytes, is in this part of `of` equal parts of all
        files, in their order. A source that is no file counts as an empty one.

    Raises InputError at construction if a glob matches nothing; from `contents` for unusable files; and while iterating
    for unusable input, with the file and the line.
    """

    def __init__(self, config: SourceConfig, share: tuple[int, int] = (0, 1)):
        self.config, self._share = config, share
        self._cleaner = Cleaner(config)
        self._bytes_read = 0
        self._documents: Counter[str] = Counter()
        self._parts = _shared([(spec, matches(spec)) for spec in config.specs], *share)
        self.signature = []
        for spec, files in self._parts:
            self.signature += [[spec, 0]] if files is None else [[str(path), path.stat().st_size] for path in files]
        self._total_bytes = sum(size for _, size in self.signature)
        if share[1] == 1 and all(files is None for _, files in self._parts) and (idle := _about_files(config)):
            raise InputError(f"{idle[0]} is for files, and {', '.join(config.specs)} is not one: drop it")

    @property
    def counts(self) -> Counter[str]:
        return self._cleaner.counts

    @property
    def fraction_read(self) -> float | None:
        return self._bytes_read / self._total_bytes if self._total_bytes else None

    @functools.cached_property
    def contents(self) -> dict[Path, list[tuple[InputFile, Content]]]:
        contents, refused = {}, []
        for path in (path for _, files in self._parts for path in files or ()):
            try:
                contents[path] = [(file, recognize(file, self.config)) for file in files_in(path)]
            except InputError as error:
                refused.append(error)
        if refused:
            more = len(refused) - 1
            raise InputError(f"{refused[0]} ({more} more cannot be used either)" if more else str(refused[0]))
        tables = [content for found in contents.values() for _, content in found if content.kind == "table"]
        if (
            self._share[1] == 1
            and not tables
            and (idle := [name for name in _about_files(self.config) if name != "format"])
        ):
            raise InputError(f"{idle[0]} is for tables, and no file looks like one: give --format=csv, or drop it")
        return contents

    def check_files(self) -> None:
        """Inspects all files, so that an unusable file raises InputError before any work is done."""
        _ = self.contents

    def taken_for(self) -> list[dict]:
        """Detected kinds of the files: for each kind, its name, its "files", their "documents" in the pass so far, and
        the first file ("example"), with its detected kind and the reason ("as")."""
        kinds: dict[str, dict] = {}
        for file, content in (entry for found in self.contents.values() for entry in found):
            first = {"kind": content.kind, "files": 0, "documents": self._documents[content.kind]}
            kind = kinds.setdefault(content.kind, first | {"example": str(file), "as": str(content)})
            kind["files"] += 1
        return list(kinds.values())

    def __iter__(self) -> Iterator[str]:
        self.counts.clear()
        self._documents.clear()
        self._bytes_read = 0
        for spec, files in self._parts:
            if spec == "embedded":
                yield from embedded.documents()
            elif files is None:
                yield from self._tfds(spec.removeprefix("tfds:"))
            else:
                for path in files:
                    yield from self._path(path)

    def _path(self, path: Path) -> Iterator[str]:
        before = self._bytes_read

        def report(bytes_read: int) -> None:
            self._bytes_read = before + bytes_read

        for file, content in self.contents[path]:
            for document in read_documents(file, content, self._cleaner, report):
                self._documents[content.kind] += 1
                yield document
        self._bytes_read = before + path.stat().st_size

    def _tfds(self, spec: str) -> Iterator[str]:
        name, _, split = spec.partition("#")
        records = open_tfds(name, split or "train", self.config.tfds_data_dir)
        for index in range(len(records)):
            if (text := self._cleaner.text_of(records[index], f"tfds:{name}, record", index)) is not None:
                yield text


def _shared(parts: list[tuple[str, list[Path] | None]], number: int, of: int) -> list[tuple[str, list[Path] | None]]:
    """What of these is in a share: see `Source`."""
    if of == 1:
        return parts
    sizes = [[path.stat().st_size for path in files or ()] for _, files in parts]
    total, before, chosen = max(1, sum(map(sum, sizes))), 0, []
    for (spec, files), of_files in zip(parts, sizes, strict=True):
        if files is None:
            if before * of // total == number or (before == total and number == of - 1):
                chosen.append((spec, None))
            continue
        own = []
        for path, size in zip(files, of_files, strict=True):
            if min(of - 1, int((before + size / 2) * of // total)) == number:
                own.append(path)
            before += size
        chosen.append((spec, own))
    return chosen


def _about_files(config: SourceConfig) -> list[str]:
    """The options that were given about how to read files."""
    return [name for name in ("format", "delimiter", "quote") if getattr(config, name) not in ("auto", None)]


def matches(spec: str) -> list[Path] | None:
    """The files of a glob, here or on an object store, sorted; None for a source that is not a glob."""
    if spec == "embedded" or spec.startswith("tfds:"):
        return None
    files = files_of(spec)
    if not files:
        raise InputError(
            f"no file matches {spec!r}: check the path (globs such as 'corpus/**/*.txt' are expanded here)"
        )
    return files


def open_tfds(name: str, split: str, data_dir: str | None):
    """A random-access view of a prepared TFDS data set, read without TensorFlow."""
    import tensorflow_datasets as tfds  # takes seconds to import; only this source needs it

    place = f"in {data_dir}" if data_dir else "in TFDS's default folder"
    try:
        return tfds.builder(name, data_dir=data_dir).as_data_source(split)
    except NotImplementedError:
        problem = f"tfds:{name} {place} is stored as TFRecord, which needs TensorFlow"
    except (ValueError, AssertionError, RuntimeError, OSError) as error:
        problem = f"cannot open tfds:{name}#{split} {place}: {str(error).strip().splitlines()[0]}"
    raise InputError(f"{problem}; prepare it with download_and_prepare(file_format='array_record')")

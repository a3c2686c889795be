"""Reads pairs of texts: two files whose lines belong together, a table, JSON lines, or a TFDS data set."""

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

from tx_jax.data import json_values, tables
from tx_jax.data.corpus.sources import open_tfds
from tx_jax.data.reading import InputFile, files_in, lines
from tx_jax.errors import InputError
from tx_jax.files import path_of

Pair = tuple[str, str]


@dataclasses.dataclass(frozen=True)
class PairSource:
    """Where the pairs of a split are.

    Attributes:
      spec: "a.de,a.en" (line n of both is a pair), "pairs.tsv", "pairs.jsonl", or tfds:NAME#SPLIT; files may be
        compressed.
      columns: for all but two files: the names of the source's and the target's column. A table without such names in
        its first line has the source in the first column and the target in the second.
      tfds_data_dir: folder of the TFDS data sets; None = TFDS's own.
    """

    spec: str
    columns: tuple[str, str] = ("source", "target")
    tfds_data_dir: str | None = None

    def pairs(self) -> Iterator[Pair]:
        """Every pair in order, white space around the texts dropped; either side may be empty.

        Raises:
          InputError: a file is missing, not UTF-8 or damaged; the files have different numbers of lines (both are
            named); a line is no pair.
        """
        if self.spec.startswith("tfds:"):
            yield from self._tfds()
            return
        parts = [path_of(part.strip(), "the pairs' source", reads=True) for part in self.spec.split(",")]
        if len(parts) > 2:
            raise InputError(f"{self.spec}: give two files whose lines belong together, or one with both sides")
        files = [_one_file(path) for path in parts]
        if len(files) == 2:
            yield from _aligned(*files)
        elif files[0].ending in (".jsonl", ".ndjson"):
            yield from self._json_lines(files[0])
        elif files[0].ending in (".tsv", ".csv", ".txt"):
            yield from self._table(files[0])
        else:
            raise InputError(
                f"{self.spec}: one file of pairs ends in .tsv, .csv or .jsonl (or these and .gz); for two files whose "
                "lines belong together, give both, comma-separated"
            )

    def _json_lines(self, file: InputFile) -> Iterator[Pair]:
        for number, line in lines(file):
            where = f"{file}, line {number}"
            record = json_values.parse_json(line, where)
            texts = [record.get(name) for name in self.columns] if isinstance(record, dict) else []
            if len(texts) != 2 or not all(isinstance(text, str) for text in texts):
                raise InputError(
                    f"{where} has no texts with the keys {' and '.join(map(repr, self.columns))}: name them with "
                    "--columns=SOURCE,TARGET"
                )
            yield texts[0].strip(), texts[1].strip()

    def _table(self, file: InputFile) -> Iterator[Pair]:
        delimiter = "," if file.ending == ".csv" else "\t"
        quote = '"' if file.ending == ".csv" else ""
        places = (0, 1)
        for number, fields in tables.rows(lines(file), str(file), delimiter=delimiter, quote=quote):
            if number == 1 and set(self.columns) <= set(fields):
                places = (fields.index(self.columns[0]), fields.index(self.columns[1]))
                continue
            if len(fields) <= max(places):
                raise InputError(f"{file}, line {number}: {len(fields)} columns, but a pair needs {max(places) + 1}")
            yield fields[places[0]].strip(), fields[places[1]].strip()

    def _tfds(self) -> Iterator[Pair]:
        name, _, split = self.spec.removeprefix("tfds:").partition("#")
        for record in open_tfds(name, split or "train", self.tfds_data_dir):
            if missing := [column for column in self.columns if column not in record]:
                raise InputError(f"{self.spec} has no column {missing[0]!r}, but {', '.join(record)}: give --columns")
            source, target = (record[column].decode() for column in self.columns)
            yield source.strip(), target.strip()


def _one_file(path: Path) -> InputFile:
    if not path.is_file():
        raise InputError(f"{path} is not a file of pairs: there is no such file")
    files = files_in(path)
    if len(files) > 1:
        raise InputError(f"{path} holds {len(files)} files: unpack it and give the one that is meant")
    return files[0]


def _aligned(source: InputFile, target: InputFile) -> Iterator[Pair]:
    both = itertools.zip_longest(lines(source), lines(target))
    for count, (one, other) in enumerate(both):
        if one is None or other is None:
            rest = 1 + sum(1 for _ in both)
            counts = (count, count + rest) if one is None else (count + rest, count)
            raise InputError(
                f"{source} has {counts[0]:,} lines and {target} {counts[1]:,}: the lines of both must belong together"
            )
        yield one[1].strip(), other[1].strip()

"""Detects a data file's format from its content; the extension decides if the content fits several formats.

A table is recognized by a first line that names the required columns, CoNLL columns by lines with equal numbers of
fields and empty lines between sentences, JSON and parquet by their first bytes.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.data import sniffing, tables
from tx_jax.data.labeled.conll import CONLLU, fields_of
from tx_jax.data.reading import InputFile
from tx_jax.errors import InputError

# Format -> its name in messages.
NAMES = {
    "csv": "a table",
    "tsv": "a table",
    "jsonl": "JSON lines",
    "json": "a JSON list",
    "parquet": "parquet",
    "txt": "a text a line",
    "conll": "CoNLL's columns, one word per line",
    "conllu": "CoNLL-U",
    "squad": "SQuAD's JSON",
}
ENDINGS = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "squad",
    ".parquet": "parquet",
    ".txt": "txt",
    ".conll": "conll",
    ".iob2": "conll",
    ".conllu": "conllu",
}
TABLES = ("csv", "tsv")
_USED_BY = {
    "delimiter": TABLES,
    "quote": TABLES,
    "comment": ("conll",),
    "columns": (*TABLES, "conll"),
}
_SQUAD = re.compile(r'"data"\s*:\s*\[.*"(?:paragraphs|qas|context)"\s*:', re.DOTALL)
_MOST_CELLS = 0.9


@dataclass(frozen=True)
class Kind:
    """The detected format of a file.

    Attributes:
      format: one of `NAMES`.
      delimiter, quote: for a table, see `tables.TableShape`.
      notice: a message about the format if neither the file's name nor the configuration gives it; else "".
    """

    format: str
    delimiter: str = ""
    quote: str = ""
    notice: str = ""


@dataclass(frozen=True)
class _Beginning:
    """The beginning of a file: its text, whether that is the whole file, the extension, and the required columns."""

    text: str
    whole: bool
    ending: str
    names: frozenset[str]
    config: LabeledDataConfig

    @property
    def lines(self) -> list[str]:
        """All complete lines."""
        lines = self.text.split("\n")
        return [line.rstrip("\r") for line in (lines if self.whole or len(lines) == 1 else lines[:-1])]

    def table(self, delimiter: str) -> tables.TableShape:
        quote = _quote(self.config, delimiter, self.lines[0])
        return tables.detect(self.text, whole=self.whole, delimiter=delimiter, quote=quote)

    def delimiters(self) -> Sequence[str]:
        """The possible delimiters, the likeliest first."""
        given = self.config.delimiter.replace("\\t", "\t")
        if given:
            return [given]
        usual = "\t" if self.ending == ".tsv" else ","
        return [usual, *(one for one in tables.DELIMITERS if one != usual)]

    def named(self) -> tables.TableShape | None:
        """The table whose first line names all required columns, or has as many fields as the configuration names."""
        columns = self.config.columns
        for number, shape in enumerate(map(self.table, self.delimiters())):
            if columns:
                fits = len(shape.first) == len(columns) and (number == 0 or shape.is_regular)
            else:
                fits = self.names <= {cell.strip() for cell in shape.first}
            if fits:
                return shape
        return None


def kind_of(file: InputFile, config: LabeledDataConfig, *, labeled: bool) -> Kind:
    """The format of a file, according to the configuration or its content.

    Args:
      labeled: whether the label column is required, so that one text per line is not enough.

    Raises:
      InputError: the content has no known format, or an option does not apply to its format.
    """
    names = frozenset((*config.text, *config.choices, *((config.label,) if labeled else ())))
    data, whole = sniffing.read_head(file)
    beginning = _Beginning(sniffing.decode_head(data, whole), whole, file.ending, names, config)
    name = config.format if config.format != "auto" else _by_content(file, beginning, labeled)
    for option, formats in _USED_BY.items():
        # Training accepts unneeded columns: runs from before this check have them.
        if getattr(config, option) and name not in formats and not (option == "columns" and labeled):
            raise InputError(f"{file} is {NAMES[name]}, to which --config.data.{option} does not apply: leave it out")
    said = config.format != "auto" or ENDINGS.get(file.ending) == name
    if name not in TABLES:
        return Kind(name, notice="" if said else f"{file}: taken for {NAMES[name]}")
    delimiter = _delimiter(name, beginning)
    usual = "\t" if name == "tsv" else ","
    between = f"{tables.DELIMITERS.get(delimiter, repr(delimiter))} between its columns"
    notice = "" if said and (config.delimiter or delimiter == usual) else f"{file}: taken for a table with {between}"
    return Kind(name, delimiter, _quote(config, delimiter, beginning.lines[0]), notice)


def _by_content(file: InputFile, beginning: _Beginning, labeled: bool) -> str:
    ending = ENDINGS.get(file.ending)
    content = sniffing.sniff(file, names=beginning.names)
    if content.kind == "binary":
        raise InputError(f"{file}: {content.because}; examples are in tables, JSON lines, CoNLL's columns or parquet")
    if content.kind == "empty" or not beginning.text.strip():
        return ending or "csv"  # the reader then reports that it is empty
    if content.kind == "parquet":
        return "parquet"
    if content.kind in ("json", "json_array", "jsonl"):
        return "squad" if _is_squad(beginning) else content.kind.removesuffix("_array")
    name = _of_text(beginning, ending, labeled, content.kind)
    if name is None:
        raise InputError(
            f"{file}: its format is unclear: it begins with {beginning.text.strip()[:40]!r}, and its first line does "
            f"not name the columns {', '.join(sorted(beginning.names))}. Name the columns with --config.data.text"
            f"{' and --config.data.label' if labeled else ''}, or give its format with --config.data.format="
            f"{'|'.join(name for name in NAMES if name != 'txt' or not labeled)}"
        )
    return name


def _of_text(beginning: _Beginning, ending: str | None, labeled: bool, kind: str) -> str | None:
    """The format of a file that is neither JSON nor binary, from its kind in `sniffing`; None if it is unclear."""
    names, columns = beginning.names, beginning.config.columns
    is_conllu = kind == "conllu" and names <= set(CONLLU)
    if ending in ("conll", "conllu"):
        return "conllu" if is_conllu else ending
    shape = beginning.named()
    is_table = shape is not None and (
        # A text may contain commas, with a column's name as a word between them.
        ending in TABLES or (len(shape.first) > 1 and (shape.is_regular or ending != "txt" or labeled))
    )
    if is_table and not columns:
        return _table_name(shape.delimiter, ending)
    if is_conllu:
        return "conllu"
    if words := _words(beginning):
        found = columns or tuple(map(str, range(len(words[0]))))
        if ending == "txt" and not labeled:  # lines with equal numbers of words may be texts
            if names <= set(found) and (kind == "conll" or _are_labeled(words, found, beginning.config)):
                return "conll"
        elif names <= set(found) or (labeled and ending not in TABLES):
            return "conll"
    if is_table:
        return _table_name(shape.delimiter, ending)
    if ending in TABLES or (ending == "txt" and not labeled):
        return ending
    return None


def _table_name(delimiter: str, ending: str | None) -> str:
    """The format that the extension names, if it fits: a table with semicolons is CSV."""
    return "tsv" if delimiter == "\t" and ending != "csv" else "csv"


def _is_squad(beginning: _Beginning) -> bool:
    """Whether the first JSON object has articles but not the required columns."""
    try:
        value, _ = json.JSONDecoder().raw_decode(beginning.text.lstrip())
    except (ValueError, RecursionError):  # longer than the beginning, or not JSON
        return bool(_SQUAD.search(beginning.text))
    return isinstance(value, dict) and "data" in value and not beginning.names <= value.keys()


def _words(beginning: _Beginning) -> list[list[str]]:
    """The fields of each word if the lines are words in columns; else an empty list."""
    comments = (beginning.config.comment,) if beginning.config.comment else ("", "#")
    return next(filter(None, (_words_with(beginning.lines, comment) for comment in comments)), [])


def _words_with(lines: Sequence[str], comment: str) -> list[list[str]]:
    """Like `_words`, with comments that begin with `comment`."""
    words, sentences, longest, length = [], 0, 0, 0
    for line in lines:
        fields = fields_of(line, "" if length else comment)
        if fields:
            words.append(fields)
            sentences += not length
        length = length if fields is None else length + 1 if fields else 0
        longest = max(longest, length)
    is_divided = sentences > 1 or "" in lines[:-1] or any(line.startswith("-DOCSTART-") for line in lines)
    if not is_divided or longest < 2 or len(words[0]) < 2 or len(set(map(len, words))) > 1:
        return []
    cells = [cell for fields in words for cell in fields]
    without_space = sum(" " not in cell.strip() for cell in cells)
    return words if without_space >= _MOST_CELLS * len(cells) else []


def _are_labeled(words: Sequence[Sequence[str]], columns: Sequence[str], config: LabeledDataConfig) -> bool:
    """Whether the label column exists and has known labels."""
    if config.label not in columns:
        return False
    values = [fields[columns.index(config.label)] for fields in words]
    return sum(value in config.labels for value in values) >= _MOST_CELLS * len(values)


def _delimiter(name: str, beginning: _Beginning) -> str:
    if beginning.config.delimiter:
        return beginning.delimiters()[0]
    if name == "tsv":
        return "\t"
    if shape := beginning.named():
        return shape.delimiter
    first = beginning.lines[0]
    return next((one for one in tables.DELIMITERS if one in first), ",")


def _quote(config: LabeledDataConfig, delimiter: str, first: str) -> str:
    """In tab-separated files, as in GLUE, quotes have no special meaning unless every column name is quoted."""
    if config.quote:
        return "" if config.quote == "none" else config.quote
    cells = first.rstrip("\r").split("\t")
    all_quoted = not config.columns and all(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
    return "" if delimiter == "\t" and not all_quoted else '"'

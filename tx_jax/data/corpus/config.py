"""The configuration of a token store: where documents come from, how files are read, and how they are encoded."""

from dataclasses import dataclass
from pathlib import Path

from tx_jax import text
from tx_jax.errors import InputError, did_you_mean
from tx_jax.text import sentences

DOCUMENT_BOUNDARIES = ("blank_line", "file", "line")
ENCODING_POLICIES = ("error", "replace", "skip")
FORMATS = ("auto", "text", "jsonl", "json", "csv", "tsv", "parquet")
TABLES = ("csv", "tsv")
_DELIMITER_NAMES = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";", "bar": "|", "space": " "}


@dataclass(frozen=True)
class SourceConfig:
    """Where documents come from, and how files become documents. Raises InputError for an out-of-range value.

    Attributes:
      specs: one or more of: a glob of files, "tfds:NAME[/CONFIG][:VERSION][#SPLIT]", and "embedded". Files of one glob
        are read in sorted order; compressed files (gzip, bzip2, xz, zstd, zip) are decompressed.
      documents: where a document ends in a text file: "blank_line", "file" (one file is one document), or "line".
      field: where the text is: the field of a JSON object or TFDS record, the column of a table or a parquet file.
        "a.b" is the field with that name, or else field b of the object in field a.
      encoding_errors: what to do with invalid UTF-8: "error", "replace" (with U+FFFD), or "skip" (drop the line of
        a text file or table, or the record of any other source).
      tfds_data_dir: folder of the TFDS datasets; None uses TFDS's default.
      format: format of all files: "text", "jsonl" (JSON lines), "json" (an array, or objects one after another), "csv",
        "tsv", "parquet"; "auto" detects the format of each file from its content.
      delimiter: separator of a table's columns: one character, or "tab", "comma", "semicolon", "bar", "space"; None:
        detected from the beginning of each table.
      quote: the quote character of a table, or "none" if quotes have no special meaning; None: detected.
    """

    specs: tuple[str, ...]
    documents: str = "blank_line"
    field: str = "text"
    encoding_errors: str = "error"
    tfds_data_dir: str | None = None
    format: str = "auto"
    delimiter: str | None = None
    quote: str | None = None

    def __post_init__(self):
        if not self.specs or not all(self.specs):
            raise InputError("no source of documents: give a glob of files, tfds:NAME, or embedded")
        for name, known in (
            ("documents", DOCUMENT_BOUNDARIES),
            ("encoding_errors", ENCODING_POLICIES),
            ("format", FORMATS),
        ):
            if (value := getattr(self, name)) not in known:
                raise InputError(f"{name}={value!r}: expected one of {known}.{did_you_mean(value, known)}")
        if self.delimiter is not None:
            object.__setattr__(self, "delimiter", _DELIMITER_NAMES.get(self.delimiter, self.delimiter))
            if len(self.delimiter) != 1 or self.delimiter in "\r\n":
                known = ", ".join(name for name in _DELIMITER_NAMES if name.isalpha())
                raise InputError(f"delimiter={self.delimiter!r}: expected one character, or one of {known}")
        if self.quote not in (None, "none") and (len(self.quote) != 1 or self.quote in ("\r", "\n", self.delimiter)):
            raise InputError(f"quote={self.quote!r}: expected one character, or none")
        idle = [name for name in ("delimiter", "quote") if getattr(self, name) is not None]
        if idle and self.format not in ("auto", *TABLES):
            raise InputError(f"{idle[0]} is for tables, but format={self.format}: drop one of the two")
        if self.format == "tsv" and self.delimiter not in (None, "\t"):
            raise InputError(f"format=tsv is a table with tabs, but delimiter={self.delimiter!r}: give format=csv")

    @property
    def quote_character(self) -> str | None:
        """The quote character as `tables.rows` expects it: "" for none; None means that it is to be detected."""
        return "" if self.quote == "none" else self.quote


@dataclass(frozen=True)
class PrepareConfig:
    """How to make a token store. Raises InputError for an out-of-range value.

    Attributes:
      store: folder to write.
      source: where the documents come from.
      sentences: sentence-splitting mode, see `sentences.split`.
      tokenizer: folder of a tokenizer to use; None trains one on the documents.
      tokenizer_kind, vocab_size, lowercase, strip_accents: options of the tokenizer to train, see `text.train`.
      tokenizer_characters: train the tokenizer on this many characters from the beginning of the source.
      validation_fraction: expected share of documents held out; which ones depends on their content alone.
      workers: number of encoding processes; None means one per core.
      overwrite: replace a store that cannot be used because it was made with different settings or from a source that
        has changed, or is damaged. An interrupted call with the same settings is still resumed.
      max_sentence_characters: longer sentences are cut, and counted.
      block_characters: number of characters handed to a worker at once.
      shard_tokens: tokens per file.
      journal_seconds: interval between records of the progress.
    """

    store: Path
    source: SourceConfig
    sentences: str = "punctuation"
    tokenizer: str | None = None
    tokenizer_kind: str = "wordpiece"
    vocab_size: int = 30_522
    lowercase: bool | None = None
    strip_accents: bool | None = None
    tokenizer_characters: int = 200_000_000
    validation_fraction: float = 0.05
    workers: int | None = None
    overwrite: bool = False
    max_sentence_characters: int = 4096
    block_characters: int = 1 << 19
    shard_tokens: int = 1 << 26
    journal_seconds: float = 2.0

    def __post_init__(self):
        sentences.check_mode(self.sentences)
        text.check(self.tokenizer_kind, lowercase=self.lowercase, strip_accents=self.strip_accents)
        if self.sentences == "verbatim" and not self.tokenizer and self.tokenizer_kind not in text.BYTE_LEVEL:
            raise InputError(
                f"sentences=verbatim keeps line ends, which tokenizer_kind={self.tokenizer_kind} does not see: give "
                f"one of {', '.join(text.BYTE_LEVEL)}"
            )
        if not 0 <= self.validation_fraction < 1:
            raise InputError(f"validation_fraction={self.validation_fraction}: expected 0 <= fraction < 1")
        for name in (
            "vocab_size",
            "tokenizer_characters",
            "max_sentence_characters",
            "block_characters",
            "shard_tokens",
        ):
            if (value := getattr(self, name)) < 1:
                raise InputError(f"{name}={value}: expected 1 or more")
        if self.workers is not None and self.workers < 1:
            raise InputError(f"workers={self.workers}: expected 1 or more")


@dataclass(frozen=True)
class Share:
    """A part of a corpus that one of several processes encodes.

    Attributes:
      number, of: which one, of how many.
      code: identifies the code that all of them must run.
    """

    number: int
    of: int
    code: str

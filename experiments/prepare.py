"""Turn text into a token store: train or load a tokenizer, split sentences, encode with all cores.

  # the English that every Python carries, for a first run
  python -m experiments.prepare --source=embedded --store=data/quickstart --vocab_size=2048

  # your own text: blank lines between documents, several globs, compressed or not
  python -m experiments.prepare --source='corpus/*.txt,more/**/*.txt.gz' --store=data/mine

  # the text in a column of a table, in a field of JSON, or in a field of an object in it: found out, file by file
  python -m experiments.prepare --source='tables/*.csv,pages/*.json.zst,hub/*.parquet' --field=body --store=data/mixed

  # one JSON object a line, Spanish, lower case; accents must stay, for stripping them makes "ano" of "año"
  python -m experiments.prepare --source='es/*.jsonl.gz' --field=content --store=data/es \\
    --lowercase --strip_accents=false

  # the same with a tokenizer like RoBERTa's (or like XLM-R's: unigram), which keeps case and accents
  python -m experiments.prepare --source='es/*.jsonl.gz' --field=content --store=data/es --tokenizer_kind=byte_bpe

  # a TFDS data set stored as ArrayRecord, with an existing tokenizer
  python -m experiments.prepare --source=tfds:wikipedia/20230601.es --tokenizer=models/beto --store=data/es

Killed or interrupted? The same command continues where it was. Two runs with the same flags give the same store.
"""

from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import command_line
from experiments.next_steps import after_preparing
from experiments.progress import PrepareProgress
from tx_jax import text
from tx_jax.data.corpus.config import DOCUMENT_BOUNDARIES, ENCODING_POLICIES, FORMATS, PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import CLEANED, prepare, usable_cores
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.errors import InputError
from tx_jax.text.sentences import MODES

_SOURCE = flags.DEFINE_multi_string(
    "source",
    None,
    "What to read; repeat it or separate by commas: globs of files (plain text, JSON lines, JSON, "
    "CSV or other tables, parquet; also compressed by gzip, bzip2, xz, zstd or zip), "
    "tfds:NAME[/CONFIG][:VERSION][#SPLIT], or embedded.",
    required=True,
)
_STORE = flags.DEFINE_string("store", None, "Folder of the token store to make.", required=True)
_DOCUMENTS = flags.DEFINE_enum("documents", "blank_line", DOCUMENT_BOUNDARIES, "What ends a document in a text file.")
_FIELD = flags.DEFINE_string(
    "field",
    "text",
    "What holds the text: a field of a JSON object or TFDS record, a column of a table or of parquet; a.b is the field "
    "b of the object in field a.",
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "auto",
    FORMATS,
    "What the files are; auto looks at the content of each, and says what it takes it for. json is an array, or "
    "objects one after another.",
)
_DELIMITER = flags.DEFINE_string(
    "delimiter",
    None,
    "What stands between the columns of a table: a character, or tab, comma, semicolon, bar, space; by default what "
    "fits its beginning.",
)
_QUOTE = flags.DEFINE_string(
    "quote", None, "The character around fields of a table, or none where quotes mean nothing; by default what fits."
)
_SENTENCES = flags.DEFINE_enum(
    "sentences",
    "punctuation",
    MODES,
    "Sentences: every line is one; or the end of a line and . ! ? end one; or, for hard-wrapped text, lines are joined "
    "and only . ! ? and blank lines end one.",
)
_ENCODING_ERRORS = flags.DEFINE_enum(
    "encoding_errors", "error", ENCODING_POLICIES, "Invalid UTF-8: stop, replace by U+FFFD, or skip the line or record."
)
_TOKENIZER = flags.DEFINE_string(
    "tokenizer",
    None,
    "Folder of a tokenizer to use instead of training one: WordPiece, byte-level BPE or SentencePiece, as transformers "
    "saves it or as it was published.",
)
_TOKENIZER_KIND = flags.DEFINE_enum(
    "tokenizer_kind",
    "wordpiece",
    text.KINDS,
    "Kind of the tokenizer to train: BERT's wordpiece; byte_bpe like RoBERTa's, or gpt2_bpe with GPT-2's one special "
    "token; SentencePiece's unigram, like XLM-R's, t5_unigram, with T5's sentinels and no mask, or sentencepiece_bpe. "
    "To the byte-level kinds no text is unknown; only wordpiece can drop accents.",
)
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 30_522, "Size of the vocabulary to train.")
_LOWERCASE = flags.DEFINE_bool(
    "lowercase", None, "Train a tokenizer that folds case; by default only wordpiece does. Byte-level BPE cannot."
)
_STRIP_ACCENTS = flags.DEFINE_bool(
    "strip_accents",
    None,
    "Train a wordpiece that drops accents; by default, as BERT, if it folds case. For Spanish and others whose accents "
    "tell words apart: --lowercase --strip_accents=false.",
)
_TOKENIZER_CHARACTERS = flags.DEFINE_integer(
    "tokenizer_characters", 200_000_000, "Characters, from the beginning of the source, to train the tokenizer on."
)
_VALIDATION_FRACTION = flags.DEFINE_float("validation_fraction", 0.05, "Share of the documents to hold out.")
_WORKERS = flags.DEFINE_integer("workers", None, "Processes that encode; by default one per core.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what is in --store if it was made with other settings.")
_VERIFY = flags.DEFINE_bool(
    "verify", False, "Where the store is complete, read all of it and compare the checksums; else only sizes are."
)
_TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir", None, "Where TFDS data sets lie; by default ~/tensorflow_datasets."
)

_TRAINING_FLAGS = ("tokenizer_kind", "vocab_size", "lowercase", "strip_accents", "tokenizer_characters")


def main(argv: Sequence[str]) -> None:
    del argv
    if idle := [name for name in _TRAINING_FLAGS if _TOKENIZER.value and flags.FLAGS[name].present]:
        raise InputError(
            f"--{idle[0]} is for training a tokenizer, but --tokenizer={_TOKENIZER.value} gives one: drop one"
        )
    config = PrepareConfig(
        store=Path(_STORE.value),
        source=SourceConfig(
            specs=tuple(spec for specs in _SOURCE.value for spec in specs.split(",")),
            documents=_DOCUMENTS.value,
            field=_FIELD.value,
            encoding_errors=_ENCODING_ERRORS.value,
            tfds_data_dir=_TFDS_DATA_DIR.value,
            format=_FORMAT.value,
            delimiter=_DELIMITER.value,
            quote=_QUOTE.value,
        ),
        sentences=_SENTENCES.value,
        tokenizer=_TOKENIZER.value,
        tokenizer_kind=_TOKENIZER_KIND.value,
        vocab_size=_VOCAB_SIZE.value,
        lowercase=_LOWERCASE.value,
        strip_accents=_STRIP_ACCENTS.value,
        tokenizer_characters=_TOKENIZER_CHARACTERS.value,
        validation_fraction=_VALIDATION_FRACTION.value,
        workers=_WORKERS.value,
        overwrite=_OVERWRITE.value,
    )
    with PrepareProgress() as progress:
        prepared = prepare(config, progress)
    if _VERIFY.value:
        TokenStore.open(config.store).verify()
    if progress.encoding_seconds > 1:  # less is mostly the start of the workers
        rate, workers = progress.encoded_tokens / progress.encoding_seconds, config.workers or usable_cores()
        print(f"encoded {rate:,.0f} tokens/s, {rate / workers:,.0f} on each of {workers} cores")
    _report(prepared.meta, config.store, prepared.was_complete)


def _report(meta: dict, store: Path, was_complete: bool) -> None:
    """Print the counts, what deserves a second look, and the next command."""
    console = Console(highlight=False, soft_wrap=True)
    if was_complete:
        console.print(f"{store} is already complete, made with the same settings; nothing to do.")
    table = Table(
        "split", *("documents", "sentences", "tokens", "unknown tokens"), title=str(store), title_justify="left"
    )
    for name, split in meta["splits"].items():
        unknown = f"{split['unknown_tokens'] / max(1, split['tokens']):.3%}"
        table.add_row(name, *(f"{split[key]:,}" for key in ("documents", "sentences", "tokens")), unknown)
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    for taken in meta.get("taken_for", ()):  # which former versions did not write
        files = f"{taken['files']:,} files" if taken["files"] > 1 else "1 file"
        documents = f"{taken['documents']:,} document" + "s" * (taken["documents"] != 1)
        console.print(f"{files}, {documents}: {taken['example']} was taken for {taken['as']}", markup=False)
    console.print(f"vocabulary: {meta['vocab_size']:,} tokens; text: {meta['characters']:,} characters")
    cleaned = meta["cleaned"]
    console.print("skipped or cleaned: " + ", ".join(f"{name} {cleaned[name]:,}" for name in CLEANED))
    splits = meta["splits"].values()
    if single := sum(split["single_sentence_documents"] for split in splits):
        console.print(f"documents of one sentence: {single:,} (next-sentence prediction cannot use them)")
    if not meta["splits"]["validation"]["documents"]:
        console.print("note: no document was held out, which training needs: raise --validation_fraction")
    tokenizer = TokenStore.open(store).tokenizer()
    console.print(f"next: {after_preparing(store, tokenizer, _TOKENIZER.value)}", markup=False)


if __name__ == "__main__":
    command_line.run(main)

"""Turn text into a token store: train or load a tokenizer, split sentences, encode with all cores.

  # for a first run: English text that comes with every Python
  python -m experiments.prepare --source=embedded --store=data/quickstart --vocab_size=2048

  # your own text: blank lines between documents, several globs, compressed or not
  python -m experiments.prepare --source='corpus/*.txt,more/**/*.txt.gz' --store=data/mine

  # text in a column of a table, in a field of JSON, or in a field of a nested object: detected for each file
  python -m experiments.prepare --source='tables/*.csv,pages/*.json.zst,hub/*.parquet' --field=body --store=data/mixed

  # one JSON object per line, Spanish, lower case; accents must stay, because stripping them turns "año" into "ano"
  python -m experiments.prepare --source='es/*.jsonl.gz' --field=content --store=data/es \\
    --lowercase --strip_accents=false

  # the same with a tokenizer like RoBERTa's (or like XLM-R's: unigram), which keeps case and accents
  python -m experiments.prepare --source='es/*.jsonl.gz' --field=content --store=data/es --tokenizer_kind=byte_bpe

  # a TFDS dataset stored as ArrayRecord, with an existing tokenizer
  python -m experiments.prepare --source=tfds:wikipedia/20230601.es --tokenizer=models/beto --store=data/es

On several hosts, which must see --store's folder (a shared file system, or an address such as gs://bucket/store), each
takes a share of the files, and process 0 puts them together: the same store, bit for bit. srun and mpirun are
recognized; elsewhere say which process this is:

  python -m experiments.prepare ... --num_processes=4 --process_id=0    # and 1, 2, 3 on the others

Or as an Apache Beam pipeline of so many shares, on Dataflow, Flink or Spark (pip install -e '.[beam]', in an
environment of its own):

  python -m experiments.prepare ... --num_processes=64 --beam='--runner=DataflowRunner --project=mine --region=...'

Killed or interrupted? The same command continues where it was. Two runs with the same flags give the same store.
"""

import os
import shlex
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
from tx_jax.data.corpus.prepare import CLEANED, Prepared, prepare, usable_cores
from tx_jax.data.corpus.shares import launched, prepare_share
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.errors import InputError
from tx_jax.files import path_of
from tx_jax.text.sentences import MODES

_SOURCE = flags.DEFINE_multi_string(
    "source",
    None,
    "What to read; repeat the flag or separate by commas: globs of files (plain text, JSON lines, JSON, "
    "CSV or other tables, parquet; also compressed by gzip, bzip2, xz, zstd or zip), "
    "tfds:NAME[/CONFIG][:VERSION][#SPLIT], or embedded.",
    required=True,
)
_STORE = flags.DEFINE_string("store", None, "Folder of the token store to make.", required=True)
_DOCUMENTS = flags.DEFINE_enum("documents", "blank_line", DOCUMENT_BOUNDARIES, "Where a document ends in a text file.")
_FIELD = flags.DEFINE_string(
    "field",
    "text",
    "Where the text is: a field of a JSON object or TFDS record, or a column of a table or parquet file; a.b is field "
    "b of the object in field a.",
)
_FORMAT = flags.DEFINE_enum(
    "format",
    "auto",
    FORMATS,
    "Format of the files; auto looks at the content of each file and reports what it found. json is an array, or "
    "objects one after another.",
)
_DELIMITER = flags.DEFINE_string(
    "delimiter",
    None,
    "Separator of a table's columns: a character, or tab, comma, semicolon, bar, space; default: the one that "
    "fits the start of the file.",
)
_QUOTE = flags.DEFINE_string(
    "quote", None, "The character around quoted fields of a table; none: quotes mean nothing; default: what fits."
)
_SENTENCES = flags.DEFINE_enum(
    "sentences",
    "punctuation",
    MODES,
    "Sentences: each line is one; or a line's end and . ! ? end one; or, for hard-wrapped text, lines are joined and "
    "only . ! ? and blank lines end one; verbatim keeps line ends and white space, for a model that writes texts.",
)
_ENCODING_ERRORS = flags.DEFINE_enum(
    "encoding_errors",
    "error",
    ENCODING_POLICIES,
    "Invalid UTF-8: stop, replace with U+FFFD, or skip the line or record.",
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
    "Byte-level kinds never produce unknown tokens; only wordpiece can drop accents.",
)
_VOCAB_SIZE = flags.DEFINE_integer("vocab_size", 30_522, "Size of the vocabulary to train.")
_LOWERCASE = flags.DEFINE_bool(
    "lowercase", None, "Train a tokenizer that lowercases; default: only wordpiece does. Byte-level BPE cannot."
)
_STRIP_ACCENTS = flags.DEFINE_bool(
    "strip_accents",
    None,
    "Train a wordpiece that drops accents; default, as in BERT: if it lowercases. For Spanish and other languages "
    "whose accents distinguish words: --lowercase --strip_accents=false.",
)
_TOKENIZER_CHARACTERS = flags.DEFINE_integer(
    "tokenizer_characters",
    200_000_000,
    "Number of characters, from the start of the source, to train the tokenizer on.",
)
_VALIDATION_FRACTION = flags.DEFINE_float("validation_fraction", 0.05, "Fraction of the documents to hold out.")
_WORKERS = flags.DEFINE_integer("workers", None, "Number of processes that encode; default: one per core.")
_NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes that prepare the store together.")
_PROCESS_ID = flags.DEFINE_integer("process_id", None, "The index of this process, from 0.")
_BEAM = flags.DEFINE_string(
    "beam",
    None,
    "Run the shares, --num_processes of them, as an Apache Beam pipeline with these flags of Beam's, such as "
    "'--runner=DirectRunner'.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what is in --store if it was made with different settings.")
_VERIFY = flags.DEFINE_bool(
    "verify", False, "If the store is complete, read all of it and compare checksums, not only sizes."
)
_TFDS_DATA_DIR = flags.DEFINE_string(
    "tfds_data_dir", None, "Folder of the TFDS datasets; default: ~/tensorflow_datasets."
)

_TRAINING_FLAGS = ("tokenizer_kind", "vocab_size", "lowercase", "strip_accents", "tokenizer_characters")


def main(argv: Sequence[str]) -> None:
    del argv
    if idle := [name for name in _TRAINING_FLAGS if _TOKENIZER.value and flags.FLAGS[name].present]:
        raise InputError(
            f"--{idle[0]} is for training a tokenizer, but --tokenizer={_TOKENIZER.value} gives one: drop one of them"
        )
    config = PrepareConfig(
        store=path_of(_STORE.value, "--store"),
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
    number, of = _process() if _BEAM.value is None else (0, 1)
    with PrepareProgress() as progress:
        if _BEAM.value is not None:
            prepared = _with_beam(config)
        else:
            prepared = prepare(config, progress) if of == 1 else prepare_share(config, number, of, progress)
    if number:
        documents = prepared.meta["documents_read"]
        print(f"share {number} of {of} is ready ({documents:,} documents); process 0 puts all of them together")
        return
    if _VERIFY.value:
        TokenStore.open(config.store).verify()
    if progress.encoding_seconds > 1:  # shorter times are mostly the workers' startup
        rate, workers = progress.encoded_tokens / progress.encoding_seconds, config.workers or usable_cores()
        print(f"encoded {rate:,.0f} tokens/s, {rate / workers:,.0f} on each of {workers} cores")
    _report(prepared.meta, config.store, prepared.was_complete)


def _with_beam(config: PrepareConfig) -> Prepared:
    if _NUM_PROCESSES.value is None or _PROCESS_ID.value is not None:
        raise InputError("--beam needs --num_processes, the number of shares, and no --process_id: Beam hands them out")
    try:
        from tx_jax.data.corpus.beam import prepare_with_beam
    except ModuleNotFoundError as error:
        raise InputError(f"--beam needs Apache Beam ({error}): pip install -e '.[beam]'") from None
    return prepare_with_beam(config, _NUM_PROCESSES.value, shlex.split(_BEAM.value))


def _process() -> tuple[int, int]:
    """(index of this process, how many there are)."""
    given = (_PROCESS_ID.value, _NUM_PROCESSES.value)
    if (given[0] is None) != (given[1] is None) and given != (None, 1):
        raise InputError("--num_processes and --process_id go together")
    return launched(os.environ) if given == (None, None) else (given[0] or 0, given[1])


def _report(meta: dict, store: Path, was_complete: bool) -> None:
    """Prints the counts, anything that deserves a second look, and the next command."""
    console = Console(highlight=False, soft_wrap=True)
    if was_complete:
        console.print(f"{store} is already complete and was made with the same settings; nothing to do.")
    table = Table(
        "split", *("documents", "sentences", "tokens", "unknown tokens"), title=str(store), title_justify="left"
    )
    for name, split in meta["splits"].items():
        unknown = f"{split['unknown_tokens'] / max(1, split['tokens']):.3%}"
        table.add_row(name, *(f"{split[key]:,}" for key in ("documents", "sentences", "tokens")), unknown)
    for column in table.columns[1:]:
        column.justify = "right"
    console.print(table)
    for taken in meta.get("taken_for", ()):  # earlier versions did not write it
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
        console.print("note: no document was held out, but training needs held-out data: raise --validation_fraction")
    tokenizer = TokenStore.open(store).tokenizer()
    console.print(f"next: {after_preparing(store, tokenizer, _TOKENIZER.value)}", markup=False)


if __name__ == "__main__":
    command_line.run(main)

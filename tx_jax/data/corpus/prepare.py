"""From documents to a token store: train or load the tokenizer, split sentences, encode on all cores, write.

If the process is killed, the same call resumes: a journal records how far the files are valid; the documents consumed
so far are read again and compared by digest; and the finished store is byte-identical to an uninterrupted one.
meta.json is written last, so nothing unfinished can be mistaken for a store.
"""

import contextlib
import itertools
import os
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from tx_jax import text
from tx_jax.data.corpus import resume, token_store
from tx_jax.data.corpus.accents import AccentCount
from tx_jax.data.corpus.config import PrepareConfig, Share
from tx_jax.data.corpus.encoding import Digest, Encoder, encode_in_order, join_long_documents, text_blocks
from tx_jax.data.corpus.sources import Source
from tx_jax.data.corpus.writer import SplitWriter
from tx_jax.errors import InputError, InputWarning
from tx_jax.files import check_writable, is_local, remove_folder, upload_folder
from tx_jax.storage import cache

# What meta.json counts under "cleaned": documents without a token, lines (records) of invalid UTF-8, NUL characters
# removed, and sentences cut because they were too long.
CLEANED = ("documents_empty", "invalid_utf8", "nul", "sentences_cut")


@dataclass(frozen=True)
class Progress:
    """The progress of a preparation.

    Attributes:
      stage: "wait" (for other processes), "tokenizer" (reading text to train it), "resume" (rereading documents already
        processed), or "encode".
      documents, characters, tokens: done so far; for "encode", these include the work of an interrupted call.
      fraction: fraction of the source's bytes read so far, in [0, 1]; None if its size is unknown.
    """

    stage: str
    documents: int = 0
    characters: int = 0
    tokens: int = 0
    fraction: float | None = None


@dataclass(frozen=True)
class Prepared:
    """The contents of meta.json, and whether the store already existed, complete and with the same settings."""

    meta: dict
    was_complete: bool


def prepare(
    config: PrepareConfig, progress: Callable[[Progress], None] = lambda _: None, share: Share | None = None
) -> Prepared:
    """Make the token store `config.store`, or resume an interrupted call, or return the finished store's metadata.

    One on an object store is made on this host and then written there, meta.json last; after a kill, the same call on
    the same host resumes.

    Args:
      config: what to make.
      progress: called periodically.
      share: make only this share of it, for `shares.prepare`.

    Raises InputError for input that cannot be used, a source that changed since the interruption, a store made with
    another tokenizer or other settings, and a corpus without text.
    """
    if not is_local(config.store):
        return _prepare_on_store(config, progress, share)
    try:
        return _prepare(config, progress, share)
    except token_store.UnusableStore as error:
        if not config.overwrite:
            raise InputError(f"{error}; choose another --store, or pass --overwrite to replace this one") from None
    resume.remove(config.store)
    return _prepare(config, progress, share)


def _prepare_on_store(config: PrepareConfig, progress: Callable[[Progress], None], share: Share | None) -> Prepared:
    """Like `prepare`, for a store that is not on this host."""
    place = config.store
    check_writable(place, "store")
    source, settings = _opened(config, share)[:2]
    try:
        if meta := resume.finished_meta(config, settings, source):
            return Prepared(meta, was_complete=True)
    except token_store.UnusableStore as error:
        if not config.overwrite:
            raise InputError(f"{error}; choose another --store, or pass --overwrite to replace this one") from None
    if not config.overwrite and any(place.glob("*")) and not any(place.glob(token_store.META)):
        known = {token_store.TOKENIZER, *token_store.SPLITS}  # a kill while it was written
        if foreign := sorted({path.name for path in place.iterdir()} - known):
            raise InputError(f"{place} is not a token store but contains {', '.join(foreign)}: choose another --store")
    folder = cache.work_folder(place)
    prepared = prepare(replace(config, store=folder, overwrite=True), progress, share)
    publish_store(folder, place)
    return Prepared(prepared.meta, was_complete=False)


def publish_store(folder: Path, place: Path) -> None:
    """Writes a finished token store of this host to its place on an object store, and removes it here."""
    (place / token_store.META).unlink(missing_ok=True)
    remove_folder(place)
    upload_folder(folder, place, last=token_store.META)
    remove_folder(folder)


def _opened(config: PrepareConfig, share: Share | None) -> tuple[Source, dict, text.Tokenizer | None]:
    """The source, the settings and the given tokenizer."""
    source = Source(config.source) if share is None else Source(config.source, (share.number, share.of))
    given = text.load(config.tokenizer) if config.tokenizer else None
    settings = resume.settings(config, given)
    return (
        source,
        settings if share is None else settings | {"share": [share.number, share.of], "code": share.code},
        given,
    )


def _prepare(config: PrepareConfig, progress: Callable[[Progress], None], share: Share | None) -> Prepared:
    """Like `prepare`, but raises UnusableStore if an existing store is in the way, and never replaces one."""
    source, settings, given = _opened(config, share)
    if meta := resume.finished_meta(config, settings, source):
        return Prepared(meta, was_complete=True)
    source.check_files()
    journal = resume.open_journal(config.store, settings, source)
    tokenizer = _tokenizer(config, given, source, progress)
    with contextlib.ExitStack() as stack:
        writers = {name: open_writer(config, name, tokenizer, journal) for name in token_store.SPLITS}
        for writer in writers.values():
            stack.callback(writer.close)
        record = None
        if share is not None:
            record = stack.enter_context((config.store / token_store.DIGESTS).open("wb"))
        journal = _encode(config, source, tokenizer, journal, writers, progress, record)
        if record is not None:
            record.flush()
        if share is not None or writers["train"].num_documents:
            found = Read(source.signature, source.taken_for(), source.counts)
            return Prepared(finish(config.store, found, tokenizer, journal, writers), was_complete=False)
    resume.remove(config.store)
    if held_out := writers["validation"].num_documents:
        raise InputError(f"all {held_out} documents fell into the validation split: lower validation_fraction")
    raise InputError(f"no text in {', '.join(config.source.specs)}: every document is empty or white space")


def _tokenizer(
    config: PrepareConfig, given: text.Tokenizer | None, source: Source, progress: Callable[[Progress], None]
) -> text.Tokenizer:
    """The store's tokenizer: the one saved before an interruption, or the given one, or a new one; saved."""
    folder = config.store / token_store.TOKENIZER
    if folder.is_dir():
        return text.load(folder)
    tokenizer = given or trained_tokenizer(config, source, progress)
    partial = folder.with_name(f"{token_store.TOKENIZER}.partial")
    tokenizer.save(partial)
    partial.rename(folder)
    return tokenizer


def trained_tokenizer(config: PrepareConfig, source: Source, progress: Callable[[Progress], None]) -> text.Tokenizer:
    """A tokenizer trained on the first `tokenizer_characters` of the source."""

    def report(characters: int) -> None:
        fraction = max(characters / config.tokenizer_characters, source.fraction_read or 0.0)
        progress(Progress("tokenizer", characters=characters, fraction=fraction))

    accents = AccentCount()
    tokenizer = text.train(
        config.tokenizer_kind,
        accents.counted(_beginning(source, config.tokenizer_characters)),
        vocab_size=config.vocab_size,
        lowercase=config.lowercase,
        strip_accents=config.strip_accents,
        progress=report,
    )
    if config.strip_accents is None and getattr(tokenizer, "strip_accents", False) and (lost := accents.lost()):
        warnings.warn(
            f"the tokenizer drops accents by default: {lost}; --strip_accents=false keeps them",
            InputWarning,
            stacklevel=2,
        )
    return tokenizer


def _beginning(documents: Iterable[str], characters: int) -> Iterator[str]:
    """The first documents, up to a total number of characters; the last one is cut."""
    for document in documents:
        yield document[:characters]
        characters -= len(document)
        if characters <= 0:
            return


def open_writer(config: PrepareConfig, name: str, tokenizer: text.Tokenizer, journal: dict) -> SplitWriter:
    return SplitWriter(
        config.store,
        name,
        vocab_size=tokenizer.vocab_size,
        shard_tokens=config.shard_tokens,
        state=journal["splits"].get(name),
    )


def _encode(
    config: PrepareConfig,
    source: Source,
    tokenizer: text.Tokenizer,
    journal: dict,
    writers: dict[str, SplitWriter],
    progress: Callable[[Progress], None],
    record: BinaryIO | None,
) -> dict:
    """Encode and append the documents that the journal does not count yet; returns the updated journal."""
    documents = iter(source)
    digest = _skip_consumed(documents, source, journal, config.store, progress, Digest(record))
    blocks = text_blocks(
        documents,
        block_characters=config.block_characters,
        validation_fraction=config.validation_fraction,
        consumed=journal["documents"],
        digest=digest,
    )
    encoder = Encoder(tokenizer, config.sentences, config.max_sentence_characters)
    counts, recorded = Counter(journal["counts"]), time.monotonic()
    with contextlib.closing(encode_in_order(encoder, blocks, config.workers or usable_cores())) as results:
        for block, encoded in join_long_documents(results):
            for name, writer in writers.items():
                writer.append(encoded.splits[name])
            counts.update(encoded.counts)
            journal |= {"documents": block.documents, "digest": block.digest, "counts": dict(counts)}
            if time.monotonic() - recorded >= config.journal_seconds:
                journal["splits"] = {name: writer.state() for name, writer in writers.items()}
                token_store.write_json(config.store / token_store.JOURNAL, journal)
                recorded = time.monotonic()
            tokens = sum(writer.num_tokens for writer in writers.values())
            progress(Progress("encode", block.documents, counts["characters"], tokens, source.fraction_read))
    return journal


def _skip_consumed(
    documents: Iterator[str],
    source: Source,
    journal: dict,
    store: Path,
    progress: Callable[[Progress], None],
    digest: Digest,
) -> Digest:
    """Read past the documents that an interrupted call consumed, and return their digest, the one in the journal."""
    characters = 0
    for number, document in enumerate(itertools.islice(documents, journal["documents"]), start=1):
        digest.update(document)
        characters += len(document)
        progress(Progress("resume", number, characters, fraction=source.fraction_read))
    if digest.hexdigest() != journal["digest"]:
        raise token_store.UnusableStore(f"the source changed since the preparation of {store} was interrupted")
    return digest


def usable_cores() -> int:
    """Number of cores this process may use; containers and schedulers often allow fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Read:
    """What was read of a source: see `Source`."""

    signature: list
    taken_for: list[dict]
    counts: Counter


def finish(store: Path, read: Read, tokenizer: text.Tokenizer, journal: dict, writers: dict[str, SplitWriter]) -> dict:
    """Close the files and write meta.json, which makes the folder a store."""
    unknown = [] if tokenizer.unk_id is None else [tokenizer.unk_id]  # a byte-level vocabulary may have none
    splits = {
        name: writer.finish() | {"unknown_tokens": int(writer.unigram[unknown].sum())}
        for name, writer in writers.items()
    }
    counts = Counter(journal["counts"]) + read.counts
    files = [*sorted((store / token_store.TOKENIZER).iterdir()), *store.glob(token_store.DIGESTS)]
    meta = {
        "format": token_store.FORMAT,
        "vocab_size": tokenizer.vocab_size,
        "dtype": token_store.token_dtype(tokenizer.vocab_size).name,
        "tokenizer_fingerprint": tokenizer.fingerprint,
        "settings": journal["settings"],
        "source_signature": read.signature,
        "source_digest": journal["digest"],
        "documents_read": journal["documents"],
        "taken_for": read.taken_for,
        "characters": counts.pop("characters", 0),
        "cleaned": {reason: counts[reason] for reason in CLEANED},
        "splits": splits,
        "files": [token_store.file_entry(store, path) for path in files],
    }
    token_store.write_json(store / token_store.META, meta)
    (store / token_store.JOURNAL).unlink()
    return meta

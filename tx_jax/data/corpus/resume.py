"""What is in a store's folder before a preparation: a finished store, an interrupted one, or other files.

A store is reused only if everything that determines its bytes is the same. Settings that did not exist in an earlier
version take their defaults, so that its stores still count as complete.
"""

import dataclasses
import shutil
import warnings
from dataclasses import asdict
from pathlib import Path

from tx_jax import text
from tx_jax.data.corpus import token_store
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.encoding import Digest
from tx_jax.data.corpus.index import delete_indexes
from tx_jax.data.corpus.sources import Source
from tx_jax.data.sniffing import KINDS
from tx_jax.errors import InputError, InputWarning


def settings(config: PrepareConfig, given: text.Tokenizer | None) -> dict:
    """Everything that determines the bytes of the store, except for the contents of the source."""
    source = asdict(config.source) | {"specs": list(config.source.specs)}
    del source["tfds_data_dir"]  # the location of the data, not its contents
    names = ["sentences", "validation_fraction", "max_sentence_characters", "block_characters", "shard_tokens"]
    if given:
        return {**source, "tokenizer": given.fingerprint, **{name: getattr(config, name) for name in names}}
    names += ["vocab_size", "strip_accents", "tokenizer_characters"]
    is_wordpiece = config.tokenizer_kind == "wordpiece"
    return {
        **source,
        "tokenizer": "trained on the source" if is_wordpiece else f"{config.tokenizer_kind} trained on the source",
        "lowercase": is_wordpiece if config.lowercase is None else config.lowercase,
        **{name: getattr(config, name) for name in names},
    }


def finished_meta(config: PrepareConfig, settings: dict, source: Source) -> dict | None:
    """meta.json of a finished store; None if there is none. Raises UnusableStore if it is not the requested one."""
    if not (config.store / token_store.META).is_file():
        return None
    store = token_store.TokenStore.open(config.store)
    _refuse_other_settings(config.store, store.meta["settings"], settings)
    if store.meta["source_signature"] != source.signature:
        raise token_store.UnusableStore(f"the files of the source changed since {config.store} was made from them")
    if config.overwrite:  # damage is then the only remaining reason to rebuild it
        store.verify()
    if "taken_for" not in store.meta and (problem := _misread(source)):
        if config.overwrite:
            raise token_store.UnusableStore(f"{config.store} was made by an earlier version: {problem}")
        message = (
            f"{config.store} was made by an earlier version, and is left as it is: {problem}; --overwrite makes it anew"
        )
        warnings.warn(message, InputWarning, stacklevel=2)
    return store.meta


def _misread(source: Source) -> str | None:
    """Describes what earlier versions, which went by file names, read in a different format; None if nothing."""
    try:
        contents = source.contents
    except InputError as error:
        return f"it took every file for text: {error}"
    for path, files in contents.items():
        former = "jsonl" if path.name.removesuffix(".gz").endswith(".jsonl") else "text"
        compression = "gzip" if path.suffix == ".gz" else None
        for file, content in files:
            if (content.kind, file.compression) not in ((former, compression), ("empty", compression)):
                return f"it took {file} for {KINDS[former]}, but that is {content}"
    return None


def _refuse_other_settings(store: Path, old: dict, new: dict) -> None:
    former = {field.name: field.default for field in dataclasses.fields(SourceConfig) if field.name not in old}
    old = {name: former[name] for name in new if name in former} | old
    differing = [
        f"{name} {old.get(name, 'unset')!r}, now {new.get(name, 'unset')!r}"
        for name in {**old, **new}
        if old.get(name) != new.get(name)
    ]
    if differing:
        raise token_store.UnusableStore(f"{store} was made with different settings ({'; '.join(differing)})")


def open_journal(store: Path, settings: dict, source: Source) -> dict:
    """The journal of an interrupted call with these settings, or a new one, written before anything else is."""
    path = store / token_store.JOURNAL
    if path.is_file():
        journal = token_store.read_json(path)
        if journal["format"] == token_store.FORMAT and journal["documents"]:
            old = dict(journal["settings"])
            if old["encoding_errors"] == "error":
                # All input so far was valid, so every policy would have given the same result; this one may continue.
                old["encoding_errors"] = settings["encoding_errors"]
            _refuse_other_settings(store, old, settings)
            if not journal.get("by_content") and (problem := _misread(source)):
                raise token_store.UnusableStore(f"{store} was begun by an earlier version: {problem}")
            return journal | {"settings": settings}
        remove(store)
    elif store.exists() and not store.is_dir():
        raise InputError(f"{store} is a file: choose another --store")
    elif foreign := [name for name in (token_store.TOKENIZER, *token_store.SPLITS) if (store / name).exists()]:
        raise InputError(f"{store} is not a token store but contains {', '.join(foreign)}: choose another --store")
    store.mkdir(parents=True, exist_ok=True)
    journal = {
        "format": token_store.FORMAT,
        "settings": settings,
        "by_content": True,  # files are recognized by content, not by name as in earlier versions
        "documents": 0,
        "digest": Digest().hexdigest(),
        "counts": {},
        "splits": {},
    }
    token_store.write_json(path, journal)
    return journal


def remove(store: Path) -> None:
    """Delete the files of a store, but no other files in its folder."""
    # An empty journal: if killed during deletion, the remaining files can be distinguished from unrelated files.
    token_store.write_json(store / token_store.JOURNAL, {"format": token_store.FORMAT, "documents": 0})
    (store / token_store.META).unlink(missing_ok=True)
    for name in (token_store.TOKENIZER, f"{token_store.TOKENIZER}.partial", *token_store.SPLITS):
        shutil.rmtree(store / name, ignore_errors=True)
    (store / token_store.DIGESTS).unlink(missing_ok=True)
    delete_indexes(store)
    (store / token_store.JOURNAL).unlink()

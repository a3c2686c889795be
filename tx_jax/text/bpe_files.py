"""Loads byte-level BPE tokenizers from folders written by tx_jax or by transformers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers

from tx_jax.errors import InputError
from tx_jax.text import hf_files, probes
from tx_jax.text.bpe import ByteLevelBPE
from tx_jax.text.definition import model_type, pre_tokenizers_of, read, read_json, vocabulary_of

# Transformers classes that run GPT-2's byte-level BPE; their only option is add_prefix_space.
_CLASSES = ("Roberta", "GPT2", "Bart", "Longformer", "LED", "Deberta")


def _byte_level(definition: Mapping[str, Any]) -> dict[str, Any] | None:
    """The byte-level part of the pre-tokenizer; None if there is none."""
    return next((part for part in pre_tokenizers_of(definition) if part.get("type") == "ByteLevel"), None)


def recognises(directory: Path, definition: Mapping[str, Any]) -> bool:
    """Whether the folder contains a byte-level BPE tokenizer. `definition`: its tokenizer.json, {} if it has none."""
    if definition:
        return model_type(definition) == "BPE" and _byte_level(definition) is not None
    return (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file()


def load(directory: Path, definition: Mapping[str, Any]) -> ByteLevelBPE:
    """Load a byte-level BPE tokenizer from its tokenizer.json if present, otherwise from vocab.json and merges.txt.

    Raises InputError for a class that does more than the files describe, and if files disagree.
    """
    return _from_definition(directory, definition) if definition else _from_vocabulary(directory)


def _from_definition(directory: Path, definition: Mapping[str, Any]) -> ByteLevelBPE:
    name = hf_files.check_class(directory, "tokenizer.json")
    engine, definition = read(definition)
    beside = read_json(directory / "vocab.json")
    ids = definition["model"]["vocab"]
    added = {token["content"]: token["id"] for token in definition["added_tokens"]}
    if beside and beside != ids and not ids.items() <= beside.items() <= {**ids, **added}.items():
        raise InputError(
            f"{directory / 'vocab.json'} and the tokenizer.json beside it have different vocabularies: remove the one "
            "that the model was not trained with"
        )
    if name in _CLASSES:
        definition["pre_tokenizer"] = _treat_as_class(engine, definition["pre_tokenizer"], directory)
    whole = hf_files.with_added_tokens(definition, directory)
    if whole["added_tokens"] != definition["added_tokens"]:
        engine, _ = read(whole)
    tokenizer = ByteLevelBPE(whole, hf_files.special_names(directory, vocabulary_of(whole)))
    probes.check(tokenizer, engine, [token["content"] for token in tokenizer.added_tokens], directory)
    return tokenizer


def _from_vocabulary(directory: Path) -> ByteLevelBPE:
    hf_files.check_class(directory, "vocab.json and merges.txt", (*_CLASSES, "", "PreTrained"))
    ids = read_json(directory / "vocab.json")
    if sorted(ids.values()) != list(range(len(ids))):
        raise InputError(f"the ids in {directory / 'vocab.json'} are not 0 to {len(ids) - 1}, each once")
    vocabulary = sorted(ids, key=ids.get)
    tokenizer = ByteLevelBPE.from_merges(
        vocabulary,
        list(_read_merges(directory / "merges.txt")),
        names=hf_files.special_names(directory, vocabulary),
        add_prefix_space=bool(read_json(directory / hf_files.CONFIG).get("add_prefix_space")),
    )
    whole = hf_files.with_added_tokens(tokenizer._definition, directory)
    return ByteLevelBPE(whole, hf_files.special_names(directory, vocabulary_of(whole)))


def _treat_as_class(engine: Engine, own: dict[str, Any], directory: Path) -> dict[str, Any]:
    """Apply the `add_prefix_space` in tokenizer_config.json to the engine, as `_CLASSES` do.

    Returns the engine's own pre-tokenizer with that option. Raises InputError if `_CLASSES` would split a text
    differently.
    """
    stated = read_json(directory / hf_files.CONFIG).get("add_prefix_space")
    rebuilt = Engine(models.BPE())
    rebuilt.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(stated))
    if stated is not None and own["type"] == "ByteLevel":
        own = {**own, "add_prefix_space": stated}
        engine.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=stated, use_regex=own["use_regex"])
    probes.check_words(engine, rebuilt, directory)
    return own


def _read_merges(path: Path) -> Iterator[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid UTF-8 at byte {error.start}: convert it with iconv") from None
    for number, line in enumerate(lines, start=1):
        # Only the first line can be a comment: "# #" is a merge.
        if not line.strip() or (number == 1 and line.startswith("#version")):
            continue
        pair = tuple(line.split())
        if len(pair) != 2:
            raise InputError(f"{path}, line {number}: expected two tokens, found {line!r}")
        yield pair

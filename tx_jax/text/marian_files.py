"""Loads Marian tokenizers from folders written by tx_jax or by transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError
from tx_jax.text import hf_files
from tx_jax.text.definition import read_json
from tx_jax.text.marian import MODELS, NAMES, VOCABULARY, Marian

# Keys that the tokenizer writes itself, or that say where a file was.
_OWN = ("tokenizer_class", "separate_vocabs", "name_or_path", "special_tokens_map_file", "tokenizer_file", "backend")


def recognises(directory: Path, definition: Mapping[str, Any]) -> bool:
    """Whether the folder contains a Marian tokenizer. `definition`: its tokenizer.json, which it has not."""
    return not definition and any((directory / name).is_file() for name in MODELS.values())


def load(directory: Path, definition: Mapping[str, Any]) -> Marian:
    """Load a Marian tokenizer from vocab.json, source.spm and target.spm.

    Raises InputError if one is missing or damaged, and for what is not supported: a vocabulary for each side, options
    of SentencePiece such as sampling, and added tokens.
    """
    if missing := [name for name in (VOCABULARY, *MODELS.values()) if not (directory / name).is_file()]:
        raise InputError(f"{directory} is no whole Marian tokenizer: it lacks {', '.join(missing)}")
    hf_files.check_class(directory, f"{VOCABULARY} and {' and '.join(MODELS.values())}", ("Marian", ""))
    settings = read_json(directory / hf_files.CONFIG)
    for key, plain in (("separate_vocabs", False), ("sp_model_kwargs", {})):
        if settings.get(key, plain) not in (plain, None):
            raise InputError(f"{directory / hf_files.CONFIG}: {key}={settings[key]!r} is not supported: only {plain!r}")
    ids = read_json(directory / VOCABULARY)
    if sorted(map(str, ids.values())) != sorted(map(str, range(len(ids)))):
        raise InputError(f"the ids in {directory / VOCABULARY} are not 0 to {len(ids) - 1}, each once")
    vocabulary = sorted(ids, key=ids.get)
    _check_added(directory, ids)
    named = hf_files.special_names(directory, vocabulary)
    names = NAMES | {role: name for role, name in named.items() if role in NAMES}
    models = {side: (directory / name).read_bytes() for side, name in MODELS.items()}
    kept = {
        key: value
        for key, value in settings.items()
        if key not in _OWN and key != "added_tokens_decoder" and not key.endswith("_token")
    }
    return Marian(vocabulary, models, names, kept)


def _check_added(directory: Path, ids: Mapping[str, int]) -> None:
    """Raises InputError for tokens that other files add to the vocabulary."""
    added = dict(read_json(directory / hf_files.ADDED))
    for index, token in (read_json(directory / hf_files.CONFIG).get("added_tokens_decoder") or {}).items():
        added[token["content"] if isinstance(token, dict) else str(token)] = index
    if extra := [token for token, index in added.items() if ids.get(token) != int(index)]:
        raise InputError(f"{directory}: the added token {extra[0]!r} is not supported in a Marian tokenizer")

"""Reads tokenizer.json, the file format of the `tokenizers` library."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError


def describe(engine: Engine) -> dict[str, Any]:
    """The contents of an engine's tokenizer.json."""
    return json.loads(engine.to_str())


def read(definition: Mapping[str, Any]) -> tuple[Engine, dict[str, Any]]:
    """Build the engine of a tokenizer.json, and return it with the contents in the library's own form.

    In that form the model has a type and every option has a value.

    Raises InputError if the library cannot read it, or numbers added tokens differently from the file.
    """
    try:
        engine = Engine.from_str(json.dumps(definition))
        complete = _complete(definition, engine)
    except Exception as error:  # the library raises nothing more specific
        raise InputError(f"the tokenizers library cannot read tokenizer.json ({error})") from None
    for token in definition.get("added_tokens", ()):
        if (index := engine.token_to_id(token["content"])) != token["id"]:
            raise InputError(
                f"tokenizer.json gives {token['content']!r} the id {token['id']}, but the tokenizers library, and so "
                f"transformers, {index}: there must be a token for every id below it"
            )
    return engine, complete


def _complete(definition: Mapping[str, Any], engine: Engine) -> dict[str, Any]:
    """This definition in the library's own form, as the library writes it after reading it."""
    if model_type(definition) != "WordPiece":
        return describe(engine)
    # The library writes a vocabulary just as it read it; leaving it out halves the time.
    model, added = definition["model"], definition.get("added_tokens", [])
    small = {**definition, "model": {**model, "vocab": {}}, "added_tokens": []}
    rest = describe(Engine.from_str(json.dumps(small)))
    return {**rest, "model": {**rest["model"], "vocab": dict(model["vocab"])}, "added_tokens": [*added]}


def nameless(index: int) -> str:
    """The vocabulary's entry for an id without a token. No text is encoded as it, because texts are split at spaces."""
    return f"[row {index}]"


def vocabulary_of(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """All tokens of a tokenizer.json in id order. Raises InputError unless there is one for each id."""
    entries = definition["model"]["vocab"]
    tokens = dict(enumerate(piece for piece, _ in entries)) if isinstance(entries, list) else _inverse(entries)
    tokens |= {token["id"]: token["content"] for token in definition["added_tokens"]}
    if len(tokens) != max(tokens, default=0) + 1:
        raise InputError(f"the vocabulary has {len(tokens)} tokens, but ids up to {max(tokens, default=0)}")
    return tuple(tokens[index] for index in range(len(tokens)))


def _inverse(ids: Mapping[str, int]) -> dict[int, str]:
    return {index: token for token, index in ids.items()}


def pre_tokenizers_of(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pre-tokenizers of a tokenizer.json as a list; a sequence is expanded."""
    part = definition.get("pre_tokenizer")
    if not isinstance(part, dict):
        return []
    return part.get("pretokenizers", []) if part.get("type") == "Sequence" else [part]


def model_type(definition: Mapping[str, Any]) -> str:
    """ "WordPiece", "BPE" or "Unigram", inferred from the contents if an old file has no type; "" if none of them."""
    model = definition.get("model")
    if not isinstance(model, dict):
        return ""
    guess = "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else ""
    return model.get("type", guess)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; {} if there is no such file. Raises InputError for anything else."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore the file or delete it") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object: restore the file or delete it")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

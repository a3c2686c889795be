"""Reads a tokenizer's class, special tokens and added tokens from the small files of a Hugging Face folder.

tokenizer_config.json     the class and its options; since transformers 4.34 also all added tokens
special_tokens_map.json   the special token of each role
added_tokens.json         words added after training and their ids, as older versions write them
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken

from tx_jax.errors import InputError
from tx_jax.text.definition import read_json, vocabulary_of
from tx_jax.text.tokenizer import ROLES

CONFIG, MAP, ADDED = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
# The names of special tokens if no file gives them.
CONVENTIONS = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("<s>", "[CLS]"),
    "sep": ("</s>", "[SEP]"),
    "mask": ("<mask>", "[MASK]"),
    "bos": ("<s>", "[CLS]", "<|endoftext|>"),
    "eos": ("</s>", "[SEP]", "<|endoftext|>"),
}
# Classes that run a tokenizer.json as it is.
GENERAL = ("", "PreTrained", "TokenizersBackend")
# Classes with Python code that no tokenizer.json describes: dictionaries, tweet normalization, character splitting.
# fmt: off
_IN_PYTHON = (
    "Bartpho", "BertJapanese", "Bertweet", "BioGpt", "BlenderbotSmall", "ByT5", "Canine", "CTRL", "Flaubert", "FSMT",
    "GPTNeoXJapanese", "Luke", "MLuke", "MyT5", "Perceiver", "Phobert", "ProphetNet", "RoCBert", "RoFormer", "Tapas",
    "TransfoXL", "XLM",
)
# fmt: on
_FLAGS = ("single_word", "lstrip", "rstrip", "normalized", "special")


def class_of(directory: Path) -> str:
    """The class in tokenizer_config.json or config.json: "Bert" for "BertTokenizerFast", "" if neither names one."""
    files = (CONFIG, "config.json")
    name = next((name for file in files if (name := read_json(directory / file).get("tokenizer_class"))), "")
    return str(name).removesuffix("Fast").removesuffix("Tokenizer")


def check_class(directory: Path, files: str, known: Collection[str] | None = None) -> str:
    """Return the folder's `class_of` if the files determine that class's ids.

    Args:
      files: the files that contain the tokenizer, for the message.
      known: the classes that read these files as tx_jax does. None accepts any class that adds no Python code of its
        own, since a tokenizer.json is complete.

    Raises InputError for any other class, and for a class whose code comes with the folder.
    """
    name = class_of(directory)
    custom = read_json(directory / CONFIG).get("auto_map")
    if name in _IN_PYTHON or custom or (known is not None and name not in known):
        shown = f"{name}Tokenizer" if not custom else "a class of its own code (auto_map)"
        raise InputError(
            f"{directory} names {shown}, which tx_jax does not run: {files} alone would give other ids. Use a "
            "model whose tokenizer is BERT's, byte-level BPE or SentencePiece, or train one of your own"
        )
    return name


def special_names(directory: Path, vocabulary: Iterable[str]) -> dict[str, str]:
    """The special token of each role: from special_tokens_map.json, else tokenizer_config.json, else by convention.

    As in transformers, tokenizer_config.json takes precedence if it also contains the added tokens.
    """
    known = set(vocabulary)
    names = {role: next((name for name in given if name in known), None) for role, given in CONVENTIONS.items()}
    if not names["cls"]:
        names["sep"] = None  # if no token begins a text, as in T5, </s> only ends it
    has_all = "added_tokens_decoder" in read_json(directory / CONFIG)
    for file in (MAP, CONFIG) if has_all else (CONFIG, MAP):
        given = read_json(directory / file)
        for role in ROLES:
            if name := given.get(f"{role}_token"):
                names[role] = _content(name)
    return {role: name for role, name in names.items() if name}


def with_added_tokens(definition: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """The tokenizer.json with the added tokens from the folder's other files, matched as transformers matches them.

    Raises InputError for a token without an id, and if two files disagree about an id or how a token is matched.
    """
    stated, additional = _stated(directory), _additional(directory)
    if not stated and not additional:
        return dict(definition)
    roles = special_names(directory, ()).values()
    ids = {token: index for index, token in enumerate(vocabulary_of(definition))}
    added = {token["id"]: dict(token) for token in definition["added_tokens"]}
    tokens = {index: token for token, index in ids.items()}
    for index, (token, file) in sorted(stated.items()):
        content = token["content"]
        if ids.get(content, index) != index or tokens.get(index, content) != content:
            raise InputError(
                f"{directory / file} gives {content!r} the id {index}, but the vocabulary says that {content!r} is "
                f"{ids.get(content, 'no token')} and {index} is {tokens.get(index)!r}: fix one of the two"
            )
        # How the special tokens of roles are matched does not matter, since they are never matched in a text here.
        before = added.get(index) if file == CONFIG and content not in roles else None
        if before and any(token[key] != before[key] for key in _FLAGS):
            raise InputError(
                f"{directory / file} and tokenizer.json disagree about how {content!r} is found in a text "
                f"({', '.join(_FLAGS)}): fix one of the two"
            )
        ids[content], tokens[index] = index, content
        added.setdefault(index, {"id": index, **token})
    if homeless := [name for name in additional if name not in ids]:
        raise InputError(
            f"{directory} names the special token {homeless[0]!r}, but no file gives it an id: save the tokenizer "
            f"again with transformers, or add it to {ADDED}"
        )
    return {**definition, "added_tokens": [added[index] for index in sorted(added)]}


def _stated(directory: Path) -> dict[int, tuple[dict[str, Any], str]]:
    """Added tokens by id, each with the file it is from: tokenizer_config.json, or else added_tokens.json."""
    decoder = read_json(directory / CONFIG).get("added_tokens_decoder")
    try:
        if decoder is not None:
            return {int(index): (_token(given), CONFIG) for index, given in decoder.items()}
        roles = [read_json(directory / file).get(f"{role}_token") for file in (MAP, CONFIG) for role in ROLES]
        special = {_content(name) for name in roles if name}
        return {
            int(index): (_token({"content": content, "special": content in special}), ADDED)
            for content, index in read_json(directory / ADDED).items()
        }
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise InputError(f"{directory}: its added tokens are damaged ({error}): save the tokenizer again") from None


def _token(given: Mapping[str, Any]) -> dict[str, Any]:
    """A token's entry in tokenizer.json without its id; missing flags get the defaults of transformers."""
    flags = {key: given[key] for key in _FLAGS if key in given}
    token = AddedToken(given["content"], **flags)
    return {"content": token.content, **{key: getattr(token, key) for key in _FLAGS}}


def _additional(directory: Path) -> list[str]:
    """The folder's special tokens that have no role."""
    found: list[str] = []
    for file in (MAP, CONFIG):
        for key in ("additional_special_tokens", "extra_special_tokens"):
            given = read_json(directory / file).get(key) or ()
            found += map(_content, given.values() if isinstance(given, dict) else given)
    return found


def _content(name: Any) -> str:
    return name["content"] if isinstance(name, dict) else str(name)

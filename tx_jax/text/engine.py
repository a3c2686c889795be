"""Tokenizers that are described by a tokenizer.json, the file format of the `tokenizers` library, and run by it."""

import abc
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError
from tx_jax.text.added_words import add_words
from tx_jax.text.alignment import Aligned, align
from tx_jax.text.tokenizer import ROLES, Tokenizer

# What special tokens are called where no file says so.
CONVENTIONS = {
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "cls": ("<s>", "[CLS]"),
    "sep": ("</s>", "[SEP]"),
    "mask": ("<mask>", "[MASK]"),
    "bos": ("<s>", "[CLS]", "<|endoftext|>"),
    "eos": ("</s>", "[SEP]", "<|endoftext|>"),
}
_FIRST_WORD = re.compile(r"\S*")
# Scripts written without spaces between words: Thai and Lao; Tibetan and Burmese; Khmer; Chinese and Japanese with
# their punctuation; compatibility ideographs; full-width forms; the supplementary ideographs.
_SPACELESS = (
    (0x0E00, 0x0EFF),
    (0x0F00, 0x109F),
    (0x1780, 0x17FF),
    (0x2E80, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF00, 0xFFEF),
    (0x20000, 0x3FFFF),
)


class EngineTokenizer(Tokenizer):
    """A tokenizer.json, with special tokens that no text can forge.

    The library finds the names of special tokens in a text before anything else, and a Unigram model finds them even
    if they are not registered, since they are pieces of its vocabulary. The engine that encodes here therefore knows
    them by names that begin with a space, which no text reaches: its pre-tokenizer replaces every space by another
    character before the model sees it. `save` writes the true names, registered, as transformers expects.

    Args:
      definition: the contents of tokenizer.json, in the form of `describe`.
      names: the special token of each of the `ROLES` that has one. One that is not in the vocabulary counts as missing.
    """

    tokenizer_class = "PreTrainedTokenizerFast"  # the class of transformers that runs a tokenizer.json as it is

    def __init__(self, definition: Mapping[str, Any], names: Mapping[str, str]):
        self._vocabulary = vocabulary_of(definition)
        self.vocab_size = len(self._vocabulary)
        ids = {token: index for index, token in enumerate(self._vocabulary)}
        self._names = {role: names[role] for role in ROLES if names.get(role) in ids}
        for role in ROLES:
            setattr(self, f"{role}_id", ids.get(self._names.get(role)))
        if self.unk_id is not None and self.unk_id in (self.bos_id, self.eos_id):
            self.unk_id = None  # GPT-2 calls <|endoftext|> its unknown token, but no text is unknown to it
        self.bos_id = self.cls_id if self.bos_id is None else self.bos_id
        self.eos_id = self.sep_id if self.eos_id is None else self.eos_id
        self._definition = _register(definition, self._names, ids)
        added = self._definition["added_tokens"]
        self._special_ids = tuple(sorted(token["id"] for token in added if token["special"]))
        self.fingerprint = _fingerprint(self._definition, self._vocabulary, self._role_ids())
        self._engine = _unforgeable(self._definition, self._vocabulary, self._special_ids)

    def _role_ids(self) -> dict[str, int | None]:
        return {role: getattr(self, f"{role}_id") for role in ROLES}

    def __reduce__(self):  # so that a tokenizer travels to worker processes
        return type(self), (self._definition, self._names)

    @property
    def special_ids(self) -> tuple[int, ...]:
        return self._special_ids

    @cached_property
    def is_continuation(self) -> np.ndarray:
        mask = np.array([not self._begins_word(token) for token in self._vocabulary])
        mask[[token["id"] for token in self._definition["added_tokens"]]] = False
        mask.flags.writeable = False
        return mask

    @abc.abstractmethod
    def _begins_word(self, token: str) -> bool: ...

    @cached_property
    def added_texts(self) -> dict[int, str]:
        """What each token that was added after training stands for: its word, with the space that belongs to it."""
        added = (token for token in self._definition["added_tokens"] if not token["special"])
        return {token["id"]: " " * token["lstrip"] + token["content"] for token in added}

    def _normalize(self, word: str) -> str:
        normalizer = self._engine.normalizer
        return normalizer.normalize_str(word).strip() if normalizer else word

    def _extended(self, words: Sequence[str]) -> Self:
        ids = {word: self.vocab_size + index for index, word in enumerate(words)}
        return type(self)(add_words(self._definition, ids, filter(starts_spaceless, words)), self._names)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._engine.encode_batch_fast(texts, add_special_tokens=False)]

    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        return align(self._engine, texts)

    def decode(self, ids: Iterable[int]) -> str:
        return self._engine.decode([int(token_id) for token_id in ids], skip_special_tokens=False).removeprefix(" ")

    def _encode_attached(self, text: str) -> list[int]:
        head = _FIRST_WORD.match(text).group()
        return self._attached.encode(head, add_special_tokens=False).ids + self.encode(text[len(head) :])

    @cached_property
    def _attached(self) -> Engine:
        """As the engine that encodes, but it puts no space before a text."""
        definition = json.loads(self._engine.to_str())
        changes = {"ByteLevel": {"add_prefix_space": False}, "Metaspace": {"prepend_scheme": "never"}}
        for part in pre_tokenizers_of(definition):
            part.update(changes.get(part["type"], {}))
        return Engine.from_str(json.dumps(definition))

    def token(self, token_id: int) -> str:
        if not 0 <= token_id < self.vocab_size:
            raise InputError(f"token id {token_id} is outside the vocabulary of {self.vocab_size} tokens")
        return self._vocabulary[token_id]

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and the two small files from which AutoTokenizer of transformers builds the same."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "tokenizer.json", self._definition)
        write_json(directory / "special_tokens_map.json", {f"{role}_token": name for role, name in self._names.items()})
        write_json(directory / "tokenizer_config.json", self._config())

    def _config(self) -> dict[str, Any]:
        """tokenizer_config.json. Classes that rebuild their engine learn here that a token takes the space before."""
        added = {token["content"]: token for token in self._definition["added_tokens"]}
        properties = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
        names = {
            f"{role}_token": {"__type": "AddedToken", **{key: added[name][key] for key in properties}}
            if added[name]["lstrip"]
            else name
            for role, name in self._names.items()
        }
        return {"tokenizer_class": self.tokenizer_class, **names}


def describe(engine: Engine) -> dict[str, Any]:
    """The contents of the tokenizer.json of an engine."""
    return json.loads(engine.to_str())


def complete(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A tokenizer.json in the library's own form, which names the type of the model and spells out every option.

    Raises InputError where the library cannot read it.
    """
    try:
        return describe(Engine.from_str(json.dumps(definition)))
    except Exception as error:  # the library raises nothing more specific
        raise InputError(f"the tokenizers library cannot read tokenizer.json ({error})") from None


def vocabulary_of(definition: Mapping[str, Any]) -> tuple[str, ...]:
    """All tokens of a tokenizer.json in the order of their ids. Raises InputError unless there is one for each id."""
    entries = definition["model"]["vocab"]
    tokens = dict(enumerate(piece for piece, _ in entries)) if isinstance(entries, list) else _inverse(entries)
    tokens |= {token["id"]: token["content"] for token in definition["added_tokens"]}
    if len(tokens) != max(tokens, default=0) + 1:
        raise InputError(f"the vocabulary has {len(tokens)} tokens, but ids up to {max(tokens, default=0)}")
    return tuple(tokens[index] for index in range(len(tokens)))


def _inverse(ids: Mapping[str, int]) -> dict[int, str]:
    return {index: token for token, index in ids.items()}


def _register(definition: dict[str, Any], names: Mapping[str, str], ids: Mapping[str, int]) -> dict[str, Any]:
    """The definition with the named tokens among its special tokens, and nothing about truncation and padding."""
    added = {token["id"]: token for token in definition["added_tokens"]}
    for role, name in names.items():
        fresh = {"content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        # The space before a mask is a part of the word that is masked.
        fresh["lstrip"] = role == "mask"
        added[ids[name]] = {"id": ids[name], **added.get(ids[name], fresh), "special": True}
    return {**definition, "added_tokens": [added[i] for i in sorted(added)], "truncation": None, "padding": None}


def _unforgeable(definition: dict[str, Any], vocabulary: Sequence[str], special_ids: Sequence[int]) -> Engine:
    """The engine that encodes: all ids in its model, special tokens under names that no text contains.

    Words that were added last stay outside: in the model they would be pieces, and found inside other words.
    """
    plain = [token for token in definition["added_tokens"] if not token["special"]]
    added_ids = {token["id"] for token in plain}
    size = len(vocabulary)
    while size > len(definition["model"]["vocab"]) and size - 1 in added_ids:
        size -= 1
    vocabulary = vocabulary[:size]
    specials = {vocabulary[index]: " " + vocabulary[index] for index in special_ids}
    model = dict(definition["model"])
    if model["type"] == "Unigram":
        scores = [score for _, score in model["vocab"]] + [0.0] * (len(vocabulary) - len(model["vocab"]))
        model["vocab"] = [[specials.get(token, token), score] for token, score in zip(vocabulary, scores, strict=True)]
    else:
        model["vocab"] = {specials.get(token, token): index for index, token in enumerate(vocabulary)}
        model["merges"] = [
            pair for pair in model["merges"] if not specials.keys() & {pair[0], pair[1], pair[0] + pair[1]}
        ]
        model["unk_token"] = specials.get(model["unk_token"], model["unk_token"])
    return Engine.from_str(json.dumps({**definition, "model": model, "added_tokens": plain, "post_processor": None}))


def _fingerprint(definition: Mapping[str, Any], vocabulary: Sequence[str], roles: Mapping[str, int | None]) -> str:
    """sha256 of what determines the ids; the same whether transformers or we wrote the file."""
    settings = {key: definition[key] for key in ("model", "normalizer", "pre_tokenizer")}
    if definition["model"]["type"] == "Unigram":
        # The library reads a number from JSON with an error in its last digit: compare as SentencePiece keeps them.
        scores = [float(np.float32(score)) for _, score in definition["model"]["vocab"]]
        settings["model"] = {**definition["model"], "vocab": scores}
    matched = [token for token in definition["added_tokens"] if not token["special"]]
    special = [token["id"] for token in definition["added_tokens"] if token["special"]]
    everything = [_essence(settings), matched, special, list(vocabulary), sorted(roles.items())]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _essence(value: Any) -> Any:
    """JSON without what has no effect on ids: options that are unset, and offsets."""
    if isinstance(value, dict):
        return {key: _essence(item) for key, item in value.items() if item not in (None, "") and key != "trim_offsets"}
    return value


def pre_tokenizers_of(definition: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The pre-tokenizers of a tokenizer.json, those of a sequence one by one."""
    part = definition.get("pre_tokenizer")
    if not isinstance(part, dict):
        return []
    return part.get("pretokenizers", []) if part.get("type") == "Sequence" else [part]


def special_names(directory: Path, vocabulary: Iterable[str]) -> dict[str, str]:
    """The special token of each role: by tokenizer_config.json, else special_tokens_map.json, else by convention."""
    known = set(vocabulary)
    names = {role: next((name for name in given if name in known), None) for role, given in CONVENTIONS.items()}
    if not names["cls"]:
        names["sep"] = None  # where no token begins a text, as in T5, </s> only ends it
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        given = read_json(directory / file)
        for role in ROLES:
            if name := given.get(f"{role}_token"):
                names[role] = name["content"] if isinstance(name, dict) else name
    return {role: name for role, name in names.items() if name}


def starts_spaceless(text: str) -> bool:
    """Whether the text begins in a script that puts no spaces between words."""
    return any(first <= ord(text[0]) <= last for first, last in _SPACELESS) if text else False


def model_type(definition: Mapping[str, Any]) -> str:
    """ "WordPiece", "BPE" or "Unigram"; old files do not say, but differ in what they hold. "" where it is none."""
    model = definition.get("model")
    if not isinstance(model, dict):
        return ""
    guess = "BPE" if "merges" in model else "Unigram" if isinstance(model.get("vocab"), list) else ""
    return model.get("type", guess)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file, {} where there is no such file. Raises InputError for anything else."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not valid JSON ({error}): restore the file or delete it") from None
    if not isinstance(value, dict):
        raise InputError(f"{path} holds no JSON object: restore the file or delete it")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

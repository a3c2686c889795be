"""Tokenizers defined by a tokenizer.json, the file format of the `tokenizers` library, which runs them."""

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

from tx_jax.text import pair_forms
from tx_jax.text.added_words import add_words
from tx_jax.text.alignment import Aligned, align
from tx_jax.text.definition import nameless, pre_tokenizers_of, vocabulary_of, write_json
from tx_jax.text.seen_words import SeenWords, as_lists, rule_of
from tx_jax.text.tokenizer import ROLES, Tokenizer

_PAD = "<|pad|>"  # what `with_pad` adds
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

    The special tokens are those of the `ROLES` and the control pieces of a SentencePiece vocabulary. All other added
    tokens are matched in a text as transformers matches them, including those that transformers calls special: entity
    markers such as "[E1]" are meant to be written into texts.

    The library matches the names of special tokens in a text before anything else, and a Unigram model matches them
    even if they are not registered, since they are pieces of its vocabulary. The engine used for encoding therefore
    gives them names that begin with a space. No text can produce such a name, because the pre-tokenizer replaces every
    space with another character before the model sees it. `save` writes the true names, registered, as transformers
    expects.

    Args:
      definition: the contents of tokenizer.json, in the form that `describe` returns.
      names: the special token of each of the `ROLES` that has one. A name that is not in the vocabulary counts as
        missing.
    """

    tokenizer_class = "PreTrainedTokenizerFast"  # the transformers class that runs a tokenizer.json as it is
    has_control_pieces = False  # whether the vocabulary's own special tokens are control pieces, which no text contains

    def __init__(self, definition: Mapping[str, Any], names: Mapping[str, str]):
        self._vocabulary = vocabulary_of(definition)
        self.vocab_size = len(self._vocabulary)
        ids = {token: index for index, token in enumerate(self._vocabulary)}
        self._names = {role: names[role] for role in ROLES if names.get(role) in ids}
        for role in ROLES:
            setattr(self, f"{role}_id", ids.get(self._names.get(role)))
        if self.unk_id is not None and self.unk_id in (self.bos_id, self.eos_id):
            self.unk_id = None  # GPT-2 names <|endoftext|> as its unknown token, but it can encode any text
        self.bos_id = self.cls_id if self.bos_id is None else self.bos_id
        self.eos_id = self.sep_id if self.eos_id is None else self.eos_id
        self._definition = _register(definition, self._names, ids)
        self._special_ids = tuple(sorted(self._unfindable()))
        self.fingerprint = _fingerprint(self._definition, self._vocabulary, self._role_ids(), self._special_ids)
        self._engine, self._added_ids = _unforgeable(self._definition, self._vocabulary, self._special_ids)
        rule = None if self.added_tokens else rule_of(self._definition)
        self._seen = None if rule is None else SeenWords(rule, self._encode_once)

    def _unfindable(self) -> set[int]:
        """Ids of the tokens whose names are never matched in a text."""
        size = len(self._definition["model"]["vocab"]) if self.has_control_pieces else 0
        of_roles = {self._role_ids()[role] for role in self._names}
        special = {token["id"]: token["content"] for token in self._definition["added_tokens"] if token["special"]}
        return {
            index
            for index, content in special.items()
            if index < size or index in of_roles or content == nameless(index)
        }

    def _role_ids(self) -> dict[str, int | None]:
        return {role: getattr(self, f"{role}_id") for role in ROLES}

    def __reduce__(self):  # pickling, to send a tokenizer to worker processes
        return type(self), (self._definition, self._names), {"pair_form": self.pair_form}

    @property
    def special_ids(self) -> tuple[int, ...]:
        return self._special_ids

    @cached_property
    def pair_separators(self) -> int:
        # Run the post-processor alone: building an engine with the whole vocabulary is slow.
        model = {"type": "WordLevel", "vocab": {"a": self.vocab_size}, "unk_token": "a"}
        rest = {"added_tokens": [], "normalizer": None, "pre_tokenizer": None, "decoder": None}
        engine = Engine.from_str(json.dumps({**self._definition, **rest, "model": model}))
        ids = engine.encode("a", "a").ids
        first, second = (index for index, found in enumerate(ids) if found == self.vocab_size)
        between = ids[first + 1 : second]
        return len(between) if between and set(between) == {self.sep_id} else super().pair_separators

    @cached_property
    def is_continuation(self) -> np.ndarray:
        mask = np.array([not self._begins_word(token) for token in self._vocabulary])
        mask[[token["id"] for token in self._definition["added_tokens"]]] = False
        mask.flags.writeable = False
        return mask

    @abc.abstractmethod
    def _begins_word(self, token: str) -> bool: ...

    @property
    def added_tokens(self) -> list[dict[str, Any]]:
        """The added tokens that are matched in a text, with all their properties from tokenizer.json."""
        return [token for token in self._definition["added_tokens"] if token["id"] not in self._special_ids]

    @cached_property
    def added_texts(self) -> dict[int, str]:
        """The text of each token that was added after training: its word, including the space that belongs to it."""
        return {token["id"]: " " * token["lstrip"] + token["content"] for token in self.added_tokens}

    def _normalize(self, word: str) -> str:
        normalizer = self._engine.normalizer
        return normalizer.normalize_str(word).strip() if normalizer else word

    def _extended(self, words: Sequence[str]) -> Self:
        ids = {word: self.vocab_size + index for index, word in enumerate(words)}
        spaceless, has_words = filter(starts_spaceless, words), bool(self.added_tokens)
        return type(self)(add_words(self._definition, ids, spaceless, has_words=has_words), self._names)

    def _reserved(self, ids: range) -> Self:
        flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        tokens = [{"id": index, "content": nameless(index), **flags} for index in ids]
        definition = {**self._definition, "added_tokens": [*self._definition["added_tokens"], *tokens]}
        return type(self)(definition, self._names)

    def with_pad(self) -> Self:
        others = {getattr(self, f"{role}_id") for role in ROLES if role != "pad"}
        if self.pad_id is not None and self.pad_id not in others:
            return self
        definition = self._definition
        if _PAD not in self._vocabulary:
            pad = {"id": self.vocab_size, "content": _PAD, "single_word": False, "lstrip": False, "rstrip": False}
            added = [*definition["added_tokens"], {**pad, "normalized": False, "special": True}]
            definition = {**definition, "added_tokens": added}
        return type(self)(definition, {**self._names, "pad": _PAD}).with_pair_form(self.pair_form)

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        return self._encode_once(texts) if self._seen is None else as_lists(*self._seen.flat(texts))

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        return super().encode_flat(texts) if self._seen is None else self._seen.flat(texts)

    def _encode_once(self, texts: Sequence[str]) -> list[list[int]]:
        encodings = self._engine.encode_batch_fast(texts, add_special_tokens=False)
        return [self._true_ids(encoding.ids) for encoding in encodings]

    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        return [Aligned(self._true_ids(found.ids), found.spans) for found in align(self._engine, texts)]

    def _true_ids(self, ids: list[int]) -> list[int]:
        """Map the engine's ids to the tokenizer's. They differ where the added tokens do not have the last ids."""
        if not self._added_ids:
            return ids
        size = self._engine.get_vocab_size(with_added_tokens=False)
        return [index if index < size else self._added_ids[index - size] for index in ids]

    def decode(self, ids: Iterable[int]) -> str:
        return self._engine.decode([int(token_id) for token_id in ids], skip_special_tokens=False).removeprefix(" ")

    def _encode_attached(self, text: str) -> list[int]:
        head = _FIRST_WORD.match(text).group()
        begin = self._attached.encode(head, add_special_tokens=False).ids
        return self._true_ids(begin) + self.encode(text[len(head) :])

    @cached_property
    def _attached(self) -> Engine:
        """Like the engine used for encoding, but does not add a space before a text."""
        definition = json.loads(self._engine.to_str())
        changes = {"ByteLevel": {"add_prefix_space": False}, "Metaspace": {"prepend_scheme": "never"}}
        for part in pre_tokenizers_of(definition):
            part.update(changes.get(part["type"], {}))
        return Engine.from_str(json.dumps(definition))

    def save(self, directory: str | Path) -> None:
        """Write tokenizer.json and two small files from which transformers' AutoTokenizer builds the same tokenizer."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / "tokenizer.json", self._definition)
        write_json(directory / "special_tokens_map.json", {f"{role}_token": name for role, name in self._names.items()})
        write_json(directory / "tokenizer_config.json", self._config())
        pair_forms.save(self.pair_form, directory)

    def _config(self) -> dict[str, Any]:
        """The contents of tokenizer_config.json.

        It records which tokens absorb the space before them (lstrip), for classes that rebuild their engine.
        """
        added = {token["content"]: token for token in self._definition["added_tokens"]}
        properties = ("content", "lstrip", "normalized", "rstrip", "single_word", "special")
        names = {
            f"{role}_token": {"__type": "AddedToken", **{key: added[name][key] for key in properties}}
            if added[name]["lstrip"]
            else name
            for role, name in self._names.items()
        }
        return {"tokenizer_class": self.tokenizer_class, **names}


def _register(definition: dict[str, Any], names: Mapping[str, str], ids: Mapping[str, int]) -> dict[str, Any]:
    """The definition with the named tokens registered as special, and without truncation and padding."""
    added = {token["id"]: token for token in definition["added_tokens"]}
    for role, name in names.items():
        fresh = {"content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
        # The space before a mask is part of the masked word.
        fresh["lstrip"] = role == "mask"
        added[ids[name]] = {"id": ids[name], **added.get(ids[name], fresh), "special": True}
    return {**definition, "added_tokens": [added[i] for i in sorted(added)], "truncation": None, "padding": None}


def _unforgeable(
    definition: dict[str, Any], vocabulary: Sequence[str], special_ids: Sequence[int]
) -> tuple[Engine, tuple[int, ...]]:
    """Build the engine used for encoding. Its model contains every id; special tokens get names that no text contains.

    Words that were added after training stay outside the model: inside it they would be pieces, and would be matched
    inside other words. The library numbers them after the model's tokens, whatever the file says.

    Returns:
      The engine, and the true ids of the tokens that it numbers from its model's size on. The ids are empty if the
      engine's numbers are already the true ids.
    """
    findable = [token for token in definition["added_tokens"] if token["id"] not in special_ids]
    model = dict(definition["model"])
    entries = model["vocab"]
    pieces = {piece for piece, _ in entries} if model["type"] == "Unigram" else entries.keys()
    outside = [token["id"] for token in findable if token["content"] not in pieces]
    size = len(vocabulary)
    while size - 1 in outside:
        size -= 1
    hidden = {vocabulary[index]: " " + vocabulary[index] for index in {*special_ids, *outside} if index < size}
    names = [hidden.get(token, token) for token in vocabulary[:size]]
    if model["type"] == "Unigram":
        scores = [score for _, score in entries] + [0.0] * (size - len(entries))
        model["vocab"] = [list(entry) for entry in zip(names, scores, strict=True)]
    else:
        model["vocab"] = {name: index for index, name in enumerate(names)}
        model["unk_token"] = hidden.get(model["unk_token"], model["unk_token"])
    if model["type"] == "BPE":
        model["merges"] = [
            pair for pair in model["merges"] if not hidden.keys() & {pair[0], pair[1], pair[0] + pair[1]}
        ]
    engine = Engine.from_str(
        json.dumps({**definition, "model": model, "added_tokens": findable, "post_processor": None})
    )
    return engine, () if outside == list(range(size, len(vocabulary))) else tuple(outside)


def _fingerprint(
    definition: Mapping[str, Any],
    vocabulary: Sequence[str],
    roles: Mapping[str, int | None],
    special_ids: Sequence[int],
) -> str:
    """sha256 of everything that determines the ids; the same whether transformers or tx_jax wrote the file."""
    settings = {key: definition[key] for key in ("model", "normalizer", "pre_tokenizer")}
    if definition["model"]["type"] == "Unigram":
        # The library's JSON parser can be off in the last digit: compare in float32, as SentencePiece stores scores.
        scores = [float(np.float32(score)) for _, score in definition["model"]["vocab"]]
        settings["model"] = {**definition["model"], "vocab": scores}
    matched = [token for token in definition["added_tokens"] if token["id"] not in special_ids]
    special = [token["id"] for token in definition["added_tokens"] if token["special"]]
    everything = [_essence(settings), matched, special, list(vocabulary), sorted(roles.items())]
    return hashlib.sha256(json.dumps(everything, sort_keys=True).encode()).hexdigest()


def _essence(value: Any) -> Any:
    """The JSON without the parts that do not affect ids: unset options and offset settings."""
    if isinstance(value, dict):
        return {key: _essence(item) for key, item in value.items() if item not in (None, "") and key != "trim_offsets"}
    return value


def starts_spaceless(text: str) -> bool:
    """Whether the first character belongs to a script written without spaces between words."""
    return any(first <= ord(text[0]) <= last for first, last in _SPACELESS) if text else False

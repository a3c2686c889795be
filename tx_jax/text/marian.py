"""The tokenizer of Marian's translation models: a SentencePiece model for each side, and a vocabulary of both.

The vocabulary numbers the pieces; those that it lacks are unknown. A source may begin with the code of the target's
language, such as ">>fra<<".
"""

import hashlib
import json
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
import sentencepiece
from sentencepiece import sentencepiece_pb2

from tx_jax.errors import InputError, InputWarning
from tx_jax.text import pair_forms
from tx_jax.text.alignment import Aligned
from tx_jax.text.definition import write_json
from tx_jax.text.spm import SPACE
from tx_jax.text.tokenizer import ROLES, Tokenizer

VOCABULARY, MODELS = "vocab.json", {"source": "source.spm", "target": "target.spm"}
NAMES = {"pad": "<pad>", "unk": "<unk>", "eos": "</s>"}
_CODE = re.compile(r">>.*?<<")


class Marian(Tokenizer):
    """Encodes sources; `for_targets` encodes targets with the other SentencePiece model. Both decode alike.

    Args:
      vocabulary: the tokens in id order.
      models: the contents of the two SentencePiece files, by side.
      names: the special token of each role that has one.
      settings: other keys of tokenizer_config.json, which are kept.
      side: whose texts are encoded.

    Raises InputError for a file that is not a SentencePiece model, or a vocabulary without an unknown token.
    """

    def __init__(
        self,
        vocabulary: Sequence[str],
        models: Mapping[str, bytes],
        names: Mapping[str, str] = NAMES,
        settings: Mapping[str, Any] | None = None,
        side: str = "source",
    ):
        self._vocabulary, self._models, self._side = tuple(vocabulary), dict(models), side
        self._ids = {token: index for index, token in enumerate(self._vocabulary)}
        self._settings = dict(settings or {})
        self._names = {role: name for role, name in names.items() if name in self._ids}
        for role in ROLES:
            setattr(self, f"{role}_id", self._ids.get(self._names.get(role)))
        if self.unk_id is None:
            raise InputError(f"the vocabulary lacks {names.get('unk', NAMES['unk'])}, the token of unknown pieces")
        self.vocab_size = len(self._vocabulary)
        self._processors = {side: _processor(model, MODELS[side]) for side, model in self._models.items()}
        digests = [hashlib.sha256(self._models[side]).hexdigest() for side in MODELS]
        everything = ["marian", self._vocabulary, sorted(self._names.items()), digests]
        self.fingerprint = hashlib.sha256(json.dumps(everything).encode()).hexdigest()

    def __reduce__(self):  # pickling, to send a tokenizer to worker processes
        arguments = self._vocabulary, self._models, self._names, self._settings, self._side
        return type(self), arguments, {"pair_form": self.pair_form}

    @cached_property
    def for_targets(self) -> "Marian":
        of_targets = Marian(self._vocabulary, self._models, self._names, self._settings, side="target")
        return of_targets.with_pair_form(self.pair_form)

    @cached_property
    def is_continuation(self) -> np.ndarray:
        mask = np.array([not token.startswith(SPACE) for token in self._vocabulary])
        mask[[*self.special_ids, *self._codes.values()]] = False
        mask.flags.writeable = False
        return mask

    @cached_property
    def _codes(self) -> dict[str, int]:
        return {f">>{code}<<": index for code, index in pair_forms.codes_of(self, "marian").items()}

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """Raises InputError for a code that the vocabulary lacks. Warns with InputWarning about a source without a code
        if the vocabulary has several, and no target language is chosen."""
        codes, rests = zip(*map(self._split, texts), strict=True) if texts else ((), ())
        pieces = self._processors[self._side].encode(list(rests), out_type=str)
        return [
            [*code, *(self._ids.get(piece, self.unk_id) for piece in found)]
            for code, found in zip(codes, pieces, strict=True)
        ]

    def _split(self, text: str) -> tuple[list[int], str]:
        """The language code that a source begins with, if any, and what follows it."""
        if self._side == "target":
            return [], text
        chosen = self.pair_form.target_language
        found = _CODE.match(text)
        if not found:
            if len(self._codes) > 1 and not chosen:
                warnings.warn(
                    f"the model translates into several languages ({', '.join(sorted(self._codes)[:4])}, ...), and a "
                    "text names none: begin it with one of these codes, or give --target_language",
                    InputWarning,
                    stacklevel=4,
                )
            return [], text
        code = found[0]
        if code not in self._codes:
            known = ", ".join(sorted(self._codes)[:8]) or "none"
            raise InputError(
                f"{text[:40]!r} begins with the language code {code}, which the model lacks: it has {known}"
            )
        if chosen:
            raise InputError(
                f"{text[:40]!r} begins with {code}, but --target_language={chosen} is given: leave one out"
            )
        return [self._codes[code]], text[found.end() :]

    def encode_aligned(self, texts: Sequence[str]) -> list[Aligned]:
        aligned = []
        for text in texts:
            code, rest = self._split(text)
            found = sentencepiece_pb2.SentencePieceText()
            found.ParseFromString(self._processors[self._side].encode(rest, out_type="serialized_proto"))
            encoded, skipped = rest.encode(), len(text) - len(rest)
            spans = [(0, skipped)] * len(code)
            for piece in found.pieces:  # it counts in bytes
                begin, end = (skipped + len(encoded[:at].decode()) for at in (piece.begin, piece.end))
                spans.append(_stripped(text, begin, end))
            ids = [*code, *(self._ids.get(piece.piece, self.unk_id) for piece in found.pieces)]
            aligned.append(Aligned(ids, np.array(spans, np.int32).reshape(-1, 2)))
        return aligned

    def decode(self, ids: Iterable[int]) -> str:
        special, parts, pieces = set(self.special_ids), [], []
        for index in map(int, ids):
            if index in special:
                parts += [self._processors["source"].decode_pieces(pieces), self.token(index), " "]
                pieces = []
            else:
                pieces.append(self.token(index))
        parts.append(self._processors["source"].decode_pieces(pieces))
        return "".join(parts).replace(SPACE, " ").strip()

    def save(self, directory: str | Path) -> None:
        """Write the files of transformers' MarianTokenizer."""
        directory = Path(directory)
        directory.mkdir(parents=True, exist_ok=True)
        write_json(directory / VOCABULARY, self._ids)
        for side, name in MODELS.items():
            (directory / name).write_bytes(self._models[side])
        names = {f"{role}_token": name for role, name in self._names.items()}
        write_json(directory / "special_tokens_map.json", names)
        config = {**self._settings, "tokenizer_class": "MarianTokenizer", "separate_vocabs": False, **names}
        write_json(directory / "tokenizer_config.json", config)
        pair_forms.save(self.pair_form, directory)

    def with_pad(self) -> Self:
        self.require("pad")
        return self

    def _normalize(self, word: str) -> str:
        return word

    def _extended(self, words: Sequence[str]) -> Self:
        raise InputError(
            f"{words[0]!r} cannot become a token: the pieces of a Marian tokenizer are those of its two SentencePiece "
            "models"
        )

    def _reserved(self, ids: range) -> Self:
        raise InputError("a Marian tokenizer takes no further tokens: its pieces are those of its SentencePiece models")


def _stripped(text: str, begin: int, end: int) -> tuple[int, int]:
    """The span without white space around it."""
    while begin < end and text[begin].isspace():
        begin += 1
    while begin < end and text[end - 1].isspace():
        end -= 1
    return begin, end


def _processor(model: bytes, name: str) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=model)
    except RuntimeError as error:
        raise InputError(f"{name} is not a SentencePiece model ({error}): copy the file again") from None

"""WordPiece as a tokenizer.json defines it: with words added after training, or with text processing unlike BERT's."""

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, Self

from tokenizers import Tokenizer as Engine

from tx_jax.errors import InputError
from tx_jax.text import definition as definitions
from tx_jax.text.engine import EngineTokenizer, starts_spaceless


class DescribedWordPiece(EngineTokenizer):
    """A WordPiece vocabulary with the normalizer, pre-tokenizer and added tokens of its tokenizer.json.

    Words added by `with_tokens` are matched only as whole words, never as pieces of other words.

    Args:
      definition: the contents of a tokenizer.json whose model is WordPiece.
      names: the special token of each role; see `EngineTokenizer`.

    Raises InputError if there is no pre-tokenizer or no token for unknown words.
    """

    def __init__(self, definition: Mapping[str, Any], names: Mapping[str, str]):
        if definition["pre_tokenizer"] is None:
            raise InputError(
                "its tokenizer.json has no pre-tokenizer, so a whole text would be one word: not supported"
            )
        unknown = definition["model"]["unk_token"]
        if unknown not in definition["model"]["vocab"]:
            raise InputError(f"the WordPiece vocabulary lacks {unknown}, the token for unknown words")
        self._prefix = definition["model"]["continuing_subword_prefix"]
        super().__init__(definition, names)
        self.require("pad", "unk", "cls", "sep", "mask")

    def _begins_word(self, token: str) -> bool:
        return not token.startswith(self._prefix) or token == self._prefix

    @cached_property
    def added_texts(self) -> dict[int, str]:
        return {token["id"]: f" {token['content']}" for token in self.added_tokens}

    @cached_property
    def _readable(self) -> Engine:
        """The engine exactly as the file defines it, with the true names of the special tokens."""
        return definitions.read(self._definition)[0]

    def decode(self, ids: Iterable[int]) -> str:
        return self._readable.decode([int(token_id) for token_id in ids], skip_special_tokens=False)

    def _extended(self, words: Sequence[str]) -> Self:
        added = [
            {
                "id": self.vocab_size + index,
                "content": word,
                "single_word": not starts_spaceless(word),
                "lstrip": False,
                "rstrip": False,
                "normalized": True,
                "special": False,
            }
            for index, word in enumerate(words)
        ]
        tokens = [*self._definition["added_tokens"], *added]
        return type(self)({**self._definition, "added_tokens": tokens}, self._names)

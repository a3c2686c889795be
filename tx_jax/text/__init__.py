"""Tokenizers: train one from documents, or load one from its folder.

A kind of tokenizer is one module here and one entry in each of the two functions below.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tx_jax.errors import InputError, did_you_mean
from tx_jax.text import wordpiece
from tx_jax.text.tokenizer import Tokenizer

__all__ = ["KINDS", "Tokenizer", "load", "train"]

KINDS = ("wordpiece",)


def train(
    kind: str,
    documents: Iterable[str],
    *,
    vocab_size: int,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tokenizer:
    """Learn a tokenizer of one of `KINDS` from documents. For the options see `wordpiece.train`, which has more.

    Raises InputError for an unknown kind, for options that make no sense and for documents without any text.
    """
    if kind == "wordpiece":
        return wordpiece.train(
            documents, vocab_size=vocab_size, lowercase=lowercase, strip_accents=strip_accents, progress=progress
        )
    raise InputError(f"unknown kind of tokenizer {kind!r}: expected one of {KINDS}.{did_you_mean(kind, KINDS)}")


def load(directory: str | Path) -> Tokenizer:
    """Load a tokenizer from the folder that `Tokenizer.save` or `save_pretrained` of transformers wrote.

    What is in the folder decides the kind: vocab.txt, or a tokenizer.json whose model is WordPiece.
    Raises InputError where the folder is missing or holds no tokenizer that tx_jax can run.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"no tokenizer folder at {directory}: give a folder that holds vocab.txt or tokenizer.json")
    if wordpiece.recognises(directory):
        return wordpiece.load(directory)
    found = ", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing"
    raise InputError(
        f"no WordPiece tokenizer in {directory} (found: {found}): it needs vocab.txt, or a tokenizer.json whose model "
        "type is WordPiece"
    )

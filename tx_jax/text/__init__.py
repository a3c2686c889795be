"""Tokenizers: train one from documents, or load one from its folder.

Each kind of tokenizer has two modules here, one of which loads it from a folder, and an entry in each of `train` and
`load`.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from tx_jax.errors import InputError, did_you_mean
from tx_jax.files import local_folder, path_of
from tx_jax.text import bpe, bpe_files, marian_files, pair_form_files, spm, spm_files, wordpiece, wordpiece_files
from tx_jax.text.definition import read_json
from tx_jax.text.tokenizer import Tokenizer

__all__ = ["BYTE_LEVEL", "KINDS", "Tokenizer", "load", "train"]

# wordpiece: BERT's. byte_bpe, gpt2_bpe: byte-level BPE with the special tokens of RoBERTa and GPT-2, respectively.
# unigram, sentencepiece_bpe: SentencePiece with XLM-R's id layout; t5_unigram: with T5's.
BYTE_LEVEL = ("byte_bpe", "gpt2_bpe")
KINDS = ("wordpiece", "byte_bpe", "gpt2_bpe", "unigram", "sentencepiece_bpe", "t5_unigram")


def train(
    kind: str,
    documents: Iterable[str],
    *,
    vocab_size: int,
    lowercase: bool | None = None,
    strip_accents: bool | None = None,
    progress: Callable[[int], None] | None = None,
) -> Tokenizer:
    """Learn a tokenizer of one of `KINDS` from documents.

    Args:
      kind: one of `KINDS`. For the algorithms and more options see `train` in `wordpiece`, `bpe` and `spm`.
      documents: read once, as a stream.
      vocab_size: target size; a small corpus may give fewer tokens.
      lowercase: fold case; None means the usual choice for the kind: True for WordPiece, False for others.
      strip_accents: remove accents; None follows `lowercase` for WordPiece and means False for others.
      progress: called with the number of characters read so far.

    Raises InputError for an unknown kind, options that do not apply to it (see `check`), or documents without text.
    """
    check(kind, lowercase=lowercase, strip_accents=strip_accents)
    options = {"vocab_size": vocab_size, "progress": progress}
    if kind == "wordpiece":
        lowercase = True if lowercase is None else lowercase
        return wordpiece.train(documents, lowercase=lowercase, strip_accents=strip_accents, **options)
    if kind in BYTE_LEVEL:
        return bpe.train(documents, family="gpt2" if kind == "gpt2_bpe" else "roberta", **options)
    algorithm = "bpe" if kind == "sentencepiece_bpe" else "unigram"
    layout = "t5" if kind == "t5_unigram" else "xlm_roberta"
    return spm.train(documents, algorithm=algorithm, layout=layout, lowercase=bool(lowercase), **options)


def check(kind: str, *, lowercase: bool | None = None, strip_accents: bool | None = None) -> None:
    """Raise InputError for an unknown kind, or for an option that this kind of tokenizer does not have."""
    if kind not in KINDS:
        raise InputError(f"unknown kind of tokenizer {kind!r}: expected one of {KINDS}.{did_you_mean(kind, KINDS)}")
    if lowercase and kind in BYTE_LEVEL:
        raise InputError(f"lowercase has no meaning for {kind}, which keeps every byte of the text: drop it")
    if strip_accents and kind != "wordpiece":
        raise InputError(f"strip_accents has no meaning for {kind}, which keeps accents: drop it, or train a wordpiece")


def load(directory: str | Path, *, requires: Iterable[str] = ()) -> Tokenizer:
    """Load a tokenizer from a folder written by `Tokenizer.save` or by transformers' `save_pretrained`.

    The folder's files determine the kind: vocab.txt; tokenizer.json, by its model; vocab.json with merges.txt; a
    SentencePiece model file; or vocab.json with source.spm and target.spm.

    Args:
      directory: the folder.
      requires: roles of special tokens that the tokenizer must have, see `Tokenizer.require`.

    Raises InputError if the folder is missing or contains no tokenizer that tx_jax can run, or if the tokenizer lacks a
    required token.
    """
    directory = path_of(directory, "tokenizer")
    if not directory.is_dir():
        raise InputError(f"no tokenizer folder at {directory}: give a folder that holds vocab.txt or tokenizer.json")
    directory = local_folder(directory)
    definition = read_json(directory / "tokenizer.json")
    for kind in (wordpiece_files, marian_files, bpe_files, spm_files):
        if kind.recognises(directory, definition):
            tokenizer = _load(kind, directory, definition)
            tokenizer = tokenizer.with_pair_form(pair_form_files.read(directory, tokenizer))
            tokenizer.require(*requires, source=directory)
            return tokenizer
    found = ", ".join(sorted(path.name for path in directory.iterdir())[:8]) or "nothing"
    raise InputError(
        f"no tokenizer that tx_jax can run in {directory} (found: {found}): it needs vocab.txt (WordPiece), vocab.json "
        f"and merges.txt (byte-level BPE), one of {', '.join(spm_files.FILES)}, or a tokenizer.json with such a model"
    )


def _load(kind, directory: Path, definition: dict) -> Tokenizer:
    """Call the `load` of a kind; errors name the folder."""
    try:
        return kind.load(directory, definition)
    except InputError as error:
        if str(directory) in str(error):
            raise
        raise InputError(f"{directory}: {error}") from None

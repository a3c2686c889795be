"""Lists of words given on the command line, directly or as files."""

import os
from collections.abc import Sequence

from tx_jax.errors import InputError
from tx_jax.files import is_local, path_of


def read_words(given: str) -> tuple[str, ...]:
    """Comma-separated words, or the lines of a file. Raises InputError for a word that is given twice."""
    words = tuple(_items(given, ","))
    twice = sorted({word for word in words if words.count(word) > 1})
    if twice:
        raise InputError(f"{given}: {', '.join(twice)} given twice")
    return words


def read_similar(given: str) -> dict[str, tuple[str, ...]]:
    """The similar words of each word, from "covid=virus,pandemic;variant=strain" or the lines of a file.

    Raises:
      InputError: an entry is not of this form, or a word has two entries.
    """
    similar = {}
    for entry in _items(given, ";"):
        word, equals, others = entry.partition("=")
        others = tuple(filter(None, map(str.strip, others.split(","))))
        if not (equals and others):
            raise InputError(f"similar words: {entry!r} is not of the form word=similar,similar")
        if word.strip() in similar:
            raise InputError(f"similar words: {word.strip()} given twice")
        similar[word.strip()] = others
    return similar


def _items(given: str, separator: str) -> list[str]:
    """The lines of a file, or the parts between the separators of anything else."""
    # Path.is_file raises if a list of words is too long for a file name.
    if (path := path_of(given, "words", reads=True)) and (os.path.isfile(given) if is_local(path) else path.is_file()):
        try:
            parts = path.read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(
                f"{given} is not UTF-8: convert it, such as by iconv -f windows-1252 -t utf-8 {given}"
            ) from None
    else:
        parts = given.split(separator)
    return [part.strip() for part in parts if part.strip()]


_SIMILAR = "--config.similar"


def one_argument_each(argv: Sequence[str]) -> list[str]:
    """The command line with every flag and its value in one argument, and with all --config.similar.WORD=A,B and
    --config.similar=... gathered into one --config.similar=WORD=A,B;..."""
    argv = list(argv)
    for i in reversed(range(len(argv) - 1)):
        if argv[i].startswith("--") and "=" not in argv[i] and not argv[i + 1].startswith("--"):
            argv[i : i + 2] = [f"{argv[i]}={argv[i + 1]}"]
    beginnings = (f"{_SIMILAR}.", f"{_SIMILAR}=")
    entries = [argument[len(_SIMILAR) + 1 :] for argument in argv if argument.startswith(beginnings)]
    others = [argument for argument in argv if not argument.startswith(beginnings)]
    return [*others, f"{_SIMILAR}={';'.join(entries)}"] if entries else others

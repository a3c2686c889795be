"""Further pretraining: what a configuration says beside the training itself."""

import dataclasses
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tx_jax.config.checks import require
from tx_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class FurtherConfig:
    """How a model is adapted to a domain, by `experiments/further_pretrain.py`.

    Attributes:
      source: the text of the domain, as `experiments.prepare --source` takes it.
      new_tokens: words with commas between them, or a file with one a line; empty: none.
      similar: "covid=virus,pandemic;variant=strain", or a file with such entries, one a line: what each begins as.
      validation_fraction: of the documents, held out.
      occurrences: of each new word in held-out text, at most, that the report looks at.
      downstream: a fine-tuning of the model before and after, to compare what both reach: a configuration, and what
        else experiments.train takes; empty: none.
    """

    source: str
    new_tokens: str = ""
    similar: str = ""
    validation_fraction: float = 0.05
    occurrences: int = 100
    downstream: str = ""

    def __post_init__(self):
        require(bool(self.source), "source is empty: give the text of your domain, --config.source='texts/*.txt'")
        fraction = self.validation_fraction
        require(0 < fraction < 1, f"validation_fraction={fraction} must be between 0 and 1")
        require(self.occurrences >= 1, f"occurrences={self.occurrences} must be at least 1")
        _ = self.fine_tuning

    @property
    def words(self) -> tuple[str, ...]:
        """The new tokens; errors as of `read_words`."""
        return read_words(self.new_tokens)

    @property
    def fine_tuning(self) -> tuple[str, ...]:
        """The arguments of experiments.train for `downstream`, with three seeds where it names none."""
        try:
            config, *others = shlex.split(self.downstream) or [""]
        except ValueError as error:
            raise InputError(f"downstream={self.downstream}: {error}") from None
        named = not config.startswith("-") and all(other.startswith("--") for other in others)
        require(
            named,
            f"downstream={self.downstream}: give a configuration, then --config.KEY=VALUE or --seeds, such as "
            "--config.downstream='configs/classification.py --config.data.train=texts.csv'",
        )
        return (f"--config={config}", "--seeds=0,1,2", *others) if config else ()


FURTHER_KEYS = tuple(field.name for field in dataclasses.fields(FurtherConfig))


def experiment_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without that part, if it has it: an `ExperimentConfig`."""
    return {key: value for key, value in values.items() if key not in FURTHER_KEYS}


def further_config(values: Mapping[str, Any]) -> FurtherConfig:
    """That part of a configuration; the rest is an `ExperimentConfig`.

    Raises:
      InputError: there is no such part, or its values cannot be used.
    """
    if "source" not in values:
        raise InputError("a configuration of further pretraining has a source: see configs/further_pretrain.py")
    return FurtherConfig(**{key: values[key] for key in FURTHER_KEYS if key in values})


def read_words(given: str) -> tuple[str, ...]:
    """Words with commas between them, or the lines of a file. Raises InputError for one that is given twice."""
    words = tuple(_items(given, ","))
    twice = sorted({word for word in words if words.count(word) > 1})
    require(not twice, f"{given}: {', '.join(twice)} twice")
    return words


def read_similar(given: str) -> dict[str, tuple[str, ...]]:
    """For each word its similar ones, from "covid=virus,pandemic;variant=strain" or the lines of a file.

    Raises:
      InputError: an entry that is not of this form, or a word that has two.
    """
    similar = {}
    for entry in _items(given, ";"):
        word, equals, others = entry.partition("=")
        others = tuple(filter(None, map(str.strip, others.split(","))))
        require(bool(equals and others), f"similar words: {entry!r} is not of the form word=similar,similar")
        require(word.strip() not in similar, f"similar words: {word.strip()} twice")
        similar[word.strip()] = others
    return similar


def _items(given: str, separator: str) -> list[str]:
    """Of a file, the lines; of anything else, what stands between the separators."""
    if os.path.isfile(given):  # Path.is_file raises where a list of words is too long for a name
        try:
            parts = Path(given).read_text(encoding="utf-8-sig").splitlines()
        except UnicodeDecodeError:
            raise InputError(f"{given} is not UTF-8: convert it, iconv -f windows-1252 -t utf-8 {given}") from None
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

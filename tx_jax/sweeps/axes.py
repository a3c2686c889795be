"""The axes of a sweep, as given on a command line: `--sweep.KEY=1e-5,3e-5`, `--sweep.KEY=log(1e-5,1e-3)`."""

import dataclasses
import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from tx_jax.errors import InputError

PREFIX = "--sweep."
DIGITS = 4  # significant digits of a drawn number, so that its text in names and commands is the number
_RANGE = re.compile(r"(uniform|log|int)\(([^,()]+),([^,()]+)\)")
_LOOKS_LIKE_A_RANGE = re.compile(r"\w+\(.*\)")
_CLOSING = {"(": ")", "[": "]", "{": "}"}


@dataclasses.dataclass(frozen=True)
class Axis:
    """Values of a key of the configuration, as texts that a command line takes."""

    key: str
    values: tuple[str, ...]

    def draw(self, rng: np.random.Generator) -> str:
        return self.values[rng.integers(len(self.values))]


@dataclasses.dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`: even, even in their logarithm, or whole ones, both ends included."""

    key: str
    kind: Literal["uniform", "log", "int"]
    low: float
    high: float

    def draw(self, rng: np.random.Generator) -> str:
        if self.kind == "int":
            return str(rng.integers(int(self.low), int(self.high), endpoint=True))
        if self.kind == "log":
            return self.text(math.exp(rng.uniform(math.log(self.low), math.log(self.high))))
        return self.text(rng.uniform(self.low, self.high))

    def text(self, value: float) -> str:
        """A number of the range as on a command line, rounded to `DIGITS`."""
        if self.kind == "int":
            return str(int(value))
        rounded = float(f"{value:.{DIGITS}g}")
        return f"{rounded:g}" if self.low <= rounded <= self.high else repr(value)

    def __str__(self) -> str:
        return f"{self.kind}({self.low:g},{self.high:g})"


def parse(arguments: Iterable[str]) -> list[Axis | Range]:
    """The axes in arguments of the form --sweep.KEY=VALUE,VALUE, in the order in which their keys come first. A key
    that is given again has these values too.

    Raises:
      InputError: an argument without a value, an axis without values, an empty value that is not written as '', a
        range together with other values, or bounds that make no range.
    """
    given: dict[str, list[str]] = {}
    for argument in arguments:
        key, equals, text = argument.removeprefix(PREFIX).partition("=")
        if not equals or not key:
            raise InputError(f"{argument}: give values, such as {PREFIX}seed=0,1,2")
        if not text.strip():
            raise InputError(f"{argument}: the axis is empty; give values, such as {PREFIX}{key}=A,B")
        given.setdefault(key, []).extend(split(text, argument))
    return [_axis(key, texts) for key, texts in given.items()]


def _axis(key: str, texts: Sequence[str]) -> Axis | Range:
    ranges = [found for text in texts if (found := _RANGE.fullmatch(text.replace(" ", "")))]
    if not ranges:
        for text in texts:
            if _LOOKS_LIKE_A_RANGE.fullmatch(text):
                raise InputError(f"{PREFIX}{key}={text}: the ranges are uniform(a,b), log(a,b) and int(a,b)")
        return Axis(key, tuple(_unquoted(text) for text in texts))
    if len(texts) > 1:
        raise InputError(f"{PREFIX}{key}: a range, {ranges[0][0]}, cannot be mixed with other values: give one range")
    kind, *bounds = ranges[0].groups()
    try:
        low, high = (int(bound) if kind == "int" else float(bound) for bound in bounds)
    except ValueError:
        what = "whole numbers" if kind == "int" else "numbers"
        raise InputError(f"{PREFIX}{key}={texts[0]}: the bounds must be {what}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high) or (kind == "log" and low <= 0):
        needs = "0 < a < b" if kind == "log" else "a < b"
        raise InputError(f"{PREFIX}{key}={texts[0]}: {kind}(a,b) needs {needs}")
    return Range(key, kind, low, high)


def split(text: str, where: str) -> list[str]:
    """The parts between commas, except commas inside brackets or quotes.

    Raises:
      InputError: a bracket or quote is not closed, or a part is empty and not written as ''.
    """
    parts, part, expected, quote = [], "", [], ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
        elif character == "," and not expected:
            parts.append(part.strip())
            part = ""
            continue
        part += character
    if quote or expected:
        raise InputError(f"{where}: {quote or expected[-1]} is missing")
    parts.append(part.strip())
    if "" in parts:
        raise InputError(f"{where}: a value is empty; if that is meant, write ''")
    return parts


def _unquoted(text: str) -> str:
    """Without the quotes around the whole of it, which only keep its commas together."""
    whole = len(text) > 1 and text[0] == text[-1] and text[0] in "'\"" and text[0] not in text[1:-1]
    return text[1:-1] if whole else text

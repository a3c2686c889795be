"""Helpers that make every check of a configuration one line, with the value in the message."""

import re
from collections.abc import Iterable

from tx_jax.errors import InputError


def require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def require_patterns(name: str, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{name}: {pattern!r} is not a regular expression: {error}") from None

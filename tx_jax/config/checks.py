"""One line for every check of a configuration, with the value in the message."""

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
            raise InputError(f"{name}: {pattern!r} is no regular expression: {error}") from None

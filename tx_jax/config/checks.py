"""Helpers that make every check of a configuration one line, with the value in the message."""

import re
from collections.abc import Iterable
from numbers import Integral
from typing import Any

from tx_jax.errors import InputError


def require(condition: bool, message: str) -> None:
    if not condition:
        raise InputError(message)


def is_whole(value: Any, least: int | None = None) -> bool:
    """Whether it is a whole number, Python's or numpy's, and at least so large. True and False are none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and (least is None or value >= least)


def require_patterns(name: str, patterns: Iterable[str]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{name}: {pattern!r} is not a regular expression: {error}") from None

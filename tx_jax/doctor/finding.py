"""What an examination finds, and how examinations are run."""

import dataclasses
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Literal

from tx_jax.errors import InputError, InputWarning

Level = Literal["ok", "warning", "error"]
LEVELS: tuple[Level, ...] = ("ok", "warning", "error")  # by how much they matter


@dataclasses.dataclass(frozen=True)
class Finding:
    """
    Attributes:
      subject: what was looked at, a word or two.
      level: "ok"; "warning" = a training runs, but not as well as it could; "error" = it cannot.
      says: what was found, one sentence or part of one.
      remedy: what to do about it; "" where nothing is to be done.
    """

    subject: str
    level: Level
    says: str
    remedy: str = ""


Check = Callable[[], Iterator[Finding]]


def examine(checks: Iterable[tuple[str, Check]]) -> Iterator[Finding]:
    """The findings of all checks, each with its subject.

    What a check warns of is a finding too, and so is an InputError or OSError: the next one runs all the same.
    """
    for subject, check in checks:
        found: list[Finding] = []
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            try:
                found.extend(check())
            except (InputError, OSError) as error:
                found.append(Finding(subject, "error", str(error)))
        told = dict.fromkeys(str(each.message) for each in warned if issubclass(each.category, InputWarning))
        yield from (Finding(subject, "warning", message) for message in told)
        yield from found


def exit_code(findings: Iterable[Finding]) -> int:
    """0 if all is well, 1 with warnings, 2 with errors."""
    return max((LEVELS.index(finding.level) for finding in findings), default=0)

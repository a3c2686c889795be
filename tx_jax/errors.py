"""The one error that a user can mend: bad input, a bad configuration, a missing file."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """What the user gave cannot be used. The message says what is wrong, where, and what to do.

    Entry points print it in one line and exit with code 2; every other exception is a bug and keeps its traceback.
    """


class InputWarning(UserWarning):
    """What the user gave can be used, but not as it seems. Entry points print it in one line."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest of the known names, or "" where none is near."""
    near = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {near[0]!r}?" if near else ""

"""The lines of a file of examples, without their ends."""

from collections.abc import Iterator
from pathlib import Path

from tx_jax.data import reading


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of every line, of all files in a zip.

    Raises:
      InputError: it is not UTF-8, or damaged.
    """
    for file in reading.files_in(path):
        for number, text in reading.lines(file):
            yield number, text.rstrip("\r\n")

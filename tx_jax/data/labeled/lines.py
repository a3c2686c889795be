"""The lines of a file of examples, without line endings."""

from collections.abc import Iterator

from tx_jax.data import reading


def lines(file: reading.InputFile) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of every line.

    Raises:
      InputError: it is not UTF-8, or damaged.
    """
    for number, text in reading.lines(file):
        yield number, text.rstrip("\r\n")

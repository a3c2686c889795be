"""The lines of a file of examples, without line endings."""

from collections.abc import Iterator

from tx_jax.data import reading


def lines(file: reading.InputFile) -> Iterator[tuple[int, str]]:
    """Each line: (its number from 1, its text without the line ending).

    Raises:
      InputError: the file is not UTF-8, or is damaged.
    """
    for number, text in reading.lines(file):
        yield number, text.rstrip("\r\n")

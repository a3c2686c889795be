"""The lines of a text file, plain or gzipped."""

import codecs
import gzip
from collections.abc import Iterator
from pathlib import Path

from tx_jax.data.sources import guarded
from tx_jax.errors import InputError


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """(number from 1, text without its end) of every line.

    Raises:
      InputError: it is not UTF-8, or damaged.
    """
    with path.open("rb") as raw, gzip.open(raw) if path.suffix == ".gz" else raw as stream:
        for number, data in enumerate(guarded(stream, path), start=1):
            if number == 1 and data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
                raise InputError(f"{path} is in UTF-16, not UTF-8: save it as UTF-8, or convert it with iconv")
            try:
                text = data.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, line {number}: not valid UTF-8 ({error.object[error.start]:#x} at byte {error.start}); "
                    f"save it as UTF-8, or convert it: iconv -f windows-1252 -t utf-8 {path.name}"
                ) from None
            yield number, text.rstrip("\r\n")

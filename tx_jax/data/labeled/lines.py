"""The lines of a text file, plain or gzipped, and JSON in them."""

import codecs
import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tx_jax.data.corpus.sources import guarded
from tx_jax.errors import InputError

_SURROGATE = re.compile("[\ud800-\udfff]")


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


def parse_json(text: str, place: str) -> Any:
    """The value of a JSON text.

    Raises:
      InputError: it is not valid, or holds half a surrogate pair, which JSON can spell but which is no text.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{place}: not valid JSON ({error})") from None
    if "\\u" in text and (half := _SURROGATE.search(json.dumps(value, ensure_ascii=False))):
        raise InputError(f"{place}: {half[0]!r} is half of a character that was cut in two: remove it")
    return value

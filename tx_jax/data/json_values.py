"""Streams the values of JSON text that is too large for memory: the items of an array, or values in sequence."""

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

from tx_jax.data.reading import BUFFER_BYTES, InputFile, not_utf8, refuse_utf16
from tx_jax.errors import InputError

_BETWEEN = re.compile(r"\s*")
# Errors of Python's decoder at the end of the text may mean that the value continues beyond it.
_NEAR_THE_END = len("-Infinity") + len(r"\ud800\udc00")
_SURROGATE = re.compile("[\ud800-\udfff]")


class NotJSON(InputError):
    """Text is not valid JSON. Callers may add an option to the message."""


def json_chunks(stream: Iterable[bytes], file: InputFile, *, invalid: str = "error") -> Iterator[str]:
    """Text from chunks of bytes. `invalid`: "error", "replace", or a Python error handler such as "surrogateescape".

    Raises:
      NotUTF8: the text is not UTF-8; the message names the place.
    """
    decoder = codecs.getincrementaldecoder("utf-8")("strict" if invalid == "error" else invalid)
    line, offset = 1, 0
    for chunk in stream:
        if not offset:
            refuse_utf16(chunk, file)
            chunk_text = chunk.removeprefix(codecs.BOM_UTF8)
        else:
            chunk_text = chunk
        pending = len(decoder.getstate()[0])
        begins = offset + len(chunk) - len(chunk_text) - pending
        try:
            yield decoder.decode(chunk_text)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            raise not_utf8(file, line, begins, error) from None
        line += chunk.count(b"\n")
        offset += len(chunk)
    try:
        yield decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        raise not_utf8(file, line, offset - len(error.object), error) from None


def byte_chunks(stream: Any) -> Iterator[bytes]:
    """The rest of a stream, in chunks of a few kilobytes."""
    while chunk := stream.read(BUFFER_BYTES):
        yield chunk


def json_values(chunks: Iterable[str], place: str, *, advice: str = "") -> Iterator[tuple[int, Any]]:
    """(first line, from 1; value) for every item of a JSON array, or for each of several consecutive values.

    Holds about as much text as the longest value, and at most twice the chunks that it spans.

    NaN, which is not JSON but which programs write, becomes None.

    Args:
      advice: appended to error messages.

    Raises:
      NotJSON: with `place` and the line.
    """
    reader = _Window(chunks, place, advice)
    if not reader.skip_space():
        return
    is_array = reader.take("[")
    expects_item = True  # rather than a comma or the end of the array
    while reader.skip_space():
        if is_array and reader.take("]"):
            if reader.skip_space():
                raise reader.error("text after the end of the array")
            return
        if is_array and not expects_item:
            if not reader.take(","):
                raise reader.error("expected a comma or the end of the array")
            expects_item = True
            continue
        line = reader.line
        yield line, reader.value()
        expects_item = not is_array
    if is_array:
        raise reader.error("the array has no end: the file is cut off")


class _Window:
    """The part of the text that is in memory, and the position in it."""

    def __init__(self, chunks: Iterable[str], place: str, advice: str):
        self._chunks, self._place, self._advice = iter(chunks), place, advice
        self._text, self._at, self.line = "", 0, 1
        self._decode = _DECODER.raw_decode

    def skip_space(self) -> bool:
        """Moves to the next character that is not a space. Returns whether there is one."""
        while True:
            end = _BETWEEN.match(self._text, self._at).end()
            self._move(end)
            if end < len(self._text):
                return True
            if not self._more(1):
                return False

    def take(self, character: str) -> bool:
        if self._text[self._at] != character:
            return False
        self._at += 1
        return True

    def value(self) -> Any:
        wanted = 1
        while True:
            try:
                value, end = self._decode(self._text, self._at)
            except RecursionError:
                raise self.error("values are nested too deeply") from None
            except json.JSONDecodeError as error:
                unfinished = "Unterminated string" in error.msg or error.pos >= len(self._text) - _NEAR_THE_END
                if unfinished and self._more(wanted):
                    wanted *= 2  # so that a long value is not decoded again for each of its chunks
                    continue
                self._move(error.pos)
                raise self.error(error.msg) from None
            # A number at the end of the text may continue.
            if end < len(self._text) or not self._more(wanted):
                self._move(end)
                return value

    def error(self, problem: str) -> NotJSON:
        return NotJSON(f"{self._place}, line {self.line}: not valid JSON ({problem}){self._advice}")

    def _move(self, end: int) -> None:
        self.line += self._text.count("\n", self._at, end)
        self._at = end

    def _more(self, wanted: int) -> bool:
        """Reads up to this many more chunks. Returns whether there were any."""
        chunks = []
        while len(chunks) < wanted and (chunk := next(self._chunks, None)) is not None:
            chunks.append(chunk)
        self._text, self._at = self._text[self._at :] + "".join(chunks), 0
        return bool(chunks)


def parse_json(text: str, place: str) -> Any:
    """The value of a JSON text. NaN, which is not JSON but which programs write, becomes None.

    Raises:
      NotJSON: it is not valid.
      InputError: it contains half a surrogate pair, which JSON can spell but which is not text.
    """
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise NotJSON(f"{place}: not valid JSON ({error})") from None
    if "\\u" in text:
        refuse_half_characters(value, place)
    return value


def refuse_half_characters(value: Any, place: str) -> None:
    """Raises InputError if a text in a JSON value contains half a surrogate pair, which JSON can spell."""
    if half := _SURROGATE.search(json.dumps(value, ensure_ascii=False)):
        raise InputError(f"{place}: {half[0]!r} is half of a character that was cut in two: remove it")


def _constant(name: str) -> float | None:
    return None if name == "NaN" else float(name)


_DECODER = json.JSONDecoder(parse_constant=_constant)

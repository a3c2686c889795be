"""Text files with any compression: lists the files in an archive, and reads their bytes and lines.

The first bytes of a file, not its name, determine its compression (gzip, bzip2, xz, zstd, zip). All data is streamed,
so memory does not grow with the file; a zip holds several files, each of which is read on its own.
"""

import bz2
import codecs
import contextlib
import gzip
import io
import lzma
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from tx_jax.errors import InputError

BUFFER_BYTES = 1 << 16
# First bytes of a file -> its compression.
_MAGIC = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ\x00": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "zip",
    b"PK\x05\x06": "zip",  # an empty archive
}
_ENDINGS = (".gz", ".bz2", ".xz", ".zst", ".zstd", ".zip")
_DAMAGED = (EOFError, OSError, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
_NOT_UTF8 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)  # UTF-32's little-endian mark begins with the first of them


class NotUTF8(InputError):
    """A file contains bytes that are not UTF-8; callers may add an option to the message."""


@dataclass(frozen=True)
class InputFile:
    """A file on disk, or one file in a zip; `str()` names it in messages.

    Attributes:
      path: the path on disk.
      compression: "gzip", "bzip2", "xz", "zstd", "zip", or None.
      member: the name in the zip.
    """

    path: Path
    compression: str | None = None
    member: str | None = None

    def __str__(self) -> str:
        return f"{self.path}/{self.member}" if self.member else str(self.path)

    @property
    def ending(self) -> str:
        """The file extension, ignoring that of the compression: ".json" of "a.JSON.gz"."""
        name = Path(self.member or self.path.name)
        return Path(name.stem if name.suffix.lower() in _ENDINGS else name).suffix.lower()

    @contextlib.contextmanager
    def open(self) -> Iterator["ByteStream"]:
        """Opens the file as a stream of decompressed bytes.

        Raises:
          InputError: the compressed data is damaged (raised now or while reading), or its library is missing.
        """
        with contextlib.ExitStack() as stack:
            on_disk = stack.enter_context(self.path.open("rb"))
            try:
                decompressed = stack.enter_context(_decompressed(on_disk, self))
            except _DAMAGED as error:
                raise _damaged(self, 0, error) from error
            yield stack.enter_context(ByteStream(_Guarded(self, on_disk, decompressed)))


class ByteStream(io.BufferedReader):
    """The bytes of an `InputFile`, decompressed."""

    raw: "_Guarded"

    def __init__(self, raw: "_Guarded"):
        super().__init__(raw, BUFFER_BYTES)

    @property
    def bytes_on_disk(self) -> int:
        """How far the file on disk has been read."""
        return self.raw.on_disk.tell()


class _Guarded(io.RawIOBase):
    """A stream that raises InputError for damaged compressed data."""

    def __init__(self, file: InputFile, on_disk: BinaryIO, decompressed: Any):
        self._file, self.on_disk, self._decompressed, self._lines = file, on_disk, decompressed, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._file.compression is None:
            return self._decompressed.readinto(buffer)  # an OSError comes from the disk
        try:
            data = self._decompressed.read(len(buffer))
        except _DAMAGED as error:
            raise _damaged(self._file, self._lines, error) from error
        self._lines += data.count(b"\n")
        buffer[: len(data)] = data
        return len(data)


def files_in(path: Path) -> list[InputFile]:
    """The file itself, or the files in a zip, sorted by name; folders and files added by macOS are left out.

    Raises:
      InputError: the zip is damaged, encrypted, empty, or an office document.
    """
    with path.open("rb") as stream:
        first = stream.read(max(map(len, _MAGIC)))
        compression = next((name for magic, name in _MAGIC.items() if first.startswith(magic)), None)
        if compression != "zip":
            return [InputFile(path, compression)]
        try:
            with zipfile.ZipFile(stream) as archive:
                members = archive.infolist()
        except _DAMAGED as error:
            raise _damaged(InputFile(path, "zip"), 0, error) from error
    names = {member.filename for member in members}
    if names & {"[Content_Types].xml", "mimetype"}:
        raise InputError(f"{path} is an office document or an e-book: save it as plain text, or as CSV")
    if encrypted := [member.filename for member in members if member.flag_bits & 1]:
        raise InputError(f"{path}: {encrypted[0]} is encrypted: unpack it with its password")
    wanted = [name for name in names if not name.endswith(("/", ".DS_Store")) and not name.startswith("__MACOSX/")]
    if not wanted:
        raise InputError(f"{path} is a zip that contains no files")
    return [InputFile(path, "zip", name) for name in sorted(wanted)]


def _decompressed(on_disk: BinaryIO, file: InputFile) -> Any:
    """A context manager for a stream whose `read(size)` returns decompressed bytes."""
    if file.compression is None:
        return contextlib.nullcontext(on_disk)
    if file.compression == "gzip":
        return gzip.GzipFile(fileobj=on_disk)
    if file.compression == "bzip2":
        return bz2.BZ2File(on_disk)
    if file.compression == "xz":
        return lzma.LZMAFile(on_disk)
    if file.compression == "zstd":
        return _zstd(on_disk, file)
    return _member(on_disk, file)


@contextlib.contextmanager
def _member(on_disk: BinaryIO, file: InputFile) -> Iterator[BinaryIO]:
    with zipfile.ZipFile(on_disk) as archive:
        try:
            stream = archive.open(file.member)
        except NotImplementedError as error:
            raise InputError(f"{file} cannot be unpacked here ({error}): unpack the zip first") from None
        with stream:
            yield stream


def _zstd(on_disk: BinaryIO, file: InputFile) -> Any:
    pyarrow = import_pyarrow(f"{file} is compressed with zstd, which")
    return pyarrow.CompressedInputStream(pyarrow.PythonFile(on_disk, mode="r"), "zstd")


def import_pyarrow(what: str) -> Any:
    """Imports pyarrow, which is slow, only when needed. `what`: the beginning of the error message."""
    try:
        import pyarrow
    except ImportError:
        raise InputError(f"{what} is read through pyarrow, which is missing: pip install pyarrow") from None
    return pyarrow


def _damaged(file: InputFile, lines: int, error: Exception) -> Exception:
    if getattr(error, "errno", None) is not None:
        return error  # from the disk, not from the file's contents
    reason = " ".join(str(error).split())
    return InputError(f"{file} is damaged after line {lines} ({reason}): download or compress it again")


def lines(
    file: InputFile, *, invalid: str = "error", counts: Counter | None = None, stream: ByteStream | None = None
) -> Iterator[tuple[int, str]]:
    """(line number from 1, text with its line ending unchanged) for every line. A leading byte order mark is dropped.

    Args:
      file: what to read.
      invalid: what to do with a line that is not UTF-8: "error", "replace" invalid bytes with U+FFFD, or "skip" it.
      counts: its entry "invalid_utf8" counts the lines replaced or skipped.
      stream: the file's stream, if the caller opened it (to track how far it has been read).

    Raises:
      NotUTF8: with the place.
      InputError: it is in UTF-16, or its compression is damaged; with the line.
    """
    with contextlib.ExitStack() as stack:
        stream = stream or stack.enter_context(file.open())
        offset = 0
        for number, data in enumerate(stream, start=1):
            if number == 1:
                refuse_utf16(data, file)
            begins, offset = offset, offset + len(data)
            if number == 1 and data.startswith(codecs.BOM_UTF8):
                begins, data = len(codecs.BOM_UTF8), data.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, data.decode("utf-8")
                continue
            except UnicodeDecodeError as error:
                if invalid == "error":
                    raise not_utf8(file, number, begins, error) from None
            if counts is not None:
                counts["invalid_utf8"] += 1
            if invalid == "replace":
                yield number, data.decode("utf-8", errors="replace")


def refuse_utf16(data: bytes, file: InputFile) -> None:
    """Raises InputError if a file's first bytes show that it is UTF-16 or UTF-32, with or without a byte order mark."""
    zeros = [data[start:200:2].count(0) for start in (0, 1)]
    unmarked = max(zeros) > 0.7 * len(data[:200:2]) and min(zeros) <= 0.1 * len(data[:200:2]) and len(data) >= 4
    if data.startswith(_NOT_UTF8) or unmarked:
        raise InputError(
            f"{file} is in UTF-16, not UTF-8: save it as UTF-8, or convert it with iconv -f utf-16 -t utf-8"
        )


def not_utf8(file: InputFile, line: int, begins: int, error: UnicodeDecodeError) -> NotUTF8:
    """`begins`: byte offset in the (decompressed) file of the part whose decoding failed."""
    damage = " (unless the file is damaged)" if file.compression else ""
    return NotUTF8(
        f"{file}, line {line}, byte {begins + error.start}: not valid UTF-8 ({error.object[error.start]:#x}); save it "
        f"as UTF-8, or convert it: iconv -f windows-1252 -t utf-8 {file.path.name}{damage}"
    )

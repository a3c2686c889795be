"""A path on a store, with those methods of `pathlib.Path` that are used here, and their errors."""

import datetime
import fnmatch
import io
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple

from tx_jax.storage.failures import explained
from tx_jax.storage.schemes import BLOCK_BYTES, filesystem

# What tells two contents of an object apart, by the libraries' names for it; the first that there is.
_VERSIONS = ("generation", "ETag", "etag", "md5Hash", "mtime", "LastModified", "created")
_CHECKSUMS = ("crc32c", "ETag")  # of the content, which the store computed when it was written
_TIMES = ("mtime", "LastModified", "created")


class Stat(NamedTuple):
    """Of `os.stat_result`, what a store has too."""

    st_size: int
    st_mtime_ns: int

    @property
    def st_mtime(self) -> float:
        return self.st_mtime_ns / 1e9


class Object(NamedTuple):
    """An object of a folder: its name below the folder, bytes, what changes with its content, and a checksum of the
    store's, "" where it has none."""

    name: str
    size: int
    version: str
    checksum: str


class StorePath:
    """An address, used as a `Path` is. There is no `__fspath__`: what takes local paths only must not get one.

    Every method raises the errors of `failures.explained`.
    """

    __slots__ = ("_address", "_key", "_scheme")

    def __init__(self, address: str):
        self._address = address
        self._scheme, _, key = address.partition("://")
        self._key = PurePosixPath(key)

    @classmethod
    def matching(cls, address: str) -> list["StorePath"]:
        """The objects whose address matches, with the library's wildcards `*`, `**` and `?`."""
        path = cls(address)
        if not any(mark in address for mark in "*?["):
            return [path] if path.is_file() else []
        with explained(address):
            found = path._fs.glob(address, detail=True)
        return [path._of(name) for name, info in found.items() if info["type"] == "file"]

    @property
    def _fs(self) -> Any:
        return filesystem(self._scheme)

    def __str__(self) -> str:
        return self._address

    def __repr__(self) -> str:
        return f"StorePath({self._address!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StorePath) and self._address == other._address

    def __hash__(self) -> int:
        return hash(self._address)

    def __lt__(self, other: "StorePath") -> bool:
        return self._address < other._address

    def __truediv__(self, name: object) -> "StorePath":
        return StorePath(f"{self._address}/{name}".rstrip("/"))

    @property
    def scheme(self) -> str:
        return self._scheme

    @property
    def name(self) -> str:
        return self._key.name

    @property
    def stem(self) -> str:
        return self._key.stem

    @property
    def suffix(self) -> str:
        return self._key.suffix

    @property
    def suffixes(self) -> list[str]:
        return self._key.suffixes

    @property
    def parent(self) -> "StorePath":
        """The folder; of a bucket, the bucket."""
        inside = len(self._key.parts) > 1
        return StorePath(f"{self._scheme}://{self._key.parent}") if inside else self

    def with_name(self, name: str) -> "StorePath":
        return self.parent / name

    def absolute(self) -> "StorePath":
        return self

    def resolve(self) -> "StorePath":
        return self

    def is_absolute(self) -> bool:
        return True

    def relative_to(self, other: "StorePath") -> PurePosixPath:
        return self._key.relative_to(other._key)

    def is_relative_to(self, other: "StorePath") -> bool:
        return self._scheme == other._scheme and self._key.is_relative_to(other._key)

    def samefile(self, other: object) -> bool:
        return self == other

    def _info(self) -> dict[str, Any]:
        with explained(self._address):
            return self._fs.info(self._address)

    def _kind(self) -> str | None:
        try:
            return self._info()["type"]
        except FileNotFoundError:
            return None

    def exists(self) -> bool:
        return self._kind() is not None

    def is_file(self) -> bool:
        return self._kind() == "file"

    def is_dir(self) -> bool:
        """Whether there are objects in it, or it is a bucket."""
        return self._kind() == "directory"

    def stat(self) -> Stat:
        info = self._info()
        return Stat(
            int(info.get("size") or 0), _nanoseconds(next((info[name] for name in _TIMES if info.get(name)), 0))
        )

    def iterdir(self) -> Iterator["StorePath"]:
        with explained(self._address):
            names = self._fs.ls(self._address, detail=False)
        paths = (self._of(name) for name in names)
        return iter([path for path in paths if path != self and path.name])

    def _of(self, name: str) -> "StorePath":
        """The path that the library has this name for, which may lack the scheme."""
        name = name.rstrip("/")
        return StorePath(name if "://" in name else f"{self._scheme}://{name.lstrip('/')}")

    def glob(self, pattern: str) -> Iterator["StorePath"]:
        """Those below that match; `**` is not supported."""
        first, _, rest = pattern.partition("/")
        if not self.is_dir():
            return
        for path in sorted(self.iterdir()):
            if fnmatch.fnmatchcase(path.name, first):
                if rest:
                    yield from path.glob(rest)
                else:
                    yield path

    def objects(self) -> list[Object]:
        """All objects below, by name; [] where there are none."""
        with explained(self._address):
            found = self._fs.find(self._address, detail=True)
        objects = []
        for name, info in found.items():
            path = self._of(name)
            if path != self and not name.endswith("/"):
                version, checksum = (
                    next((str(info[key]) for key in keys if info.get(key)), "") for keys in (_VERSIONS, _CHECKSUMS)
                )
                objects.append(Object(str(path.relative_to(self)), int(info.get("size") or 0), version, checksum))
        return sorted(objects)

    def open(self, mode: str = "r", encoding: str = "utf-8", errors: str | None = None) -> IO[Any]:
        """Opens it to be read; what is written is written whole."""
        if mode not in ("r", "rb"):
            raise ValueError(f"{mode=}: an object is read by open, and written whole by write_bytes")
        with explained(self._address):
            stream = self._fs.open(self._address, "rb", block_size=BLOCK_BYTES)
        binary = io.BufferedReader(_Reading(stream, self._address), 1 << 16)
        return binary if mode == "rb" else io.TextIOWrapper(binary, encoding=encoding, errors=errors)

    def read_bytes(self) -> bytes:
        with explained(self._address):
            return self._fs.cat_file(self._address)

    def read_text(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return io.TextIOWrapper(io.BytesIO(self.read_bytes()), encoding=encoding, errors=errors).read()

    def write_bytes(self, content: bytes) -> None:
        """Replaces the object whole: a reader sees the old one or the new."""
        with explained(self._address):
            self._fs.pipe_file(self._address, content)

    def write_text(self, content: str, encoding: str = "utf-8") -> None:
        self.write_bytes(content.encode(encoding))

    def create(self, content: bytes) -> None:
        """Raises FileExistsError if there is an object: of several processes that try, one succeeds."""
        with explained(self._address):
            self._fs.pipe_file(self._address, content, mode="create")

    def upload(self, file: Path) -> None:
        """Replaces the object by a local file, in parts where it is large."""
        with explained(self._address):
            self._fs.put_file(str(file), self._address)

    def download(self, file: Path) -> None:
        """Writes the object to a local file."""
        with explained(self._address):
            self._fs.get_file(self._address, str(file))

    def copy_to(self, other: "StorePath") -> None:
        """Copies the object, within its store."""
        with explained(self._address):
            self._fs.cp_file(self._address, str(other))

    def mkdir(self, mode: int = 0o777, parents: bool = False, exist_ok: bool = False) -> None:
        """Does nothing: a folder is there once an object is in it."""

    def unlink(self, missing_ok: bool = False) -> None:
        try:
            with explained(self._address):
                self._fs.rm_file(self._address)
        except FileNotFoundError:
            if not missing_ok:
                raise


class _Reading(io.RawIOBase):
    """The library's stream, whose errors become OSErrors."""

    def __init__(self, stream: Any, address: str):
        self._stream, self._address = stream, address

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return self._stream.seekable()

    def readinto(self, buffer: Any) -> int:
        with explained(self._address):
            data = self._stream.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        with explained(self._address):
            return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


def _nanoseconds(when: Any) -> int:
    if isinstance(when, str):
        when = datetime.datetime.fromisoformat(when)
    return int((when.timestamp() if isinstance(when, datetime.datetime) else float(when)) * 1e9)

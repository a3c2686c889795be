"""Paths as users give them, on this machine or on an object store; files that are replaced atomically, so that after a
crash they have the old content or the new; and JSON that any reader can read.

This is the seam: whoever takes a path gets it from `path_of` and needs not know where it leads. What a store does in
another way than a file system stands here and in `tx_jax/storage/`.
"""

import atexit
import contextlib
import glob
import json
import math
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, cast

from tx_jax.errors import InputError
from tx_jax.storage import cache, schemes
from tx_jax.storage.failures import StoreError
from tx_jax.storage.store_path import StorePath

UPLOADS = 16  # at once
_HUB = re.compile(r"\s*https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")


def path_of(text: str | Path, what: str, *, reads: bool = False) -> Path:
    """The path that a user gave: a `Path`, or a `StorePath` that is used like one. Asks no store.

    Args:
      text: as it was given; a path is returned as it is.
      what: the flag or key that it was given as, such as --workdir; the error names it.
      reads: whether it is only read, file by file; then it may have any scheme of fsspec's.

    Raises:
      InputError: it is no path, or an address that is not supported; see `schemes.checked`.
    """
    if isinstance(text, Path | StorePath):
        return text
    if not isinstance(text, str):
        raise InputError(f"{what}={text!r:.60} is no path ({type(text).__name__}): give a text or a pathlib.Path")
    if (hub := _HUB.match(text)) and not (reads and "/resolve/" in text):
        raise InputError(f"{what}={text}: a model on the Hugging Face Hub is given by its name alone, {hub[1]}")
    if schemes.scheme_of(text) is None:
        return Path(text)
    return cast(Path, StorePath(schemes.checked(text, what, reads=reads)))


def files_of(spec: str) -> list[Path]:
    """The files that match a glob, of which `**` stands for any number of folders, sorted; here, or on a store."""
    if schemes.scheme_of(spec) is not None:
        return cast(list[Path], sorted(StorePath.matching(schemes.checked(spec, "file", reads=True))))
    return sorted(path for path in map(Path, glob.glob(spec, recursive=True)) if path.is_file())


def local_path(text: str, what: str) -> Path:
    """Like `path_of`, for what only this machine's file system can have.

    Raises:
      InputError: it is an address.
    """
    if (scheme := schemes.scheme_of(text)) is not None:
        raise InputError(f"{what}={text}: this cannot be on {scheme}://, only in this machine's file system")
    return Path(text)


def is_local(path: Path) -> bool:
    """Whether a path is in this machine's file system."""
    return not isinstance(path, StorePath)


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The value as JSON, with null for numbers that are NaN or infinite, which JSON does not have.

    Every JSON file is written with this, except the definitions of tokenizers and models, which have their own format.
    """
    return json.dumps(_with_nulls(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file atomically: after a kill or a power cut it has the old content or the new. On disk at return.

    Raises:
      OSError: it cannot be written; an existing file is unchanged, and nothing else is left behind.
    """
    data = content.encode() if isinstance(content, str) else content
    if isinstance(path, StorePath):
        return path.write_bytes(data)
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def check_writable(path: Path, what: str) -> None:
    """Checks that something can be written below this path, which need not exist yet. Leaves nothing behind.

    Raises:
      InputError: there is no such bucket, no permission to write there, or a file where a folder is meant.
    """
    if not isinstance(path, StorePath):
        if reason := reason_against_writing(path):
            raise InputError(f"{what}={path}: {reason}: give another folder")
        return
    schemes.check_reachable(str(path), what)
    probe = path / f".probe-{uuid.uuid4().hex}"
    try:
        probe.create(b"")
        probe.unlink()
    except StoreError as error:
        raise InputError(f"{what}={path}: {error.strerror}") from None


def nearest_folder(path: Path) -> Path:
    """The path, or the first folder above it that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.exists())


def reason_against_writing(folder: Path) -> str | None:
    """Why no file can be written into a local folder, which need not exist yet; None if one can."""
    try:
        nearest = nearest_folder(folder)
        if not nearest.is_dir():
            return f"{nearest} is not a folder"
        with tempfile.TemporaryFile(dir=nearest):
            return None
    except OSError as error:
        return f"{folder} cannot be written ({error.strerror})"


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Replaces a folder with the one that `write` fills. Its name never stands for a part of either; after a kill
    between the two renames the folder is missing until the next call. On a store it may be a part of the new one then.

    Raises:
      OSError: it cannot be written; an existing folder is unchanged.
    """
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="tx_jax-") as folder:
            write(Path(folder))
            stale = {found.name for found in path.objects()}
            for name in upload_folder(Path(folder), path):
                stale.discard(name)
        for name in stale:
            (path / name).unlink(missing_ok=True)
        return
    temporary, earlier = _beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        for file in filter(Path.is_file, temporary.rglob("*")):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(temporary)
    shutil.rmtree(earlier, ignore_errors=True)
    if path.exists():
        os.replace(path, earlier)
    os.replace(temporary, path)
    sync_folder(path.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def clear_replaced(path: Path) -> None:
    """Removes what a kill in `replace_folder` left beside a folder that is whole."""
    for folder in () if isinstance(path, StorePath) else _beside(path):
        shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path) -> tuple[Path, Path]:
    """Where the new content of a folder is made, and where the earlier one is meanwhile."""
    return path.with_name(path.name + ".tmp"), path.with_name(path.name + ".old")


def check_free(path: Path) -> None:
    """Raises InputError if something would be overwritten, or if a store does not let it be written."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists and is not empty: give another folder, or remove it")
    check_writable(path, "folder")


@contextlib.contextmanager
def new_folder(path: Path, *, last: str) -> Iterator[Path]:
    """A local folder to fill, which becomes `path` when the context ends, and is deleted on an error.

    Args:
      last: the file without which the folder is nothing: on a store, which cannot rename, it is written last.

    Raises:
      InputError: `path` exists and is not empty.
    """
    check_free(path)
    if isinstance(path, StorePath):
        with tempfile.TemporaryDirectory(prefix="tx_jax-") as folder:
            yield Path(folder)
            try:
                upload_folder(Path(folder), path, last=last)
            except BaseException:
                with contextlib.suppress(OSError):
                    remove_folder(path)
                raise
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def upload_folder(folder: Path, path: StorePath, *, last: str = "") -> list[str]:
    """Writes every file of a local folder to a store, several at once, the file `last` at the end. Returns their names.

    Raises:
      OSError: one cannot be written; others may have been.
    """
    names = [file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*")) if file.is_file()]
    with ThreadPoolExecutor(UPLOADS) as pool:
        uploads = [pool.submit((path / name).upload, folder / name) for name in names if name != last]
        try:
            for upload in uploads:
                upload.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if last in names:
        (path / last).upload(folder / last)
    return names


def staging(path: Path) -> Path:
    """Where libraries that write local files may write those of a folder: the folder itself; of a store, an empty one
    of this process, from which `publish` writes them to the store."""
    if not isinstance(path, StorePath):
        return path
    folder = tempfile.mkdtemp(prefix="tx_jax-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def publish(folder: Path, path: Path) -> None:
    """Writes what is in a folder of `staging` to its place."""
    if isinstance(path, StorePath):
        upload_folder(folder, path)


def local_folder(path: Path) -> Path:
    """The folder itself, or its copy on this host if it is on a store; see `storage.cache`. It must not be changed.

    Raises:
      FileNotFoundError: a store has no such folder.
      InputError: there is no room for the copy.
    """
    return cache.copy_of(path) if isinstance(path, StorePath) else path


def sizes_of(folder: Path, names: Iterable[str]) -> dict[str, int]:
    """The bytes of those of the files below a folder that are there, by name; of a store it asks once."""
    if isinstance(folder, StorePath):
        return {found.name: found.size for found in folder.objects()}
    return {name: path.stat().st_size for name in names if (path := folder / name).is_file()}


def remove_folder(path: Path) -> None:
    """Deletes a folder and all in it, if it is there and can be deleted."""
    if not isinstance(path, StorePath):
        return shutil.rmtree(path, ignore_errors=True)
    for found in path.objects():
        (path / found.name).unlink(missing_ok=True)


def move_folder(path: Path, to: Path) -> None:
    """Gives a folder another name, in place of what has it. On a store its objects are copied and deleted one by one.

    Raises:
      OSError: it cannot be moved.
    """
    remove_folder(to)
    if not isinstance(path, StorePath):
        return os.replace(path, to)
    for found in path.objects():
        (path / found.name).copy_to(cast(StorePath, to / found.name))
    remove_folder(path)


def appending(path: Path) -> IO[str]:
    """Opens a text file to append lines. `sync` makes sure that they are on disk; on a store, a reader sees nothing of
    them before."""
    return cast(IO[str], _Appended(path)) if isinstance(path, StorePath) else path.open("a")


def sync(file: IO[str]) -> None:
    """Waits until all that was written to a file of `appending` is on disk.

    Raises:
      OSError: it cannot be written.
    """
    if isinstance(file, _Appended):
        return file.sync()
    os.fsync(file.fileno())


class _Appended:
    """A text file on a store, which is written anew as a whole, since objects do not grow."""

    def __init__(self, path: StorePath):
        self._path = path
        self._lines = [path.read_text()] if path.is_file() else []
        self._synced = len(self._lines)

    def write(self, text: str) -> int:
        self._lines.append(text)
        return len(text)

    def flush(self) -> None:
        """Does nothing: `sync` writes."""

    def sync(self) -> None:
        if len(self._lines) != self._synced or not self._lines:
            self._lines = ["".join(self._lines)]
            self._path.write_text(self._lines[0])
            self._synced = 1

    def close(self) -> None:
        self.sync()


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut, if the file system supports it."""
    if isinstance(path, StorePath):
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems sync no folders
        pass
    finally:
        os.close(descriptor)

"""Copies of folders of stores on this host, for what is memory-mapped or read again and again: token stores, models,
tokenizers.

    ~/.cache/tx_jax/stores/KEY/         a copy; KEY is a digest of the address, and of names, sizes and versions there
    ~/.cache/tx_jax/stores/KEY.lock     locked while it is made, and shared while a process uses it

TX_JAX_CACHE names another folder, TX_JAX_CACHE_GB limits its size. Where there is no room, the copies that were used
least recently and that no process uses are deleted. Processes of a host share the copies: the first makes it, the
others wait. What a kill left unfinished is continued.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, NamedTuple

from tx_jax.errors import InputError
from tx_jax.storage.store_path import StorePath

FOLDER, LIMIT = "TX_JAX_CACHE", "TX_JAX_CACHE_GB"
RESERVE = 1 << 28  # bytes that stay free on the disk
DOWNLOADS = 8  # at once
_used: dict[str, IO] = {}  # by key: the open lock files of the copies that this process uses


class File(NamedTuple):
    """A file of a folder to copy: its name below the folder, bytes, what changes with its content, and its SHA-256 if
    that is known."""

    name: str
    size: int
    version: str
    sha256: str = ""


def copy_of(folder: StorePath, files: Sequence[File] | None = None) -> Path:
    """A copy of a folder on this host, which must not be changed.

    Args:
      files: what to copy, with checksums; None: whatever is there.

    Raises:
      FileNotFoundError: nothing is there.
      InputError: it changed while it was copied, is not what the checksums say, or there is no room for it.
    """
    listed = files is None
    files = _listed(folder) if files is None else files
    if not files:
        raise FileNotFoundError(2, "there is no such folder", str(folder))
    key = hashlib.sha256(repr([str(folder), sorted(files)]).encode()).hexdigest()[:24]
    copy = root() / key
    if key in _used and copy.is_dir():
        return copy
    copy.parent.mkdir(parents=True, exist_ok=True)
    lock = (copy.parent / f"{key}.lock").open("a")
    try:
        fcntl.flock(lock, fcntl.LOCK_SH)
        if not copy.is_dir():
            fcntl.flock(lock, fcntl.LOCK_EX)  # others who use it hold it shared: so only who makes it asks for this
        if not copy.is_dir():
            _make(folder, files, copy)
            if listed and _listed(folder) != files:
                shutil.rmtree(copy)
                raise InputError(f"{folder} changed while it was copied: give the same command again")
        os.utime(copy)
    except BaseException:
        lock.close()
        raise
    fcntl.flock(lock, fcntl.LOCK_SH)
    _used[key] = lock
    return copy


def work_folder(place: StorePath) -> Path:
    """A folder of this host in which what will be written to a place on a store is made; the same in every process."""
    return root().parent / "work" / hashlib.sha256(str(place).encode()).hexdigest()[:24]


def root() -> Path:
    """Where the copies are."""
    return Path(os.environ.get(FOLDER) or os.path.expanduser("~/.cache/tx_jax/stores"))


def _listed(folder: StorePath) -> list[File]:
    return [File(name, size, version) for name, size, version, _ in folder.objects()]


def _make(folder: StorePath, files: Sequence[File], copy: Path) -> None:
    partial = copy.with_name(f"{copy.name}.partial")
    missing = [file for file in files if not _is_whole(partial / file.name, file)]
    with _explained(folder, files):
        _make_room(folder, sum(file.size for file in missing), keep=copy.name)
        for file in missing:
            (partial / file.name).parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(DOWNLOADS) as pool:
            for _ in pool.map(lambda file: _download(folder, file, partial / file.name), missing):
                pass
    os.replace(partial, copy)


def _is_whole(path: Path, file: File) -> bool:
    """Whether a killed process left this file whole, which only its checksum can tell."""
    return bool(file.sha256) and path.is_file() and path.stat().st_size == file.size and _sha256(path) == file.sha256


def _download(folder: StorePath, file: File, path: Path) -> None:
    source = folder / file.name
    try:
        source.download(path)
    except FileNotFoundError:
        raise InputError(f"{source} is missing: {folder} is damaged, or is being changed") from None
    if (size := path.stat().st_size) != file.size:
        path.unlink()
        raise InputError(f"{source} has {size:,} bytes instead of {file.size:,}: it is damaged, or is being changed")
    if file.sha256 and _sha256(path) != file.sha256:
        path.unlink()
        raise InputError(f"{source} has another checksum than {folder} records: it is damaged, or is being changed")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _explained(folder: StorePath, files: Iterable[File]) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != 28:  # ENOSPC: others filled the disk meanwhile
            raise
        raise _full(folder, sum(file.size for file in files), 0) from None


def _make_room(folder: StorePath, needed: int, keep: str) -> None:
    """Deletes copies that no process uses, least recently used first, until there is room.

    Raises:
      InputError: there is not enough.
    """
    limit = os.environ.get(LIMIT)
    try:
        allowed = float(limit) * 1e9 if limit else float("inf")
    except ValueError:
        raise InputError(f"{LIMIT}={limit}: give a number of gigabytes") from None
    for copy in [*sorted(_copies(keep), key=lambda path: path.stat().st_mtime), None]:
        room = min(allowed - _bytes_below(root()), shutil.disk_usage(root()).free - RESERVE)
        if room >= needed:
            return
        if copy is None:
            raise _full(folder, needed, max(0, int(room)))
        _delete_unused(copy)


def _full(folder: StorePath, needed: int, room: int) -> InputError:
    return InputError(
        f"{folder} must be copied to this host and needs {needed:,} bytes, but {root()} has room for {room:,}: delete "
        f"that folder, or name one on a larger disk with {FOLDER} (its limit, if any, is {LIMIT})"
    )


def _copies(keep: str) -> list[Path]:
    return [path for path in root().iterdir() if path.is_dir() and path.name.partition(".")[0] != keep]


def _bytes_below(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _delete_unused(copy: Path) -> None:
    key = copy.name.partition(".")[0]
    with (copy.parent / f"{key}.lock").open("a") as lock, contextlib.suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(copy, ignore_errors=True)


def forget(copy: Path | None = None) -> None:
    """Lets go of a copy that this process uses, or of all, so that it may be deleted."""
    for key in [copy.name] if copy else list(_used):
        if lock := _used.pop(key, None):
            lock.close()

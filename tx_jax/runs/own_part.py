"""How a process writes its own part of a checkpoint: Orbax writes the arrays, and then each process hashes its files.

Orbax writes arrays to a file system and to gs://. To another store it does not, although its TensorStore could (0.12.8
takes s3://bucket/run for a relative path). There a process writes its part to this host, hashes it and uploads it, and
what is read is copied to this host first. Arrays then are a folder of files each, not one database, since that would
have to be merged by one process that has the files of all. What a checkpoint consists of, and when it is finished, is
the same: see `commit`.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import jax
import orbax.checkpoint as ocp
from etils import epath

from tx_jax.files import path_of, upload_folder
from tx_jax.runs import commit, manifest
from tx_jax.storage import cache
from tx_jax.storage.store_path import StorePath

METADATA = "array_metadatas"  # Orbax's name for the folder of what each process knows of its arrays
NATIVE = ("gs",)  # the schemes to which Orbax writes arrays


@contextlib.contextmanager
def readable(step: Path) -> Iterator[epath.Path]:
    """The folder of a step, or its copy on this host, for Orbax to read.

    Raises:
      InputError: there is no room for the copy, or it is not what the manifest says.
    """
    if not _is_staged(step):
        yield commit.orbax_path(step)
        return
    files = [cache.File(name, entry["bytes"], "", entry["sha256"]) for name, entry in manifest.recorded(step).items()]
    copy = cache.copy_of(cast(StorePath, step), files or None)
    try:
        yield commit.orbax_path(copy)
    finally:
        cache.forget(copy)


def _is_staged(directory: Path) -> bool:
    return isinstance(directory, StorePath) and directory.scheme not in NATIVE


class HashingHandler(ocp.PyTreeCheckpointHandler):
    """Orbax's writer of a state, with what follows it as a part of the save."""

    def __init__(self, directory: Path):
        """
        Args:
          directory: the folder of all checkpoints.
        """
        self._staging: Path | None = None
        if _is_staged(directory):  # the same for each step, so that a killed run leaves no more there than one
            self._staging = cache.work_folder(cast(StorePath, directory)) / f"checkpoint-{jax.process_index()}"
        super().__init__(use_ocdbt=self._staging is None)

    async def async_save(self, directory: epath.Path, *arguments: Any, **named: Any) -> list[Any]:
        item, folder = path_of(str(directory), "checkpoint"), self._staging
        if folder is None:
            written = await super().async_save(directory, *arguments, **named) or []
            return [_Then(written, lambda: manifest.hash_own(item, jax.process_index()))]
        shutil.rmtree(folder, ignore_errors=True)
        (folder / METADATA).mkdir(parents=True)  # process 0 makes it, and the others wait until they see it
        written = await super().async_save(commit.orbax_path(folder), *arguments, **named) or []
        return [_Then(written, lambda: _upload(folder, cast(StorePath, item)))]

    def finalize(self, directory: epath.Path) -> None:
        with commit.noted():
            super().finalize(directory)


@ocp.args.register_with_handler(HashingHandler, for_save=True)
@dataclasses.dataclass
class HashedSave(ocp.args.PyTreeSave):
    """What `HashingHandler` saves."""


@ocp.args.register_with_handler(HashingHandler, for_restore=True)
@dataclasses.dataclass
class HashedRestore(ocp.args.PyTreeRestore):
    """Orbax wants one for each handler; what restores here is Orbax's own."""


class _Then:
    """A future of Orbax's kind: waiting for it does the work, in the thread that waits for the save."""

    def __init__(self, written: Sequence[Any], work: Callable[[], None]):
        self._written, self._work = written, work

    def result(self, timeout: float | None = None) -> None:
        with commit.noted():
            for future in self._written:
                future.result(timeout)
            self._work()

    def cancel(self) -> None:
        """Does nothing: nothing runs before `result`."""


def _upload(folder: Path, item: StorePath) -> None:
    hashes = manifest.hashes_of(folder)
    upload_folder(folder, item)
    manifest.tell_hashes(item, jax.process_index(), hashes)
    shutil.rmtree(folder, ignore_errors=True)

"""How a finished save gets its name, so that there is no moment at which a checkpoint is visible in part or without its
manifest.

On a file system the folder of a step is written under another name and renamed; the manifest is written before that.
A store has no renames: there a step is finished once it has `FINISHED`, which is written after the manifest. (Orbax
writes that object into every checkpoint, so one that was copied to a store is finished there too.)
"""

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import orbax.checkpoint as ocp
from etils import epath

from tx_jax.files import is_local, sync_folder
from tx_jax.runs import manifest
from tx_jax.storage.store_path import StorePath

FINISHED = "commit_success.txt"  # Orbax's name
failures: list[Exception] = []  # of this process's threads, in the save that is in progress


@contextlib.contextmanager
def noted() -> Iterator[None]:
    """Notes a failure in a thread of a save. Orbax tells it only after a barrier, to which the other processes do not
    come while they wait for what has failed here."""
    try:
        yield
    except Exception as error:
        failures.append(error)
        raise


class RenameCommit(ocp.path.atomicity.AtomicRenameTemporaryPath):
    """Orbax's commit, a rename of the finished folder, in two: the manifest is written between them."""

    async def finalize(self) -> None:
        with noted():
            await self._finalize()

    async def _finalize(self) -> None:
        final = self._final_path
        if not final.name.isdigit():  # the folder of an item, inside that of the step
            return await super().finalize()
        finished = final.with_name(f"{self._tmp_path.name}-finished")
        self._final_path = finished
        try:
            await super().finalize()
        finally:
            self._final_path = final
        manifest.write(Path(finished))
        os.replace(finished, final)
        sync_folder(Path(final).parent)


class StoreCommit(ocp.path.atomicity.CommitFileTemporaryPath):
    """Orbax's commit on a store, with the manifest before its last object."""

    async def finalize(self) -> None:
        with noted():
            await self._finalize()

    async def _finalize(self) -> None:
        if not self._final_path.name.isdigit():
            return await super().finalize()
        if store := self._checkpoint_metadata_store:
            await asyncio.to_thread(store.wait_until_finished)
            path, now = self._tmp_path / manifest.METADATA, time.time_ns()
            await asyncio.to_thread(store.update, file_path=path, commit_timestamp_nsecs=now)
            await asyncio.to_thread(store.wait_until_finished)
        await asyncio.to_thread(manifest.write, StorePath(str(self._final_path)))
        self._checkpoint_metadata_store = None  # what it holds is in the manifest, and must not change
        await super().finalize()


def orbax_path(path: Path) -> epath.Path:
    """The path as Orbax's own kind of path."""
    return epath.Path(str(path))


def steps(directory: Path) -> list[int]:
    """The steps that were saved to the end, ascending."""
    if isinstance(directory, StorePath):
        return sorted(step for step, names in _on_store(directory).items() if _is_finished(names))
    if not directory.is_dir():
        return []
    return sorted(int(path.name) for path in directory.iterdir() if path.name.isdigit())


def unfinished(directory: Path, step: str) -> list[Path]:
    """The folders of saves that were not finished: of one step, or of all if it is "*"."""
    if isinstance(directory, StorePath):
        found = {number: names for number, names in _on_store(directory).items() if step in ("*", str(number))}
        return [directory / number for number, names in found.items() if not _is_finished(names)]
    return list(directory.glob(f"{step}.orbax-checkpoint-tmp*"))


def mark_finished(directory: Path, steps: Iterable[int]) -> None:
    """Gives steps that were copied to a store the object that Orbax looks for there, if an old version wrote none."""
    if is_local(directory):
        return
    for step in steps:
        if not (mark := directory / step / FINISHED).exists():
            mark.write_text("This checkpoint was copied here, and is whole by its manifest.")


def _on_store(directory: StorePath) -> dict[int, set[str]]:
    """The names of the objects directly in each step."""
    found: dict[int, set[str]] = {}
    for name, *_ in directory.objects():
        step, _, rest = name.partition("/")
        if step.isdigit():
            found.setdefault(int(step), set()).add(rest)
    return found


def _is_finished(names: set[str]) -> bool:
    return not names.isdisjoint({FINISHED, manifest.NAME})

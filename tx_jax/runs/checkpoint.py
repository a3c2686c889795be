"""Checkpoints of a run, written by Orbax: asynchronous, sharded, verified. The last few and selected ones are kept.

Each has a manifest of checksums (`manifest.py`). A damaged one is skipped with a warning, and the newest intact one is
used; if none is intact, that is an error, never a silent start from scratch. A run that continues renames damaged
checkpoints to `damaged-STEP`, so that it can save its own at these steps.
"""

import contextlib
import dataclasses
import re
import shutil
import threading
import time
import warnings
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, LatestN

from tx_jax.errors import InputError, InputWarning
from tx_jax.files import is_local, move_folder, remove_folder
from tx_jax.hosts import distributed
from tx_jax.runs import commit, manifest, own_part
from tx_jax.storage.failures import StoreError, StoreFailed

ITEM = "default"  # Orbax's folder for the state
GRACE_SECONDS = 5
REMOVALS = 20
WAIT_SECONDS = 0.01


class SaveFailed(InputError):
    """A checkpoint could not be written; those before it are intact."""


class SaveOnStoreFailed(SaveFailed, StoreFailed):
    """The same, because a store could not be reached or did not let it be written."""


class Checkpoints:
    """The checkpoints in one directory. Use as a context manager: leaving it waits for what is still being written."""

    def __init__(
        self,
        directory: Path,
        *,
        keep_last: int = 1,
        read_only: bool = False,
    ):
        """
        Args:
          keep_last: how many of the newest are kept, besides those that `save` is told to keep.
          read_only: change nothing on disk, so that a run in progress can be read.

        Raises:
          InputError: there are checkpoints, and every one is damaged.
        """
        self._directory = directory.absolute()
        self._manager: ocp.CheckpointManager | None = None
        self._chosen = _Chosen()
        self._saving: tuple[int, int] | None = None  # step and bytes
        if not read_only:
            distributed.agreed(self._clear)
            self._manager = _manager(self._directory, keep_last, self._chosen)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and not distributed.is_alone():
            self._wait_a_little()
            return
        try:
            self.wait()
        except SaveFailed:
            if kind is None:  # else the first error is the one that matters
                raise
        finally:
            if self._manager is not None:
                # Closing raises the error of a failed save again.
                with contextlib.suppress(Exception) if kind else contextlib.nullcontext():
                    self._manager.close()
                if kind:
                    self._remove_unfinished("*")  # what was still being written when the save failed

    def steps(self) -> list[int]:
        """The steps that look intact on a quick check, and those being written, ascending."""
        if self._manager is not None:
            return sorted(self._manager.all_steps())
        return [step for step in self.on_disk() if not manifest.problem(self._path(step), quick=True)]

    def on_disk(self) -> list[int]:
        """All steps that were saved to the end, intact or not, ascending."""
        return commit.steps(self._directory)

    def begun(self) -> int | None:
        """The newest step on disk, good or not; None where the run that is kept here has not begun: nothing was saved.

        This alone decides whether a run continues or starts. A save that was killed leaves
        `12.orbax-checkpoint-tmp-...`, or on a store a step without its last object, which does not count as a step.
        """
        return max(self.on_disk(), default=None)

    def newest(self) -> int | None:
        """The newest step that passes verification; None if there are no checkpoints. Warns about those it skips.

        Raises:
          InputError: there are checkpoints, and every one is damaged.
        """
        skipped = {}
        for step in reversed(self.on_disk()):
            reason = manifest.problem(self._path(step))
            if not self._path(step).exists():  # deleted in the meantime by the running training
                continue
            if reason is None:
                self._warn(step, skipped)
                return step
            skipped[step] = reason
        if skipped:
            reasons = "; ".join(f"step {step}: {reason}" for step, reason in skipped.items())
            raise InputError(
                f"no checkpoint in {self._directory} is intact ({reasons}). Restore one from a copy, or remove the "
                "folder to start from scratch"
            )
        return None

    def verify(self, step: int) -> None:
        """Reads every file of a step.

        Raises:
          InputError: it is damaged; the error names the steps that look intact.
        """
        if reason := manifest.problem(self._path(step)):
            good = [other for other in self.steps() if other != step]
            raise InputError(f"the checkpoint {self._path(step)} is damaged: {reason}. Others that look intact: {good}")
        self._warn(step, {})

    def save(self, state: Any, keep: Collection[int] = (), **notes: Any) -> None:
        """Starts to write the state; returns as soon as it is copied from the devices.

        Args:
          keep: steps to keep although they are not among the last ones. It must be given at every save.
          notes: JSON values to store with it; `notes` reads them.

        Raises:
          SaveFailed: this or the previous checkpoint cannot be written.
        """
        self.wait()
        step = int(state.step)
        self._saving = step, sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        self._chosen.steps = frozenset(keep)
        commit.failures.clear()
        with self._explaining():
            self._manager.save(step, args=own_part.HashedSave(_apart(state)), custom_metadata=manifest.MARK | notes)

    def notes(self, step: int) -> dict[str, Any]:
        """The notes given to `save`; {} for checkpoints of earlier versions without notes."""
        return manifest.metadata(self._path(step))

    def poll(self) -> None:
        """Checks for a failed save. Call it at each step; it costs nothing if all is well.

        Raises:
          SaveFailed: a save that was started could not be finished.
        """
        if self._saving and (commit.failures or not self._manager.is_saving_in_progress()):
            self.wait()

    def wait(self) -> None:
        """Returns once every started save is on disk.

        Raises:
          SaveFailed: one could not be finished.
        """
        if self._saving is None:
            return
        with self._explaining():
            while not distributed.is_alone() and self._manager.is_saving_in_progress():
                if commit.failures:
                    raise commit.failures[0]
                time.sleep(WAIT_SECONDS)
            self._manager.wait_until_finished()
        self._saving = None

    @contextlib.contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except jax.errors.JaxRuntimeError:  # not the disk's fault: the devices', or another process is gone
            self._saving = None
            raise
        except Exception as error:
            raise self._failure(error) from error

    def _wait_a_little(self) -> None:
        """After a failure: what is being written may still be finished, but only if no other process is gone."""

        def finish() -> None:
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()

        if self._saving is not None:
            thread = threading.Thread(target=finish, daemon=True)
            thread.start()
            thread.join(GRACE_SECONDS)

    def restore(self, step: int, target: Any) -> Any:
        """The state at a step.

        Args:
          target: a tree of `jax.ShapeDtypeStruct`s with shardings: each array is placed as they say, on whatever
            devices there are now.
        """
        return self._restore(step, target, partial=False)

    def restore_params(self, step: int, target: Any) -> Any:
        """Only the parameters, placed as `target` says; the optimizer state is not read."""
        return self._restore(step, {"params": target}, partial=True)["params"]

    def host_params(self, step: int, shapes: Any) -> Any:
        """Only the parameters, unsharded, as numpy arrays.

        Args:
          shapes: a tree of objects with `shape` and `dtype`.
        """
        restore_args = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray, dtype=leaf.dtype), shapes)
        return self._restore(step, {"params": shapes}, partial=True, restore_args={"params": restore_args})["params"]

    def _restore(self, step: int, target: Any, *, partial: bool, restore_args: Any = None) -> Any:
        restore_args = restore_args or ocp.checkpoint_utils.construct_restore_args(target)
        arguments = ocp.args.PyTreeRestore(item=target, restore_args=restore_args, partial_restore=partial)
        with own_part.readable(self._path(step)) as folder, ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
            return reader.restore(folder / ITEM, args=arguments)

    def _path(self, step: int) -> Path:
        return self._directory / str(step)

    def _warn(self, step: int, skipped: dict[int, str]) -> None:
        for other, reason in skipped.items():
            text = f"the checkpoint of step {other} is damaged and skipped: {reason}; step {step} is used"
            warnings.warn(text, InputWarning, stacklevel=3)
        if not manifest.is_verifiable(self._path(step)):
            text = f"the checkpoint of step {step} is from a version without checksums, and cannot be verified"
            warnings.warn(text, InputWarning, stacklevel=3)

    def _clear(self) -> None:
        """Sets damaged steps aside, so that the run can save these steps again and they do not count among the last
        ones to keep. Removes unfinished saves of killed runs."""
        newest = self.newest()
        for step in self.on_disk():
            reason = manifest.problem(self._path(step), quick=True) if step < newest else None
            if reason:  # of those after it, `newest` has told
                text = f"the checkpoint of step {step} is damaged and set aside: {reason}"
                warnings.warn(text, InputWarning, stacklevel=4)
            if reason or step > newest:
                move_folder(self._path(step), self._directory / f"damaged-{step}")
        self._remove_unfinished("*")
        commit.mark_finished(self._directory, self.on_disk())

    def _remove_unfinished(self, step: str) -> None:
        """The threads of a failed save may continue for a moment and create its folder again."""
        for _ in range(REMOVALS):
            found = commit.unfinished(self._directory, step)
            if not found:
                return
            for path in found:
                remove_folder(path)
            time.sleep(0.1)

    def _failure(self, error: Exception) -> SaveFailed:
        """The error for a failed save. Its unfinished files are removed, since they may be what fills the disk."""
        (step, size), self._saving = self._saving, None
        if distributed.is_first():
            with contextlib.suppress(StoreError):
                self._remove_unfinished(str(step))
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).split("\n")[0]
        if system := re.search(r"([^:]+) \[os_error_code=", reason):  # TensorStore's, after the names of its files
            reason = system[1].strip()
        if not is_local(self._directory):
            return SaveOnStoreFailed(
                f"the checkpoint {self._path(step)} could not be written: {reason[:300]}. Those before it are intact"
            )
        free = shutil.disk_usage(self._directory).free
        return SaveFailed(
            f"the checkpoint {self._path(step)} could not be written: {reason}. It needs {size:,} bytes, {free:,} are "
            f"free there; earlier checkpoints are intact: {self.on_disk()}"
        )


def _apart(state: Any) -> Any:
    """What Orbax may read while training goes on. From other devices it copies; the memory of a CPU it reads in place,
    so that the next step, to which the state is donated, would wait until all is written."""
    if jax.default_backend() != "cpu":
        return state
    return jax.device_put(state, jax.tree.map(lambda leaf: leaf.sharding, state), may_alias=False)


class _Manager(ocp.CheckpointManager):
    """Orbax's, which asks at each save whether to stop, and so would replace the number of the point that
    `StopRequest.due` is at by a step's: a SIGTERM in a save would then wait for a point that was passed already."""

    def reached_preemption(self, step: int) -> bool:
        return False


@dataclasses.dataclass
class _Chosen:
    """A policy of Orbax's, which asks it at each save: these steps stay."""

    steps: frozenset[int] = frozenset()

    def should_preserve(self, checkpoints: Sequence[Any], *, context: Any) -> list[bool]:
        return [checkpoint.step in self.steps for checkpoint in checkpoints]


def _manager(directory: Path, keep_last: int, chosen: _Chosen) -> ocp.CheckpointManager:
    return _Manager(
        commit.orbax_path(directory),
        item_handlers=own_part.HashingHandler(directory),
        options=ocp.CheckpointManagerOptions(
            preservation_policy=AnyPreservationPolicy([LatestN(keep_last), chosen]),
            cleanup_tmp_directories=True,
            temporary_path_class=commit.RenameCommit if is_local(directory) else commit.StoreCommit,
            # If a folder cannot be created, Orbax's threads wait ten minutes for it, and the process for them.
            async_options=ocp.AsyncOptions(create_directories_asynchronously=False),
        ),
    )

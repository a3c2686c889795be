"""A run directory tells its story:

config.json       the resolved configuration, of the start that trained last
env.json          versions, devices, command, folder, revision of that start
history.jsonl     the same of every start that trained, and which steps it trained: see `history`
tokenizer/        that of the data
metrics.jsonl     one record a line: step, split, values
tb/               the same for TensorBoard
checkpoints/      one folder a step
loss.png          the curves: see `plots`
LOCK              the process that trains here
DONE | FAILED     how it ended; neither while it runs, or where it was killed
"""

import contextlib
import dataclasses
import datetime
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import jax

from tx_jax import text
from tx_jax.config import DATA_PATHS, ExperimentConfig, differences, from_config_dict, skipped, to_dict
from tx_jax.errors import InputError, InputWarning
from tx_jax.files import clear_replaced, json_text, path_of, replace_folder, write_atomically
from tx_jax.hosts import distributed
from tx_jax.hosts.watchdog import end_at_once
from tx_jax.runs import history
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.storage import lease
from tx_jax.storage.store_path import StorePath
from tx_jax.text import Tokenizer

# What a resumed run must not change: its arrays and their shapes, and the order of its data; with exceptions.
# Phases that have not begun may change too.
FIXED = ("model.", "data.", "seed", "training.batch_size", "optimizer.frozen", "lora.")
# The data is compared by its fingerprint, not its path; skipped batches are compared by the batches that were taken.
FREE = (
    "model.remat",
    "model.attention",
    *(f"data.{key}" for key in DATA_PATHS),
    "data.read_ahead",
    "data.skip_batches",
)

LOCK_ATTEMPTS = 5
SHARED_SECONDS = 75  # in which all must see what process 0 wrote: NFS remembers for 60 that a file was not there


@dataclasses.dataclass(frozen=True)
class RunDir:
    """A run directory, here or on a store. Raises InputError if the path is one that Path made of an address, such as
    gs:/bucket/run (`path_of` keeps gs://bucket/run)."""

    path: Path

    def __post_init__(self):
        if not isinstance(self.path, StorePath):
            path_of(str(self.path), "workdir")

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    def load_config(self) -> ExperimentConfig:
        """The configuration of the run. Of its `extensions` those are imported that can be.

        Raises:
          InputError: the directory is no run directory.
        """
        return from_config_dict(self._read_json("config.json"), trains=False)

    def load_tokenizer(self) -> Tokenizer:
        """The tokenizer of the data that the run was trained on."""
        return text.load(self.path / "tokenizer")

    def data_fingerprint(self) -> str | None:
        """Identifies the data that the run was trained on."""
        return self._read_json("env.json").get("data_fingerprint")

    def started_in(self) -> Path | None:
        """The working directory of the start that trained last, to which its paths are relative; None if unknown."""
        folder = self._read_json("env.json").get("folder") if (self.path / "env.json").is_file() else None
        return Path(folder) if isinstance(folder, str) else None

    def _read_json(self, name: str) -> dict:
        file = self.path / name
        try:
            return json.loads(file.read_text())
        except FileNotFoundError:
            raise InputError(f"{self.path} is not a run directory: it has no {name}") from None
        except ValueError as error:
            raise InputError(f"{file} is damaged: {error}") from None

    def changes(self, config: ExperimentConfig, data_fingerprint: str) -> list[str]:
        """A line for each difference from the configuration of the run to resume. Changes nothing on disk.

        Raises:
          InputError: a key in `FIXED`, a phase that has begun, a batch that was taken or the data differs, so that the
            run could not be continued.
        """
        step = Checkpoints(self.checkpoints, read_only=True).begun()
        if step is None and not (self.path / "config.json").exists():
            return []
        old = self.load_config()
        changes = differences(to_dict(old), to_dict(config))
        if step is None:
            return changes  # nothing to continue from
        fixed = FIXED if _begun(old, step) == _begun(config, step) else (*FIXED, "phases.")
        conflicts = [line for line in changes if line.startswith(fixed) and not line.startswith(FREE)]
        if conflicts:
            raise InputError(
                f"{self.path} holds a run with a different configuration: {'; '.join(conflicts)}. "
                "Continue it with its own configuration, or give another --workdir"
            )
        _check_skipped(old, config, step)
        if self.data_fingerprint() != data_fingerprint:
            raise InputError(
                f"the data in {config.data.source} is not what {self.path} was trained on, so it cannot be "
                "continued: restore the data, or give another --workdir"
            )
        return changes

    def begin(
        self,
        config: ExperimentConfig,
        tokenizer: Tokenizer,
        data_fingerprint: str,
        after_step: int = 0,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        """Call it before training steps: writes history.jsonl, config.json, env.json and, if missing, tokenizer/, and
        removes the marks of an earlier end.

        The history is written first, since it alone tells what changed: a kill after it leaves a record without steps.

        Args:
          more: what else env.json says.

        Raises:
          InputError: history.jsonl is damaged.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        values, environment = (
            to_dict(config),
            _environment() | {"data_fingerprint": data_fingerprint} | dict(more or {}),
        )
        earlier = self._read_json("config.json") if after_step and (self.path / "config.json").exists() else None
        history.begin(self.path, after_step, values, environment, earlier)
        write_atomically(self.path / "config.json", json_text(values, indent=2) + "\n")
        write_atomically(self.path / "env.json", json_text(environment, indent=2) + "\n")
        if self._has(tokenizer):
            clear_replaced(self.path / "tokenizer")
        else:
            replace_folder(self.path / "tokenizer", tokenizer.save)
        for mark in ("DONE", "FAILED"):
            (self.path / mark).unlink(missing_ok=True)

    def _has(self, tokenizer: Tokenizer) -> bool:
        """Whether its folder holds this tokenizer, whole."""
        try:
            return self.load_tokenizer().fingerprint == tokenizer.fingerprint
        except (InputError, OSError, ValueError):  # none there, or damaged
            return False

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from training in this directory. The system releases the lock when the process ends; a
        store's ends with the process, or a minute after it: see `storage.lease`.

        Raises:
          InputError: another process trains there.
        """
        if isinstance(self.path, StorePath):
            with lease.held(self.path, lost=lambda reason: end_at_once(1, reason)):
                yield
            return
        holding = "process {} is training in {}: wait for it, stop it, or give another --workdir"
        with hold_lock(self.path, holding):
            yield

    def check_shared(self) -> None:
        """While process 0 holds the lock, makes sure that the others see the same directory.

        Raises:
          InputError: this process does not.
        """
        holder = distributed.agreed(self._holder)
        deadline = time.monotonic() + SHARED_SECONDS
        while self._holder() != holder:
            if time.monotonic() > deadline:
                raise InputError(
                    f"process {jax.process_index()} does not see the {self.path} of process 0: the run directory must "
                    "be on a file system that all processes share"
                )
            time.sleep(0.2)

    def _holder(self) -> str | None:
        """What tells this holder of the lock from any other."""
        if isinstance(self.path, StorePath):
            return lease.holder(self.path)
        lock = self.path / "LOCK"
        return lock.read_text() if lock.is_file() else None

    @property
    def is_done(self) -> bool:
        return (self.path / "DONE").exists()

    def done(self, text: str) -> None:
        write_atomically(self.path / "DONE", text + "\n")
        (self.path / "FAILED").unlink(missing_ok=True)

    def failed(self, reason: str) -> None:
        write_atomically(self.path / "FAILED", reason + "\n")


@contextlib.contextmanager
def hold_lock(folder: Path, refusal: str) -> Iterator[None]:
    """Holds FOLDER/LOCK, which the system releases when the process ends.

    Args:
      refusal: the message if another process holds it, with {} for that process and for the folder.

    Raises:
      InputError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "LOCK").open("a+") as file:
        try:
            _lock(file)
        except BlockingIOError:
            file.seek(0)
            raise InputError(refusal.format(file.read().strip() or "?", folder)) from None
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                raise
            warnings.warn(
                f"{folder} is on a file system without locks: do not start two trainings there",
                InputWarning,
                stacklevel=4,
            )
        file.truncate(0)
        file.write(f"{os.getpid()} on {platform.node()}\n")
        file.flush()
        yield


def _lock(file: IO[str]) -> None:
    """Raises BlockingIOError if the lock is held for longer than `is_locked` holds it."""
    for _ in range(LOCK_ATTEMPTS):
        with contextlib.suppress(BlockingIOError):
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_locked(folder: Path) -> bool:
    """Whether a process holds the lock of a run directory."""
    if isinstance(folder, StorePath):
        return lease.holder(folder) is not None
    try:
        with (folder / "LOCK").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # no such file, or a file system without locks
        pass
    return False


def _begun(config: ExperimentConfig, step: int) -> list[tuple[int, ...]]:
    """For each phase that took one of the first `step` steps: where it begins, and the shapes of its batches."""
    return [(phase.start, *phase.shape) for phase in config.training_phases if phase.start < step]


def _check_skipped(old: ExperimentConfig, new: ExperimentConfig, step: int) -> None:
    """Raises InputError if the new configuration gives one of the first `step` steps another batch than it took."""
    before, now = (skipped.parse(getattr(config.data, "skip_batches", "")) for config in (old, new))
    if before == now:
        return
    for phase in new.training_phases:
        for taken in range(phase.start + 1, min(phase.stop, step) + 1):
            if (had := skipped.batch_of(taken, before, phase.start)) != skipped.batch_of(taken, now, phase.start):
                raise InputError(
                    f"data.skip_batches={new.data.skip_batches!r} gives step {taken} a batch other than {had}, which "
                    f"it took: to continue from before it, move away the checkpoints of step {taken} and later; the "
                    f"newest is of step {step}"
                )


def _revision() -> str | None:
    """The git revision of this package's checkout; None if there is none, or git is not installed."""
    command = ["git", "describe", "--always", "--dirty"]
    try:
        git = subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return git.stdout.strip() or None


def _environment() -> dict[str, object]:
    packages = ("tx_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "tokenizers", "numpy")
    versions = {}
    for name in packages:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:  # run from a checkout that is not installed
            versions[name] = None
    return {
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": sys.argv,
        "folder": os.getcwd(),
        "revision": _revision(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "devices": [f"{d.platform}: {d.device_kind}" for d in jax.local_devices()],
        "processes": jax.process_count(),
    }

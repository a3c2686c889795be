"""A sweep's directory: one run directory for each trial, and

sweep.json        what is swept: another sweep is refused
LOCK              the process that runs the sweep
results.json, results.csv, trials.csv, sweep.png    see `results`, `plots`

The run directories alone tell how far the sweep is: there is no other record that could contradict them. Beside what a
run leaves, a trial's holds

trial.json        its values, written before it starts
log.txt           what its training said
FAILED, PRUNED    why it failed, if the training could not write that itself, or why it was given up
"""

import contextlib
import enum
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tx_jax.config import differences
from tx_jax.errors import InputError
from tx_jax.files import json_text, write_atomically
from tx_jax.runs.run_dir import hold_lock, is_locked
from tx_jax.sweeps.settings import Trial, trial

DEFINITION, TRIAL, LOG = "sweep.json", "trial.json", "log.txt"


class State(enum.Enum):
    """What a run directory tells about its trial."""

    NEW = "not started"
    STOPPED = "not finished"  # killed or stopped: it continues from its last checkpoint
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    PRUNED = "given up"


class SweepDir:
    """The directory; the lock of a whole sweep must be in this machine's file system."""

    def __init__(self, path: Path):
        self.path = path

    def folder(self, one: Trial) -> Path:
        return self.path / one.name

    def begin(self, definition: Mapping[str, Any]) -> None:
        """Writes sweep.json, or compares with the one that is there.

        Args:
          definition: plain values that make two sweeps the same or not.

        Raises:
          InputError: the directory holds another sweep, with what differs, or a run.
        """
        plain = json.loads(json_text(definition))
        file = self.path / DEFINITION
        if (self.path / "config.json").exists():
            raise InputError(f"{self.path} holds a run: give another --workdir")
        if file.exists():
            if different := differences(_read(file), plain):
                raise InputError(
                    f"{self.path} holds another sweep: {'; '.join(different)}. Give what it was started with, or "
                    "another --workdir"
                )
            return
        self.path.mkdir(parents=True, exist_ok=True)
        write_atomically(file, json_text(plain, indent=2) + "\n")

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Keeps other processes from running this sweep. Raises InputError if one does."""
        return hold_lock(self.path, "process {} runs the sweep in {}: wait for it, stop it, or give another --workdir")

    def state(self, one: Trial) -> State:
        folder = self.folder(one)
        if not folder.is_dir():
            return State.NEW
        if is_locked(folder):
            return State.RUNNING
        if (folder / "PRUNED").exists():
            return State.PRUNED
        if (folder / "FAILED").exists():
            return State.FAILED
        if (folder / "DONE").exists() and ((folder / "evaluation.json").exists() or not _ends_with_evaluation(folder)):
            return State.DONE
        return State.STOPPED if (folder / "config.json").exists() else State.NEW

    def prepare(self, one: Trial) -> Path:
        """The trial's folder, before its training starts: without an earlier failure."""
        folder = self.folder(one)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "FAILED").unlink(missing_ok=True)
        write_atomically(folder / TRIAL, json_text({"overrides": one.overrides}, indent=2) + "\n")
        return folder

    def mark(self, one: Trial, state: State, reason: str) -> None:
        """Marks a trial as failed or given up. A training that could say itself why it failed is left its words."""
        file = self.folder(one) / state.name
        if not file.exists():
            write_atomically(file, reason + "\n")

    def reason(self, one: Trial) -> str:
        """Why a trial failed or was given up, in a line; "" for others."""
        for name in ("FAILED", "PRUNED"):
            with contextlib.suppress(OSError):
                return " ".join((self.folder(one) / name).read_text(errors="replace").split())
        return ""

    def last_line(self, one: Trial) -> str:
        """The last line that the trial's training said."""
        try:
            text = (self.folder(one) / LOG).read_text(errors="replace")
        except OSError:
            return ""
        return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")

    def begun(self) -> Iterator[Trial]:
        """The trials that have folders, by name; their settings are those of their trial.json."""
        for file in sorted(self.path.glob(f"*/{TRIAL}")):
            yield trial(_read(file)["overrides"], file.parent.name)


def _ends_with_evaluation(folder: Path) -> bool:
    config = _read(folder / "config.json")
    return "train" in config["data"] and config["training"].get("final_eval_batches", 0) >= 0


def _read(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is damaged: {error}") from None

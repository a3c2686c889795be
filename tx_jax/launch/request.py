"""What is asked for: a slice, a command, and the record of both in the run directory."""

import dataclasses
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tx_jax.files import json_text
from tx_jax.launch.accelerators import RUNTIMES, chip_of, flags_of
from tx_jax.launch.gcloud import Slice
from tx_jax.launch.snapshot import Snapshot

PYTHON = "3.12"  # of the workers
EXTRAS = ("tpu", "gcs")
RECORD, PATCH, ARCHIVE, COMMAND, SCRIPT, VARIABLES = (
    "launch.json",
    "changes.patch",
    "tree.tar.gz",
    "command.sh",
    "worker.sh",
    "variables.sh",
)


@dataclasses.dataclass(frozen=True)
class Request:
    """A run on a slice.

    Attributes:
      tier: "spot", "reserved", "guaranteed" or "" (on demand).
      runtime: the version of the VM's image; "": the accelerator's.
      valid_until: how long to wait for the resource, such as 12h; "": without end.
      arguments: those of experiments.train.
      workdir: the run directory, an address.
      final_evaluation: whether the run ends with evaluation.json.
      extras: what is installed besides, such as tpu.
      variables: environment variables of the run; they are in no log and no record.
    """

    slice: Slice
    accelerator: str
    arguments: tuple[str, ...]
    workdir: str
    tier: str = ""
    runtime: str = ""
    valid_until: str = ""
    service_account: str = ""
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    final_evaluation: bool = False
    extras: tuple[str, ...] = EXTRAS
    variables: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)

    @property
    def runtime_version(self) -> str:
        return self.runtime or RUNTIMES[chip_of(self.accelerator)]

    @property
    def command(self) -> str:
        """In the form that a shell takes."""
        return shlex.join(["python", "-m", "experiments.train", *self.arguments])

    def create_flags(self) -> list[str]:
        return [
            *flags_of(self.accelerator),
            f"--runtime-version={self.runtime_version}",
            *([f"--{self.tier}"] if self.tier else []),
            *([f"--valid-until-duration={self.valid_until}"] if self.valid_until else []),
            *([f"--service-account={self.service_account}"] if self.service_account else []),
        ]

    @property
    def identity(self) -> dict[str, Any]:
        """What makes two launches the same, without the variables' values."""
        return {
            "command": self.command,
            "accelerator": self.accelerator,
            "runtime_version": self.runtime_version,
            "tier": self.tier or "on demand",
            "variables": sorted(self.variables),
        }

    def record(self, snapshot: Snapshot) -> dict[str, Any]:
        """What is kept of a launch."""
        return {
            **self.identity,
            "revision": snapshot.revision,
            "changed": bool(snapshot.patch),
            "untracked": snapshot.untracked,
            "zone": self.slice.zone,
            "python": PYTHON,
            "extras": self.extras,
        }

    def write_record(self, snapshot: Snapshot, folder: Path) -> list[Path]:
        """Writes what is kept in the run directory. Returns the files."""
        files = [folder / name for name in (RECORD, PATCH, ARCHIVE)]
        files[0].write_text(json_text(self.record(snapshot), indent=2) + "\n")
        files[1].write_bytes(snapshot.patch)
        snapshot.write_archive(files[2])
        return files

    def write_for_workers(self, folder: Path, launch: str) -> list[Path]:
        """Writes what the workers get besides the archive. Returns all files that they get."""
        (folder / COMMAND).write_text(f"exec {self.command}\n")
        (folder / "id").write_text(f"{launch}\n")
        (folder / SCRIPT).write_bytes((Path(__file__).parent / SCRIPT).read_bytes())
        names = [ARCHIVE, COMMAND, "id", SCRIPT]
        if self.variables:
            lines = [f"export {name}={shlex.quote(value)}\n" for name, value in self.variables.items()]
            (folder / VARIABLES).touch(mode=0o600)
            (folder / VARIABLES).write_text("".join(lines))
            names.append(VARIABLES)
        return [folder / name for name in names]


def differences(record: Mapping[str, Any], identity: Mapping[str, Any]) -> list[str]:
    """A line for each of the keys in which a record is not what is asked for now."""
    return [f"{key}: {record.get(key)!r} -> {x!r}" for key, x in identity.items() if record.get(key) != x]

"""The commands of `gcloud` that the launcher needs, and what comes of them. GA flags only."""

import dataclasses
import json
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tx_jax.errors import InputError
from tx_jax.launch.lifecycle import Resource

QUEUED = ("compute", "tpus", "queued-resources")
VM = ("compute", "tpus", "tpu-vm")
LABEL = "tx_jax-launch"  # on each resource that the launcher made: which record in the run directory it belongs to
QUICK_SECONDS = 300.0  # in which what only looks has its answer
_LOGGED_OUT = ("do not currently have an active account", "no credentialed accounts", "gcloud auth login")


class GcloudFailed(Exception):
    """A command failed. The message is gcloud's, in one line."""

    @property
    def is_absent(self) -> bool:
        """Whether what was asked about is not there."""
        return "NOT_FOUND" in str(self) or "not found" in str(self).lower()


@dataclasses.dataclass(frozen=True)
class Slice:
    """Which queued resource, where.

    Attributes:
      project: "": that of gcloud's configuration.
      internal_ip: whether its VMs have no external address.
    """

    name: str
    zone: str
    project: str = ""
    internal_ip: bool = False

    @property
    def _place(self) -> list[str]:
        return [f"--zone={self.zone}", *([f"--project={self.project}"] if self.project else [])]

    def describe(self) -> list[str]:
        return [*QUEUED, "describe", self.name, *self._place, "--format=json"]

    def describe_vm(self) -> list[str]:
        return [*VM, "describe", self.name, *self._place, "--format=json"]

    def delete(self) -> list[str]:
        return [*QUEUED, "delete", self.name, *self._place, "--force", "--quiet"]

    def create(self, more: Sequence[str], labels: Mapping[str, str]) -> list[str]:
        given = ",".join(f"{key}={value}" for key, value in labels.items())
        network = ["--internal-ips"] if self.internal_ip else []
        return [*QUEUED, "create", self.name, f"--node-id={self.name}", *self._place, *more, f"--labels={given}",
                *network, "--quiet"]  # fmt: skip

    def ssh(self, command: str, worker: str = "all") -> list[str]:
        by = ["--internal-ip"] if self.internal_ip else []
        with_command = [f"--command={command}"] if command else []
        return [*VM, "ssh", self.name, *self._place, f"--worker={worker}", *by, *with_command, "--quiet"]

    def copy(self, files: Sequence[str], folder: str) -> list[str]:
        by = ["--internal-ip"] if self.internal_ip else []
        return [*VM, "scp", *files, f"{self.name}:{folder}", *self._place, "--worker=all", *by, "--quiet"]

    def list_all(self) -> list[str]:
        return [*QUEUED, "list", *self._place, "--format=json"]

    def accelerators(self) -> list[str]:
        return ["compute", "tpus", "accelerator-types", "list", *self._place, "--format=value(type)"]


class Gcloud:
    """Runs the commands.

    Args:
      show: called with each command, in the form that a shell takes, instead of running it; None: they are run.
    """

    def __init__(self, show: Callable[[str], None] | None = None):
        self._show = show

    @property
    def only_shows(self) -> bool:
        return self._show is not None

    def run(self, arguments: Sequence[str], timeout: float = 3600.0) -> str:
        """What the command prints.

        Raises:
          GcloudFailed: it failed, or did not answer in so many seconds.
          InputError: gcloud is not there, or nobody is logged in.
        """
        if self._show is not None:
            self._show(shlex.join(["gcloud", *arguments]))
            return ""
        command = [_program(), *arguments]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=timeout)
        except subprocess.TimeoutExpired:
            raise GcloudFailed(f"gcloud {' '.join(arguments[:4])} did not answer in {timeout:.0f} s") from None
        output, errors = (stream.decode(errors="surrogateescape") for stream in (done.stdout, done.stderr))
        if done.returncode:
            raise _failure(errors, output, done.returncode)
        return output

    def json(self, arguments: Sequence[str]) -> Any:
        """The same for commands that print JSON, quickly; None where they are only shown."""
        text = self.run(arguments, QUICK_SECONDS)
        try:
            return json.loads(text) if text.strip() else None
        except ValueError:
            raise GcloudFailed(f"gcloud {' '.join(arguments[:4])} printed no JSON: {text[:200]!r}") from None

    def interactive(self, arguments: Sequence[str]) -> int:
        """Runs a command that has this terminal. Returns its exit code."""
        if self._show is not None:
            self.run(arguments)
            return 0
        return subprocess.run([_program(), *arguments], check=False).returncode

    def check(self) -> None:
        """Raises InputError if gcloud is not there, or nobody is logged in."""
        account = self.run(["auth", "list", "--filter=status:ACTIVE", "--format=value(account)"])
        if not account.strip() and not self.only_shows:
            raise InputError("gcloud has no account: run gcloud auth login")


def _program() -> str:
    if (found := shutil.which("gcloud")) is None:
        raise InputError("there is no gcloud on PATH: install it from https://cloud.google.com/sdk/docs/install")
    return found


def _failure(errors: str, output: str, code: int) -> Exception:
    """The exception for a command that failed: what gcloud says after ERROR, or else the last line."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if line.startswith("ERROR:")), max(len(lines) - 1, 0))
    text = " ".join(lines[start:])[:600] or " ".join(output.split())[-300:] or f"exit code {code}"
    if any(sign in errors.lower() for sign in _LOGGED_OUT):
        return InputError(f"gcloud has no usable account ({text[:200]}): run gcloud auth login")
    return GcloudFailed(text)


def resource_state(description: Mapping[str, Any] | None) -> Resource:
    """The state in what `describe` prints; one that this version does not know is UNKNOWN."""
    if not description:
        return Resource.NONE
    name = description.get("state", {}).get("state", "STATE_UNSPECIFIED")
    return Resource(name) if name in {one.value for one in Resource} else Resource.UNKNOWN


def reason(description: Mapping[str, Any]) -> str:
    """Why a resource is in its state, as far as the API says."""
    state = description.get("state", {})
    message = state.get("failedData", {}).get("error", {}).get("message", "")
    return " ".join((message or state.get("stateInitiator", "")).split())


def labels_of(description: Mapping[str, Any]) -> dict[str, str]:
    """The labels of a resource, which its nodes have."""
    specs = description.get("tpu", {}).get("nodeSpec", [])
    return {key: value for spec in specs for key, value in spec.get("node", {}).get("labels", {}).items()}


def workers_of(vm: Mapping[str, Any]) -> int:
    """How many workers a TPU VM has."""
    return max(len(vm.get("networkEndpoints", [])), 1)

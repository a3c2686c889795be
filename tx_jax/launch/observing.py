"""The state of a resource, of the workers on it, and of the run directory, as `gcloud` tells them."""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any

from tx_jax.launch.gcloud import QUICK_SECONDS, Gcloud, GcloudFailed, Slice, resource_state, workers_of
from tx_jax.launch.lifecycle import Resource, Run, run_of
from tx_jax.launch.request import RECORD, SCRIPT, Request

UNREACHABLE_LOOKS = 10  # in a row, after which a VM counts as lost although it is said to be there
OVERDUE_SECONDS = 300  # for which a worker may still run after another has ended
LAST_BYTES = 4000  # of a log that is there already
_GONE = {"PREEMPTED", "TERMINATED", "STOPPED", "STOPPING", "DELETING", "HIDING", "HIDDEN"}
WORKER = re.compile(r"^tx_jax-worker (\S+) (\d+) (.+)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Seen:
    """One look.

    Attributes:
      description: what gcloud says of the resource; None if there is none.
      workers: what each worker says of itself.
      log_bytes: of worker 0's log, or of the longest.
    """

    resource: Resource
    run: Run
    description: dict[str, Any] | None
    workers: tuple[str, ...] = ()
    log_bytes: int = 0


def folder_of(slice_: Slice) -> str:
    """The folder of a launch on its workers, in their home."""
    return f"tx_jax-launch/{slice_.name}"


def on_worker(slice_: Slice, *words: str) -> str:
    """The command by which a worker does what `worker.sh` can."""
    return " ".join(["bash", f"{folder_of(slice_)}/{SCRIPT}", *words])


def status_command(slice_: Slice) -> str:
    script = f"{folder_of(slice_)}/{SCRIPT}"
    return f"if [ -f {script} ]; then bash {script} status; else echo tx_jax-worker - 0 none; fi"


class Observer:
    """Looks at a launch.

    Attributes:
      done_before: the step of the last checkpoint of a shorter run in the same directory, whose DONE is not this one's;
        -1: there was none.
    """

    def __init__(self, request: Request, gcloud: Gcloud, clock: Callable[[], float] = time.monotonic):
        self._request, self._gcloud, self._clock = request, gcloud, clock
        self._unreachable, self._workers = 0, 0
        self._partly_since: float | None = None
        self.done_before = -1

    def forget(self) -> None:
        """The VM is to be another one."""
        self._unreachable, self._workers, self._partly_since = 0, 0, None

    def look(self) -> Seen:
        """Raises GcloudFailed if gcloud cannot tell."""
        description = self.describe()
        resource = resource_state(description)
        if resource == Resource.ACTIVE:
            return self._active(description)
        is_over = resource in (Resource.NONE, Resource.SUSPENDED, Resource.FAILED)
        run = Run.DONE if is_over and self.is_done() else Run.NOT_STARTED
        return Seen(resource, run, description)

    def describe(self) -> dict[str, Any] | None:
        try:
            return self._gcloud.json(self._request.slice.describe())
        except GcloudFailed as error:
            if error.is_absent:
                return None
            raise

    def _active(self, description: dict[str, Any] | None) -> Seen:
        slice_ = self._request.slice
        try:
            self._workers = self._workers or workers_of(self._gcloud.json(slice_.describe_vm()) or {})
            said = WORKER.findall(self._gcloud.run(slice_.ssh(status_command(slice_)), QUICK_SECONDS))
            problem = "" if len(said) >= self._workers else f"{len(said)} of {self._workers} workers answer"
        except GcloudFailed as error:
            said, problem = [], str(error)
        if problem:
            return Seen(Resource.ACTIVE, self._unreachable_run(), description, (problem,))
        self._unreachable = 0
        states = tuple(state for _, _, state in said)
        return Seen(
            Resource.ACTIVE, run_of(states, overdue=self._overdue(states)), description, states,
            max(int(size) for _, size, _ in said),
        )  # fmt: skip

    def _unreachable_run(self) -> Run:
        """Whether a VM that does not answer is gone."""
        try:
            vm = self._gcloud.json(self._request.slice.describe_vm()) or {}
            if vm.get("state") in _GONE:
                return Run.LOST
        except GcloudFailed as error:
            if error.is_absent:
                return Run.LOST
        self._unreachable += 1
        return Run.LOST if self._unreachable >= UNREACHABLE_LOOKS else Run.UNREACHABLE

    def _overdue(self, states: tuple[str, ...]) -> bool:
        partly = any(state.endswith("running") for state in states) and any("exit" in state for state in states)
        if not partly:
            self._partly_since = None
            return False
        self._partly_since = self._clock() if self._partly_since is None else self._partly_since
        return self._clock() - self._partly_since > OVERDUE_SECONDS

    def log(self, start: int) -> bytes:
        """Worker 0's log from a byte on, counted from 1; as much as there is, b"" where it does not answer."""
        slice_ = self._request.slice
        try:
            text = self._gcloud.run(slice_.ssh(on_worker(slice_, "log", str(start)), worker="0"), QUICK_SECONDS)
        except GcloudFailed:
            return b""
        return text.encode(errors="surrogateescape")

    def is_done(self) -> bool:
        """Whether the run directory says that nothing is left to do."""
        names = {name.rstrip("/").rpartition("/")[2] for name in self._listed(f"{self._request.workdir}/")}
        if "DONE" not in names or (self._request.final_evaluation and "evaluation.json" not in names):
            return False
        return self.done_before < 0 or self.step() > self.done_before

    def last_record(self) -> dict[str, Any]:
        """That of the last launch in the run directory; {} if there is none."""
        launches = self._listed(f"{self._request.workdir}/launch/")
        return self.record(max(launches).rstrip("/").rpartition("/")[2]) if launches else {}

    def record(self, launch: str) -> dict[str, Any]:
        """That of a launch; {} if there is none."""
        try:
            return self._gcloud.json(["storage", "cat", f"{self._request.workdir}/launch/{launch}/{RECORD}"]) or {}
        except GcloudFailed:
            return {}

    def step(self) -> int:
        """The step of the newest checkpoint that is whole; 0 if there is none."""
        found = self._listed(f"{self._request.workdir}/checkpoints/*/commit_success.txt")
        steps = [name.split("/")[-2] for name in found]
        return max((int(step) for step in steps if step.isdigit()), default=0)

    def _listed(self, address: str) -> list[str]:
        try:
            return self._gcloud.run(["storage", "ls", address], QUICK_SECONDS).split()
        except GcloudFailed as error:
            if "matched no objects" in str(error) or error.is_absent:
                return []
            raise

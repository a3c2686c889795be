"""Trials run by processes of this machine, several at a time.

One thread does everything, and must be that which the process began with: the trials are stopped when it ends.
"""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO, Protocol

from tx_jax import shipped
from tx_jax.sweeps.devices import Share
from tx_jax.sweeps.settings import Trial
from tx_jax.sweeps.sweep_dir import LOG, State, SweepDir

POLL_SECONDS = 0.2
PRUNE_SECONDS = 2.0  # between looks at the curve of a trial
EXIT_STOPPED = 75


class Source(Protocol):
    """Where the trials come from."""

    def next(self) -> Trial | None:
        """The next trial to run; None if there is none (now, as long as others run)."""

    def waits(self) -> bool:
        """Whether `next` may have more later though nothing of this sweep runs here."""

    def ended(self, trial: Trial, state: State) -> None:
        """A trial that `next` gave has ended."""

    def verdict(self, trial: Trial) -> str:
        """Why a trial that runs is to be given up; "" if it is not."""


class Process(Protocol):
    """What is needed of `subprocess.Popen`."""

    def poll(self) -> int | None: ...

    def send_signal(self, sig: int) -> None: ...

    @property
    def pid(self) -> int: ...


@dataclasses.dataclass
class _Running:
    trial: Trial
    process: Process
    share: Share
    began: float
    looked: float
    pruned: str = ""


Command = Callable[[Trial], Sequence[str]]
Start = Callable[[Sequence[str], Share, IO[bytes]], Process]
Report = Callable[[Trial, State, str], None]  # a trial has started (State.RUNNING) or ended, with a few words


def run(
    directory: SweepDir,
    source: Source,
    shares: Sequence[Share],
    command: Command,
    report: Report,
    stopping: Callable[[], bool],
    start: Start | None = None,
) -> None:
    """Runs trials until the source has no more. Where `stopping` says so, all are asked to save and end.

    Args:
      shares: one for each worker.
      command: of a trial's training.
      start: starts a process, whose output goes to a file; by default one of this machine.
    """
    start = start or start_process
    free, running, told = list(shares), [], False
    try:
        while True:
            while free and not stopping() and (trial := source.next()) is not None:
                running.append(_begin(directory, trial, free.pop(0), command, start))
                report(trial, State.RUNNING, f"process {running[-1].process.pid}, {running[-1].share.text}")
            if not running and (stopping() or not source.waits()):
                return
            if stopping() and not told:
                told = True
                _stop(running)
            time.sleep(POLL_SECONDS)
            for one in list(running):
                code = one.process.poll()
                if code is None:
                    _look(source, one)
                    continue
                running.remove(one)
                free.append(one.share)
                state, why = _outcome(directory, one, code)
                report(one.trial, state, f"{time.monotonic() - one.began:.0f} s{why and f': {why}'}")
                source.ended(one.trial, state)
    finally:  # whatever ends the sweep
        _stop(running)
        while any(one.process.poll() is None for one in running):
            time.sleep(POLL_SECONDS)


def _begin(directory: SweepDir, trial: Trial, share: Share, command: Command, start: Start) -> _Running:
    with (directory.prepare(trial) / LOG).open("ab") as log:
        process = start(command(trial), share, log)
    now = time.monotonic()
    return _Running(trial, process, share, now, now)


def _stop(running: Sequence[_Running]) -> None:
    for one in running:
        if one.process.poll() is None:
            one.process.send_signal(signal.SIGTERM)


def _look(source: Source, one: _Running) -> None:
    """Asks whether to give the trial up, now and then."""
    now = time.monotonic()
    if one.pruned or now - one.looked < PRUNE_SECONDS:
        return
    one.looked = now
    if reason := source.verdict(one.trial):
        one.pruned = reason
        one.process.send_signal(signal.SIGTERM)


def _outcome(directory: SweepDir, one: _Running, code: int) -> tuple[State, str]:
    """The state of a trial whose process has ended, marked in its directory, and why."""
    state = directory.state(one.trial)
    if state == State.DONE and code == 0:
        return state, ""
    if one.pruned and code in (0, EXIT_STOPPED, -signal.SIGTERM):
        directory.mark(one.trial, State.PRUNED, one.pruned)
        return State.PRUNED, one.pruned
    if code == EXIT_STOPPED or code < 0:  # a later start continues it
        by = "stopped" if code > 0 or code == -signal.SIGTERM else f"killed by {signal.Signals(-code).name}"
        return State.STOPPED, f"{by}; the same command continues it"
    if state == State.RUNNING:  # another process has it
        return State.RUNNING, directory.last_line(one.trial)
    reason = directory.last_line(one.trial) or f"exit code {code}"
    if code == 0:
        reason = "the training ended, but is not done"
    directory.mark(one.trial, State.FAILED, reason)
    return State.FAILED, directory.reason(one.trial)


def start_process(command: Sequence[str], share: Share, log: IO[bytes]) -> Process:
    """A process in a session of its own, so that Ctrl-C reaches it only through this one, and which is asked to stop if
    this process dies: see `confined`."""
    cores = ",".join(map(str, sorted(share.cores or ())))
    return subprocess.Popen(
        [sys.executable, "-m", "tx_jax.sweeps.confined", str(os.getpid()), cores, *command],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
        env=_environment(share.environment),
        start_new_session=True,
    )


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """This process's variables, and where `experiments` is found from any working directory."""
    root = str(shipped.ROOT)
    paths = [root, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1", **more}

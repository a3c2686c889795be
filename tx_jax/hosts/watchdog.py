"""Ends a run whose processes cannot continue together. Without it, a process that fails leaves the others in a
collective forever, or for minutes at the barrier where jax's processes disconnect.

Three things end a run. The last line of every process then names the process at fault and what it was doing:

- a process fails, for whatever reason, and says so;
- a process gives no sign of life: it was killed or stopped, or its host is gone. The signs come from a thread, so
  they continue however long a compilation or a step takes;
- something with a time limit, such as waiting for data, exceeds it.

Time is counted in the watching thread's own beats, so that the pause of a suspended machine counts as one.
"""

import contextlib
import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

import jax

from tx_jax.hosts import distributed

T = TypeVar("T")

BEAT_SECONDS = 1.0
LOST_SECONDS = 8  # of silence are enough if a collective has already failed
FAREWELL_SECONDS = 5  # how long process 0, which holds the store, waits for the others to read why they end


class _Activity:
    def __init__(self, name: str, limit: int = 0):
        self.name, self.limit = name, limit


_activity = _Activity("starting")
_tell: Callable[[str], None] | None = None


@contextlib.contextmanager
def doing(name: str, *, limit: int = 0) -> Iterator[None]:
    """Records what the main thread is doing. After an exception the record stays, to say what was being done, but
    without its limit: a save in progress may still be finished.

    Args:
      limit: seconds after which the run is ended; 0 for none.
    """
    global _activity
    outer, _activity = _activity, _Activity(name, limit)
    try:
        yield
    except BaseException:
        _activity.limit = 0
        raise
    _activity = outer


def waited_for(batches: Iterable[T], limit: int) -> Iterator[T]:
    """The same batches; waiting for each is recorded as an activity."""
    iterator = iter(batches)
    while True:
        with doing("waiting for data", limit=limit):
            try:
                batch = next(iterator)
            except StopIteration:
                return
        yield batch


@contextlib.contextmanager
def telling(tell: Callable[[str], None]) -> Iterator[None]:
    """Process 0 tells why the run ended, also after an exception, which may only be a consequence."""
    global _tell
    outer, _tell = _tell, tell
    yield
    _tell = outer


def end_at_once(code: int, reason: str) -> NoReturn:
    """Ends this process, from any thread, without finishing what it is doing; the watchdogs of others notice."""
    with contextlib.suppress(OSError):
        print(f"error: {reason}", file=sys.stderr, flush=True)
    os._exit(code)


class Watchdog:
    """Watches while it is entered. Leaving it waits for all processes and disconnects from them."""

    def __init__(self, *, silence_seconds: int, explain: Callable[[BaseException], tuple[int, str] | None]):
        """
        Args:
          silence_seconds: how long a process may give no sign of life.
          explain: returns the exit code and a line for the user for an expected exception; None for any other.
        """
        self._silence, self._explain = silence_seconds / BEAT_SECONDS, explain
        self._rank, self._count = jax.process_index(), jax.process_count()
        self._parted, self._ending = threading.Event(), threading.Lock()
        targets = [self._watch] if self._count == 1 else [self._watch, self._exchange]
        self._threads = [threading.Thread(target=target, name="watchdog", daemon=True) for target in targets]
        self._unanswered = 0  # beats since the store last answered
        self._collective_failed = False

    def __enter__(self) -> "Watchdog":
        if self._count > 1:
            # If process 0 is gone, jax aborts with the reason; the stacks of Python's threads would bury it.
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None:
            with doing("waiting for the other processes to end"):
                distributed.agreed(lambda: None)
        elif self._count > 1:
            self._fail_with(error)
        self._parted.set()
        for thread in self._threads:
            thread.join(FAREWELL_SECONDS)
        distributed.stop()

    def _fail_with(self, error: BaseException) -> NoReturn:
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else 1
            self.fail(status or 1, f"it called sys.exit({error.code!r})")
        if (explained := self._explain(error)) is not None:
            self.fail(explained[0], explained[1].removeprefix("error: "))
        if isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" not in str(error):
            # Most likely a collective that failed because another process is gone: that process is the reason.
            self._collective_failed = True
            time.sleep(self._silence * BEAT_SECONDS + 2)
        traceback.print_exception(error)
        self.fail(1, f"{type(error).__name__}: {error}".split("\n")[0])

    def fail(self, code: int, reason: str, *, stacks: bool = False) -> NoReturn:
        """Ends all processes with this exit code, unless they are already ending for an earlier reason."""
        line = f"error: process {self._rank} of {self._count}, {_activity.name}: {reason}"
        verdict = {"code": code, "line": line, "stacks": stacks}
        self._end(distributed.first_said("verdict", verdict) if self._count > 1 else verdict)

    def _end(self, verdict: dict) -> NoReturn:
        with self._ending:  # never left
            if verdict["stacks"]:
                faulthandler.dump_traceback(all_threads=True)
            if self._rank == 0 and _tell is not None:
                with contextlib.suppress(OSError):
                    _tell(verdict["line"].removeprefix("error: "))
            with contextlib.suppress(OSError):  # the parent may be gone, and the pipe closed
                print(verdict["line"], file=sys.stderr, flush=True)
                sys.stdout.flush()
            if self._count > 1 and self._unanswered < FAREWELL_SECONDS / BEAT_SECONDS:  # else it would not return
                with contextlib.suppress(jax.errors.JaxRuntimeError):
                    distributed.say(f"ended/{self._rank}", "")
                    beats = FAREWELL_SECONDS / 0.1 if self._rank == 0 else 0
                    while beats > 0 and len(distributed.said("ended")) < self._count:
                        self._parted.wait(0.1)
                        beats -= 1
            os._exit(verdict["code"])

    def _watch(self) -> None:
        """The checks that need no other process, and so continue if the store does not answer."""
        seen, beats = _activity, 0
        while not self._parted.wait(BEAT_SECONDS):
            seen, beats = (seen, beats + 1) if seen is _activity else (_activity, 0)
            if seen.limit and beats * BEAT_SECONDS >= seen.limit:
                self.fail(1, f"no batch came for {seen.limit} s (training.stall_seconds)", stacks=True)
            self._unanswered += 1
            if self._count > 1 and self._unanswered > self._silence:
                seconds = round(self._silence * BEAT_SECONDS)
                line = (
                    f"error: process 0 of {self._count} has not answered for {seconds} s: it is stopped or unreachable"
                )
                self._end(
                    {"code": 1, "line": f"{line}; seen by process {self._rank}, {_activity.name}", "stacks": True}
                )

    def _exchange(self) -> None:
        """Gives signs of life, learns of failures and, on process 0, looks for the signs of the others."""
        unheard = dict.fromkeys(range(self._count), "0 starting")  # may be lost before they give their first sign
        beat, silent, last = 0, [0] * self._count, [""] * self._count
        while not self._parted.wait(BEAT_SECONDS):
            beat += 1
            try:
                distributed.say(f"alive/{self._rank}", f"{beat} {_activity.name}")
                if verdict := distributed.heard("verdict"):
                    self._end(verdict)
                signs = unheard | distributed.said("alive") if self._rank == 0 else {}
            except jax.errors.JaxRuntimeError:
                continue
            self._unanswered = 0
            for rank, sign in signs.items():
                silent[rank], last[rank] = (silent[rank] + 1, sign) if sign == last[rank] else (0, sign)
                limit = min(self._silence, LOST_SECONDS / BEAT_SECONDS) if self._collective_failed else self._silence
                if silent[rank] > limit:
                    self._bury(rank, last[rank].partition(" ")[2], round(silent[rank] * BEAT_SECONDS))

    def _bury(self, rank: int, doing: str, seconds: int) -> NoReturn:
        line = f"error: process {rank} of {self._count}, {doing}: it gave no sign of life for {seconds} s: killed"
        verdict = {"code": 1, "line": f"{line}, stopped, or its host is gone", "stacks": True}
        self._end(distributed.first_said("verdict", verdict))

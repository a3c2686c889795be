"""Stopping on SIGTERM or Ctrl-C: the loop finishes its step, saves and leaves.

Any of several processes may get the signal; all stop after the same step. jax's preemption service ensures this: it
catches SIGTERM, tells all processes, and lets them continue to a point that none has passed.

jax is imported only when it is needed: the import takes seconds, during which signals must already be handled.
"""

import os
import signal
import sys
import threading
from types import FrameType


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""

    def __init__(self, signal_name: str, step: int):
        super().__init__(f"stopped by {signal_name} after step {step}, which is saved")
        self.step = step


class StopRequest:
    """While it is entered, SIGTERM and SIGINT request a stop instead of killing the process. If there is no launcher, a
    second signal acts as usual.

    Attributes:
      name: the name of the signal that was received.
    """

    def __init__(self):
        self.name: str | None = None
        self._previous: dict[int, object] = {}
        self._points, self._due, self._joined = 0, False, False

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def due(self) -> bool:
        """Whether to stop here. Every process must call this at the same points and gets the same answer. It costs less
        than a microsecond."""
        from tx_jax.hosts import distributed

        if not distributed.is_joined():
            return self.name is not None
        if not self._due:
            from jax.experimental import multihost_utils

            self._points += 1
            self._due = multihost_utils.reached_preemption_sync_point(self._points)
            if self._due and self.name is None:
                self.name = "SIGTERM"
        return self._due

    def joined(self) -> None:
        """Call it once the processes are connected: from now on jax handles SIGTERM. Passes on a signal that was
        received before."""
        from tx_jax.hosts import distributed

        self._joined = distributed.is_joined()
        if self.name and self._joined:
            os.kill(os.getpid(), signal.SIGTERM)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        if self._joined:  # Ctrl-C
            os.kill(os.getpid(), signal.SIGTERM)
        elif not getattr(sys.modules.get("jax.distributed"), "is_initialized", lambda: False)():
            self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

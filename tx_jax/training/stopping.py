"""Stopping on SIGTERM or Ctrl-C: the loop finishes its step, saves and leaves."""

import signal
import threading
from types import FrameType


class Stopped(Exception):
    """The run was asked to stop, and its state is saved."""

    def __init__(self, signal_name: str, step: int):
        super().__init__(f"stopped by {signal_name} after step {step}, which is saved")
        self.step = step


class StopRequest:
    """While it is entered, SIGTERM and SIGINT set `name` instead of killing; a second signal acts as usual."""

    def __init__(self):
        self.name: str | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.name = signal.Signals(number).name
        self._restore()

    def _restore(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()

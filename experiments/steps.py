"""Commands that a command runs one after the other."""

import signal
import subprocess
from collections.abc import Sequence


def run_step(command: Sequence[str]) -> int:
    """Runs the command and returns its exit code. A signal that stops this process stops the command, which saves."""
    child = subprocess.Popen(command)
    signal.signal(signal.SIGTERM, lambda number, frame: child.send_signal(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command as well
    try:
        return child.wait()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)

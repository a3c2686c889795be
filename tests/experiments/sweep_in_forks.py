"""`python -m experiments.sweep` whose trials are forks too, by tests/programs.py."""

import runpy
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tests import programs
from tx_jax.sweeps import workers
from tx_jax.sweeps.devices import Share


class Trial:
    """What `workers` needs of a process; what it said comes into its file when it has ended."""

    def __init__(self, command: Sequence[str], share: Share, log: IO[bytes]):
        self._process = programs.start(*command[2:], joined=True, environment=share.environment)  # after python -m
        self._log, self.pid, self.send_signal = Path(log.name), self._process.pid, self._process.send_signal

    def poll(self) -> int | None:
        before = self._process.returncode
        code = self._process.poll()
        if before is None and code is not None:
            with self._log.open("a") as file:
                file.write(self._process.communicate()[0])
        return code


if __name__ == "__main__":
    workers.start_process = Trial
    runpy.run_module("experiments.sweep", run_name="__main__", alter_sys=True)

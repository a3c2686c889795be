"""`python -m experiments.further_pretrain` whose steps are forks too, by tests/programs.py."""

import runpy
import subprocess
import sys

from tests import programs


class Step:
    """What `further_pretrain` needs of a process; what it said comes when it has ended."""

    def __init__(self, command: list[str]):
        self._process = programs.start(*command[2:])  # after python -m
        self.send_signal = self._process.send_signal

    def wait(self) -> int:
        output, errors = self._process.communicate()
        print(output, end="", flush=True)
        print(errors, end="", file=sys.stderr, flush=True)
        return self._process.returncode


if __name__ == "__main__":
    subprocess.Popen = Step
    runpy.run_module("experiments.further_pretrain", run_name="__main__", alter_sys=True)

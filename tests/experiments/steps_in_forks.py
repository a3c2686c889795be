"""A command whose steps are forks too, by tests/programs.py: python -m tests.experiments.steps_in_forks NAME ..., for
experiments.further_pretrain and experiments.reproduce.
"""

import runpy
import subprocess
import sys

from tests import programs


class Step:
    """What `run_step` needs of a process; what it said comes when it has ended."""

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
    name = sys.argv.pop(1)
    runpy.run_module(f"experiments.{name}", run_name="__main__", alter_sys=True)

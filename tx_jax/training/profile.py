"""A trace of a few training steps, by `jax.profiler`, for a look at what takes the time."""

import dataclasses
import logging
import re
from pathlib import Path
from typing import Any

import jax

from tx_jax.errors import InputError
from tx_jax.files import publish, staging
from tx_jax.hosts import distributed
from tx_jax.training.goodput import PROFILING, TimeSpent

_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ProfiledSteps:
    """Steps `first` to `last`, both included, counted from 1."""

    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "ProfiledSteps":
        """Reads "100-103", or "100" for one step. Raises InputError for anything else."""
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", text.strip())
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last:
            raise InputError(f"--profile_steps={text}: give the first and the last step, counted from 1: 100-103")
        return cls(first, last)

    def check(self, trained: int, num_steps: int) -> None:
        """Raises InputError if the run, which has trained so many of its steps, does not train all of these."""
        if self.last > num_steps:
            raise InputError(f"--profile_steps={self}: the run has {num_steps} steps")
        if self.first <= trained:
            raise InputError(
                f"--profile_steps={self}: the run continues after step {trained}; give steps that are still to train"
            )

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


class Profiler:
    """Traces the profiled steps into a run directory on process 0; without such steps it does nothing.

    A context manager: the trace of steps that an error or a stop cut short is written too.
    """

    def __init__(self, steps: ProfiledSteps | None, workdir: Path, spent: TimeSpent):
        self._steps = steps if distributed.is_first() else None
        self._folder, self._spent, self._running = workdir / "profile", spent, False
        self._written = self._folder

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *exc: object) -> None:
        if self._running:
            self._stop()

    def begins_at(self, step: int) -> bool:
        return self._steps is not None and step == self._steps.first

    def begin(self) -> None:
        """Starts the trace; what is still computed will be in it."""
        with self._spent.on(PROFILING):
            self._written = staging(self._folder)
            jax.profiler.start_trace(self._written)
        self._running = True

    def after(self, step: int, results: Any) -> bool:
        """Call it after each step with arrays that it computes. Returns whether a trace was written, which takes time
        that is no training step's."""
        if not self._running or step != self._steps.last:
            return False
        jax.block_until_ready(results)
        self._stop()
        return True

    def _stop(self) -> None:
        self._running = False
        with self._spent.on(PROFILING):
            jax.profiler.stop_trace()
            publish(self._written, self._folder)
        _logger.info(
            f"profile of steps {self._steps}: {self._folder}. To look at it: open its *.trace.json.gz at "
            f"https://ui.perfetto.dev, or pip install xprof and xprof {self._folder}"
        )

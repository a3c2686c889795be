"""Where the time of a run goes, and how long the rest of it will take."""

import contextlib
import time
from collections.abc import Callable, Iterator

# What takes time from the training steps; the key in metrics.jsonl is `seconds_` and this name.
LOSSES = {
    "starting": "opening the data, initializing or restoring the state, until the first batch is there",
    "compiling": "tracing and compiling the train step, once for each batch shape",
    "waiting": "for batches; the devices may still have been busy with the previous step",
    "evaluating": "on held-out data, including the compilation of the evaluation step",
    "saving": "checkpoints, as far as training waits for them",
}
PROFILING = "profiling"  # only where --profile_steps asks for it


class TimeSpent:
    """Seconds since a start of a run began, and how many of them were lost to what. A resumed run counts anew."""

    def __init__(self, began: float | None = None):
        """
        Args:
          began: `time.perf_counter()` when the start began, if that is not now.
        """
        self._began = time.perf_counter() if began is None else began
        self.lost = dict.fromkeys(LOSSES, 0.0)

    @contextlib.contextmanager
    def on(self, what: str) -> Iterator[None]:
        """Counts the time inside as lost to this; such blocks must not be nested."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.lost[what] = self.lost.get(what, 0.0) + time.perf_counter() - began

    def started(self) -> None:
        """Call it when the first batch is there."""
        self.lost["starting"] = time.perf_counter() - self._began - sum(self.lost.values())

    def values(self) -> dict[str, float]:
        """Total seconds, the share of them that was not lost (`goodput`), and what was lost, by the names in
        metrics.jsonl."""
        total = max(time.perf_counter() - self._began, 1e-9)
        goodput = max(0.0, 1 - sum(self.lost.values()) / total)
        lost = {f"seconds_{what}": seconds for what, seconds in self.lost.items()}
        return {"goodput": goodput, "seconds_total": total, **lost}


class Pace:
    """Measures the speed of the first steps after compilation, once."""

    STEPS, SECONDS = 20, 3.0  # whichever comes first

    def __init__(self, tell: Callable[[int, int, float], None]):
        """
        Args:
          tell: called once with two steps and the seconds between them.
        """
        self._tell, self._told = tell, False
        self._since: tuple[int, float] | None = None

    def begin(self, step: int | None) -> None:
        """Something other than training steps, such as compilation, took time up to this step."""
        self._since = None if step is None else (step, time.perf_counter())

    def reached(self, step: int) -> None:
        """The step is finished."""
        if self._told or self._since is None:
            return
        first, began = self._since
        seconds = time.perf_counter() - began
        if step - first >= self.STEPS or (step - first >= 2 and seconds >= self.SECONDS):
            self._told = True
            self._tell(first, step, seconds)

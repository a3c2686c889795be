"""Trials that are known beforehand, of a grid or drawn at random."""

from collections.abc import Sequence

from tx_jax.sweeps.settings import Trial
from tx_jax.sweeps.sweep_dir import State, SweepDir


class Listed:
    """Gives each trial that is not over, in order. One that another process trains, because an earlier start of the
    sweep was killed, is left to it, and given only if it ends before it is done.

    Args:
      retry: whether trials that failed are run again.
    """

    def __init__(self, trials: Sequence[Trial], directory: SweepDir, retry: bool):
        self._directory = directory
        self._waiting = list(trials)
        if not retry:
            self._waiting = [one for one in trials if directory.state(one) != State.FAILED]

    def next(self) -> Trial | None:
        for one in list(self._waiting):
            state = self._directory.state(one)
            if state != State.RUNNING:
                self._waiting.remove(one)
                if state not in (State.DONE, State.PRUNED):
                    return one
        return None

    def waits(self) -> bool:
        return bool(self._waiting)

    def ended(self, trial: Trial, state: State) -> None:
        """Nothing follows from it."""

    def verdict(self, trial: Trial) -> str:
        """None is given up."""
        return ""

"""Runs `experiments.train` with a fault in it: python -m tests.faults.driver FAULT [flags of experiments.train].

A fault is a signal at a point of the run, the how-manieth time that it comes by (`SIGKILL@manifest:2`), or one of those
in `OTHERS`, with its value (`nan:6,7`).
"""

import os
import signal
import sys
import time
from collections.abc import Callable

import numpy as np

from experiments import command_line, train
from tx_jax.data.loader import Loader
from tx_jax.runs import checkpoint, manifest, metrics_log
from tx_jax.training import loop


def patch(owner: object, name: str, before: Callable[..., None] | None = None, after: Callable | None = None) -> None:
    """Calls `before` with the arguments of a function, and `after` with its result, which it replaces."""
    function = getattr(owner, name)

    def patched(*arguments, **options):
        if before is not None:
            before(*arguments, **options)
        result = function(*arguments, **options)
        return result if after is None else after(result, *arguments, **options)

    setattr(owner, name, patched)


# Where a signal may come: what is patched, and whether it comes before or after.
POINTS = {
    "save": (checkpoint.Checkpoints, "save", "before"),  # a step is taken, nothing of it written
    "writing": (checkpoint.Checkpoints, "save", "after"),  # copied from the devices, being written
    "manifest": (manifest, "write", "before"),  # every array is written, the manifest not
    "rename": (manifest, "write", "after"),  # whole, but not under its name
    "committed": (manifest, "sync_folder", "checkpoints"),
    "evaluation": (loop.Run, "evaluate", "before"),
    "evaluated": (loop.Run, "evaluate", "after"),
    "batch": (Loader, "batch_at", "before"),  # in the thread that reads ahead
}


def signal_at(name: str, point: str, number: int) -> None:
    owner, function, when = POINTS[point]
    left = [number]

    def send(*arguments, **options):
        if when == "checkpoints" and arguments[0].name != "checkpoints":
            return
        left[0] -= 1
        if left[0] == 0:
            os.kill(os.getpid(), getattr(signal, name))

    if when == "after":
        patch(owner, function, after=lambda result, *arguments, **options: (send(), result)[1])
    else:
        patch(owner, function, before=send)


def not_finite(value: float, steps: str) -> None:
    """The loss of these steps, from 1, and so its gradient."""
    chosen = {int(step) for step in steps.split(",")}

    def spoil(batch, batches, step):
        return batch | {"masked_weights": batch["masked_weights"] * value} if step + 1 in chosen else batch

    patch(Loader, "batch_at", after=lambda b, batches, step: spoil(b, batches, step) if batches.repeat else b)


def linger(_: str) -> None:
    """Waits after each save until it is known how it went, so that what is noticed late shows."""

    def wait(result, checkpoints, *arguments, **options):
        while checkpoints._manager.is_saving_in_progress():
            time.sleep(0.01)

    patch(checkpoint.Checkpoints, "save", after=wait)


def failing_tracker(number: str) -> None:
    """TensorBoard's writer raises from its event of this number on."""
    left = [int(number)]

    def fail(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(5, "Input/output error")

    patch(metrics_log.EventsWriter, "write_event", before=fail)


OTHERS = {
    "nan": lambda steps: not_finite(np.nan, steps),
    "inf": lambda steps: not_finite(np.inf, steps),
    "linger": linger,
    "tracker": failing_tracker,
}


def main() -> None:
    for fault in sys.argv.pop(1).split(" "):
        kind, _, value = fault.partition(":")
        if "@" in kind:
            name, _, point = kind.partition("@")
            signal_at(name, point, int(value))
        else:
            OTHERS[kind](value)
    command_line.run(train.main)


if __name__ == "__main__":
    main()

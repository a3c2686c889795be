"""Runs `experiments.train` with a fault in it: python -m tests.faults.driver FAULT [flags of experiments.train].

A fault is a signal at a point of the run, the how-manieth time that it comes by (`SIGKILL@manifest:2`), or one of those
in `OTHERS`, with its value (`nan:6,7`); several are joined by `;`.
"""

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from experiments import command_line, train
from tx_jax import files
from tx_jax.data.loader import Loader
from tx_jax.runs import checkpoint, commit, manifest, metrics_log
from tx_jax.text import wordpiece
from tx_jax.training import loop


def patch(
    owner: object,
    name: str,
    before: Callable[..., None] | None = None,
    after: Callable | None = None,
    put: Callable[[object, str, Callable], None] = setattr,
) -> None:
    """Calls `before` with the arguments of a function, and `after` with its result, which it replaces."""
    function = getattr(owner, name)

    def patched(*arguments, **options):
        if before is not None:
            before(*arguments, **options)
        result = function(*arguments, **options)
        return result if after is None else after(result, *arguments, **options)

    put(owner, name, patched)


class Point(NamedTuple):
    """Where a signal may come.

    Attributes:
      owner, function: what is patched.
      when: whether it comes before or after a call.
      path: only calls count whose last path has this name; "": all.
    """

    owner: object
    function: str
    when: Literal["before", "after"]
    path: str = ""

    def counts(self, arguments: tuple) -> bool:
        paths = [argument for argument in arguments if isinstance(argument, Path)]
        return not self.path or (bool(paths) and paths[-1].name == self.path)


POINTS = {
    "save": Point(checkpoint.Checkpoints, "save", "before"),  # a step is taken, nothing of it written
    "writing": Point(checkpoint.Checkpoints, "save", "after"),  # copied from the devices, being written
    "manifest": Point(manifest, "write", "before"),  # every array is written, the manifest not
    "rename": Point(manifest, "write", "after"),  # whole, but not under its name
    "committed": Point(commit, "sync_folder", "before", "checkpoints"),
    "evaluation": Point(loop.Run, "evaluate", "before"),
    "evaluated": Point(loop.Run, "evaluate", "after"),
    "batch": Point(Loader, "batch_at", "before"),  # in the thread that reads ahead
}
# Those of files that a start writes before its first step, in their order; the first and the last also at its end.
RECORDS = {
    "history drafted": Point(os, "replace", "before", "history.jsonl"),  # history.jsonl.tmp is whole
    "history": Point(os, "replace", "after", "history.jsonl"),  # config.json is that of the start before, or none
    "config": Point(os, "replace", "after", "config.json"),
    "env": Point(os, "replace", "after", "env.json"),
    "done": Point(os, "replace", "after", "DONE"),
}
TOKENIZER = {
    "half written": Point(wordpiece, "write_json", "before", "special_tokens_map.json"),
    "written": Point(files, "sync_folder", "before", "tokenizer.tmp"),
    "set aside": Point(os, "replace", "after", "tokenizer.old"),  # none is under its name
    "replaced": Point(os, "replace", "after", "tokenizer"),  # the earlier one is still there too
}


def at(point: str, number: int, act: Callable[[], None], put: Callable = setattr) -> None:
    """Calls `act` when the run comes by the point, the how-manieth time. `put`: as of `patch`."""
    owner, function, when, _ = chosen = (POINTS | RECORDS | TOKENIZER)[point]
    left = [number]

    def count(*arguments):
        if chosen.counts(arguments):
            left[0] -= 1
            if left[0] == 0:
                act()

    if when == "after":
        patch(owner, function, after=lambda result, *arguments, **_: (count(*arguments), result)[1], put=put)
    else:
        patch(owner, function, before=lambda *arguments, **_: count(*arguments), put=put)


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
    for fault in sys.argv.pop(1).split(";"):
        kind, _, value = fault.partition(":")
        if "@" in kind:
            name, _, point = kind.partition("@")
            at(point, int(value), lambda name=name: os.kill(os.getpid(), getattr(signal, name)))
        else:
            OTHERS[kind](value)
    command_line.run(train.main)


if __name__ == "__main__":
    main()

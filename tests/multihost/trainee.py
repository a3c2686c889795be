"""`experiments.train` with a fault in it: TX_JAX_FAULT=ACTION:POINT:NUMBER:RANK does something to the process RANK when
it comes to a point for the NUMBERth time.

The points are named in POINTS, the actions in ACTIONS.

TX_JAX_EXPECT=FILE.npz compares the state that training begins with, bit for bit, each process what it holds of it.

TX_JAX_ROWS=1 prints a hash of each row of the batches that come to the train step, each process of those it holds.
"""

import ctypes
import functools
import json
import os
import signal
import sys
import threading
import time
import zlib

import jax
import numpy as np

from experiments import command_line, train
from tx_jax import tree
from tx_jax.data import loader
from tx_jax.errors import InputError
from tx_jax.evaluation import evaluate
from tx_jax.runs import checkpoint, manifest
from tx_jax.training import loop, recorder
from tx_jax.training import run as run_module


class Planted(Exception):
    pass


def _raise() -> None:
    raise Planted("a planted error")


def _input() -> None:
    raise InputError("this host lacks a file")


def _memory() -> None:
    raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12884901888 bytes.")


def _full() -> None:
    raise OSError(28, "No space left on device")


def _exit() -> None:
    sys.exit(3)


ACTIONS = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "term": lambda: os.kill(os.getpid(), signal.SIGTERM),
    "raise": _raise,
    "input": _input,
    "memory": _memory,
    "full": _full,
    "exit": _exit,
    "sleep": lambda: time.sleep(3600),
}
# Where, before a call of which function.
POINTS = {
    "build": (loop, "build"),
    "step": (recorder.Recorder, "later"),
    "batch": (loader.Loader, "batch_at"),
    "evaluation": (evaluate, "device_batch"),
    "save": (checkpoint.Checkpoints, "save"),
    "hashes": (manifest, "hash_own"),
    "manifest": (manifest, "write"),
}


def expect(path: str) -> None:
    """Every array under its path."""
    build, expected = loop.build, np.load(path)

    def checked(*arguments, **options):
        run = build(*arguments, **options)
        arrays = tree.flatten(run.state)
        assert arrays.keys() == set(expected.files)
        for name, array in arrays.items():
            for shard in array.addressable_shards:
                np.testing.assert_array_equal(shard.data, expected[name][shard.index], err_msg=name)
        print("the state is as expected", flush=True)
        return run

    loop.build = checked


def tell_rows() -> None:
    jit_train_step = run_module.jit_train_step

    def telling(*arguments):
        step = jit_train_step(*arguments)

        def told(state, batch, rng):
            hashes = {}
            for name in sorted(batch):
                for shard in batch[name].addressable_shards:
                    if shard.replica_id == 0:
                        for row, values in enumerate(np.asarray(shard.data), shard.index[0].start or 0):
                            hashes[row] = zlib.crc32(values.tobytes(), hashes.get(row, 0))
            print(f"rows of step {int(state.step) + 1}: {json.dumps(hashes)}", flush=True)
            return step(state, batch, rng)

        return told

    run_module.jit_train_step = telling


def plant(action: str, point: str, number: int, rank: int) -> None:
    calls = 0

    def fire() -> None:
        nonlocal calls
        calls += 1
        if calls == number and jax.process_index() == rank:
            print(f"planted at {time.time()}", flush=True)
            ACTIONS[action]()

    def around(owner: object, name: str) -> None:
        original = getattr(owner, name)

        @functools.wraps(original)
        def wrapped(*arguments, **options):
            fire()
            return original(*arguments, **options)

        setattr(owner, name, wrapped)

    if point == "saving":  # copies from the devices for a second, and writes for another
        save, write = checkpoint.Checkpoints.save, manifest.write
        checkpoint.Checkpoints.save = lambda *state, **notes: (save(*state, **notes), fire(), time.sleep(1))
        manifest.write = lambda directory: (time.sleep(1), write(directory))
    elif point == "compile":
        original = run_module.jit_train_step

        def later(*arguments, **options):
            threading.Timer(0.3, fire).start()
            return original(*arguments, **options)

        run_module.jit_train_step = later
    else:
        around(*POINTS[point])


if __name__ == "__main__":
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it goes with the test that started it
    if path := os.environ.get("TX_JAX_EXPECT"):
        expect(path)
    if os.environ.get("TX_JAX_ROWS"):
        tell_rows()
    if fault := os.environ.get("TX_JAX_FAULT"):
        action, point, number, rank = fault.split(":")
        plant(action, point, int(number), int(rank))
    command_line.run(train.main)

"""The processes of a run, one or more a host: how they find one another, and how they come to agree.

Process 0 makes the decisions that must be made once. Only it writes to the run directory, except for checkpoints. The
processes agree through the key-value store of `jax.distributed`, not through the devices, so no collective is needed.
"""

import contextlib
import itertools
import json
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import jax

from tx_jax.errors import InputError

T = TypeVar("T")

START_SECONDS = 300  # within which all processes must connect
SHUTDOWN_SECONDS = 20  # how long a process that is done waits for the others
# The launchers' variables for the number of processes. If it is 1, jax.distributed is not needed, and would use only
# one GPU.
LAUNCHED = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")

_store: Any = None  # jax's client; None for a process alone
_decisions = itertools.count()


def start(
    coordinator: str | None,
    num_processes: int | None,
    process_id: int | None,
    *,
    silence_seconds: int,
    report: Callable[[str], None],
) -> None:
    """Connects the processes of this run, before the first use of a device. Returns at once if there is only one
    process.

    Without arguments, TPU pods, SLURM, Open MPI and Kubernetes are recognized.

    Args:
      coordinator: HOST:PORT of process 0.
      silence_seconds: a process counts as dead this long after its last sign of life. If the watchdog does not end the
        others then, jax does a little later.
      report: called with a line that says what the process is waiting for.

    Raises:
      InputError: only some arguments are given, or a recognized launcher does not give enough information.
    """
    global _store
    arguments = (coordinator, num_processes, process_id)
    given = [argument is not None for argument in arguments]
    if num_processes == 1 or (not any(given) and any(os.environ.get(name) == "1" for name in LAUNCHED)):
        return
    if any(given) and not all(given):
        raise InputError(
            "--coordinator=HOST:PORT, --num_processes and --process_id go together; without all three, TPU pods, "
            "SLURM, Open MPI and Kubernetes are recognized; --num_processes=1 trains alone"
        )
    try:
        with _announced(coordinator, report):
            jax.distributed.initialize(
                *arguments,
                initialization_timeout=2 * START_SECONDS,  # our timeout comes first: jax's message is a stack trace
                # There are two heartbeats in this time, so jax notices after half of it at the earliest.
                heartbeat_timeout_seconds=2 * (silence_seconds + 10),
                shutdown_timeout_seconds=SHUTDOWN_SECONDS,
            )
    except Exception as error:  # whatever the search for a launcher raises, such as a KeyError for a Kubernetes label
        if not any(given) and "coordinator_address should be defined" in str(error):
            return  # no launcher: a single process
        reason = f"{type(error).__name__}: {error}".split("\n")[0]
        raise InputError(
            f"the processes could not be joined: {reason} Give --coordinator=HOST:PORT, --num_processes and "
            "--process_id, or --num_processes=1 to train alone"
        ) from error
    from jax._src.distributed import global_state  # there is no public name; Orbax imports it from here too

    _store = global_state.client
    if jax.default_backend() == "cpu":
        # Only process 0 would find its programs in the cache, whose keys differ by process there. The others would
        # still compile when its first collective, which waits for at most 30 s, needs them.
        jax.config.update("jax_enable_compilation_cache", False)


@contextlib.contextmanager
def _announced(coordinator: str | None, report: Callable[[str], None]) -> Iterator[None]:
    """Reports what the process is waiting for if that takes long, and ends the process if it takes too long."""
    where = f"at {coordinator}" if coordinator else "of this job"

    def give_up() -> None:
        report(
            f"error: not all processes {where} connected within {START_SECONDS} s; each needs the same --num_processes"
        )
        os._exit(2)

    timers = [
        threading.Timer(5, report, [f"waiting for the other processes {where}"]),
        threading.Timer(START_SECONDS, give_up),
    ]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def is_first() -> bool:
    """Whether this is process 0, the only one that writes files and prints."""
    return jax.process_index() == 0


def is_alone() -> bool:
    """Whether the run has no other process."""
    return jax.process_count() == 1


def is_joined() -> bool:
    """Whether `start` found or was given a launcher, even one with a single process, as on a TPU VM with one host."""
    return _store is not None


def agreed(decide: Callable[[], T]) -> T:
    """The value that process 0 decides on. Every process must call this at the same point. The value passes through
    JSON.

    Raises:
      InputError: `decide` raised it; it is raised on all processes.
    """
    if _store is None:
        return decide()
    key = f"tx_jax/decision/{next(_decisions)}"
    if not is_first():
        outcome = json.loads(_wait_for(key))
        if "error" in outcome:
            raise InputError(outcome["error"])
        return outcome["value"]
    try:
        value = decide()
    except InputError as error:
        _store.key_value_set(key, json.dumps({"error": str(error)}))
        raise
    _store.key_value_set(key, json.dumps({"value": value}))
    return value


@contextlib.contextmanager
def on_first(context: contextlib.AbstractContextManager) -> Iterator[None]:
    """Enters a context only on process 0. If that raises InputError, all processes do."""
    with contextlib.ExitStack() as stack:
        agreed(lambda: stack.enter_context(context))
        yield


def _wait_for(key: str) -> str:
    """Waits for a value as long as it takes: the watchdog checks whether process 0 is alive."""
    while True:
        try:
            return _store.blocking_key_value_get(key, 60_000)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise


def say(key: str, text: str) -> None:
    """Publishes a text to the other processes. It replaces the previous one."""
    _store.key_value_set(f"tx_jax/{key}", text, allow_overwrite=True)


def said(prefix: str) -> dict[int, str]:
    """The last text of each process under PREFIX/NUMBER."""
    return {int(key.rpartition("/")[2]): text for key, text in _store.key_value_dir_get(f"tx_jax/{prefix}")}


def heard(key: str) -> Any:
    """The first value that was published under the key; None if there is none."""
    try:
        return json.loads(_store.key_value_try_get(f"tx_jax/{key}"))
    except jax.errors.JaxRuntimeError as error:
        if "NOT_FOUND" not in str(error):
            raise
        return None


def first_said(key: str, value: Any) -> Any:
    """Publishes the value if no process did so before. Returns the value that was published first."""
    try:
        _store.key_value_set(f"tx_jax/{key}", json.dumps(value))
    except jax.errors.JaxRuntimeError:  # there is one, or process 0 is gone
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            return heard(key) or value
    return value


def stop() -> None:
    """Disconnects from the other processes; waits for them for up to `SHUTDOWN_SECONDS`."""
    global _store
    if _store is not None:
        _store = None
        jax.distributed.shutdown()

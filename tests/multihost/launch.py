"""Starts the processes of one run on this machine, and leaves none behind."""

import contextlib
import dataclasses
import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from tests import programs
from tests.xla_flags import xla_flags

TRAIN = "tests.multihost.trainee"
SILENCE = "--silence_seconds=6"
# A run of seconds in which everything happens: 12 steps, evaluations after 5, 10 and 12, saves after 4, 8 and 12.
TINY = {
    "model.vocab_size": 200,
    "model.num_layers": 1,
    "training.num_steps": 12,
    "training.log_every": 1,
    "training.eval_every": 5,
    "training.checkpoint_every": 4,
    "training.keep_best": 0,
    "training.batch_size": 8,
    "training.stall_seconds": 6,
}


@dataclasses.dataclass
class Ended:
    """How a process ended: None as code if it had to be killed here. `at`: when, as `time.time()`."""

    code: int | None
    output: str
    at: float

    def tail(self, lines: int = 20) -> str:
        return "\n".join(self.output.splitlines()[-lines:])


def flags(store: Path, workdir: Path, **changes: object) -> list[str]:
    """Of a tiny training run; changes by the last part of a key's name where that tells it."""
    values = TINY | {"data.store": store}
    for name, value in changes.items():
        known = [key for key in values if key.rpartition(".")[2] == name]
        values[known[0] if known else name.replace("__", ".")] = value
    keys = [f"--config.{key}={value}" for key, value in values.items()]
    return ["--config=configs/bert_base.py:smoke", f"--workdir={workdir}", SILENCE, *keys]


def run(
    module: str,
    arguments: list[str],
    *,
    processes: int,
    devices: int,
    fault: str = "",
    expect: Path | None = None,
    rows: bool = False,
    timeout: float = 240,
) -> list[Ended]:
    """Runs `python -m MODULE` once a process, with so many virtual CPU devices each.

    Args:
      fault: what `trainee` does to one of them.
      expect: the state that `trainee` begins with.
      rows: `trainee` tells those of each batch.
    """
    environment = {"TX_JAX_FAULT": fault, "TX_JAX_EXPECT": str(expect or ""), "TX_JAX_ROWS": "1" if rows else ""}
    with started(module, arguments, processes=processes, devices=devices, environment=environment) as children:
        return wait(children, timeout)


@contextlib.contextmanager
def started(
    module: str, arguments: list[str], *, processes: int, devices: int, environment: dict[str, str]
) -> Iterator[list[programs.Process]]:
    """The processes, which are killed on leaving where they have not ended."""
    environment = environment | {"XLA_FLAGS": xla_flags(devices)}
    port = _free_port()
    children = []
    try:
        for rank in range(processes):
            join = [f"--coordinator=127.0.0.1:{port}", f"--num_processes={processes}", f"--process_id={rank}"]
            arguments_of_it = [*arguments, *(join if processes > 1 else [])]
            children.append(programs.start(module, *arguments_of_it, joined=True, environment=environment))
        yield children
    finally:
        for child in children:
            kill(child)


def wait(children: list[programs.Process], timeout: float) -> list[Ended]:
    """How each ended. A process that is stopped never ends; it is killed once all the others have ended."""
    began, ended = time.monotonic(), {}
    while len(ended) < len(children) and time.monotonic() - began < timeout:
        for rank, child in enumerate(children):
            if rank not in ended and child.poll() is not None:
                ended[rank] = time.time()
        if all(rank in ended or _is_stopped(child) for rank, child in enumerate(children)):
            break
        time.sleep(0.05)
    for child in children:
        kill(child)
    return [
        Ended(child.returncode if rank in ended else None, child.communicate()[0], ended.get(rank, time.time()))
        for rank, child in enumerate(children)
    ]


def kill(child: programs.Process) -> None:
    """With all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _is_stopped(child: programs.Process) -> bool:
    try:
        return Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]

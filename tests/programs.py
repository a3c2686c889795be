"""Starts commands as a user does, in processes of their own, but without waiting for their imports.

`python -m MODULE` takes 3 seconds of a core to import JAX and what goes with it, often longer than what a test has it
do. So one process, this module run as a program, imports all that once and is forked for each command. What comes after
the imports, the arguments, the environment, the streams, signals and the exit code, is that of `python -m`. No device
has been touched before the fork, so that XLA_FLAGS count.
"""

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

# What most commands import, and nothing of `experiments`: their flags are those of one command each.
IMPORTS = (
    "jax",
    "matplotlib.pyplot",
    "optax",
    "pyarrow.parquet",
    "rich.progress",
    "sklearn.metrics",
    "tqdm",
    "tx_jax.convert.from_hf",
    "tx_jax.convert.to_hf",
    "tx_jax.data.corpus.prepare",
    "tx_jax.data.loader",
    "tx_jax.evaluation.fill_mask",
    "tx_jax.evaluation.predict",
    "tx_jax.evaluation.report",
    "tx_jax.runs.plots",
    "tx_jax.runs.start",
    "tx_jax.tasks.registry",
    "tx_jax.training.loop",
)
# Read while modules are imported: a command for which one of these differs needs a process that imports them itself.
READ_BY_IMPORTS = ("JAX_", "HF_", "LD_", "PYTHONHASHSEED", "PYTHONPATH", "PYTHONWARNINGS")
ASKING = "TX_JAX_TESTS_ASKING"  # the file descriptor by which a command may have others started
ROOT = Path(__file__).parents[1]
MESSAGE = 1 << 20  # bytes, more than any has
PR_SET_PDEATHSIG = 1


class Process:
    """A command that runs: of `subprocess.Popen`, what tests need. It leads a process group of its own."""

    pid: int

    def __init__(self, arguments: Sequence[str], stdout: IO[str], stderr: IO[str]):
        self.args = arguments
        self.returncode: int | None = None
        self._streams = stdout, stderr
        self._texts = "", ""

    def _code(self, timeout: float | None) -> int | None:
        """Its exit code; None if it still runs after so many seconds. None: it is waited for."""
        raise NotImplementedError

    def _ended(self, timeout: float | None) -> int | None:
        if self.returncode is None and (code := self._code(timeout)) is not None:
            self.returncode = code
            out, err = self._streams
            with out, err:
                out.seek(0), err.seek(0)
                self._texts = out.read(), err.read()
        return self.returncode

    def poll(self) -> int | None:
        return self._ended(0)

    def wait(self, timeout: float | None = None) -> int:
        if (code := self._ended(timeout)) is None:
            raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """All that it wrote to stdout and stderr, once it has ended."""
        self.wait(timeout)
        return self._texts

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


class _Forked(Process):
    """A child of the process that starts commands: it tells its id itself, and that process its exit code."""

    def __init__(self, told: socket.socket, *arguments):
        super().__init__(*arguments)
        self._told = told
        self.pid = self._hear()

    def _hear(self) -> int:
        message = self._told.recv(MESSAGE)
        if not message:
            raise RuntimeError(f"{self.args}: the process that starts commands has ended")
        return int(message)

    def _code(self, timeout: float | None) -> int | None:
        if not select.select([self._told], [], [], timeout)[0]:
            return None
        with self._told:
            return self._hear()


class _Executed(Process):
    """A child of this process."""

    def __init__(self, process: subprocess.Popen, *arguments):
        super().__init__(*arguments)
        self._process, self.pid = process, process.pid

    def _code(self, timeout: float | None) -> int | None:
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None


def start(
    module: str,
    *arguments: object,
    stdin: str | bytes = "",
    joined: bool = False,
    environment: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    asks: bool = False,
) -> Process:
    """Starts `python -m MODULE ARGUMENTS`.

    Args:
      joined: what it writes to stderr goes where its output goes.
      environment: what it has besides this process's.
      cwd: its working directory. Modules are found there, and where this package is.
      asks: whether it starts commands by this function too.
    """
    command = [module, *map(str, arguments)]
    variables = os.environ | dict(environment or {})
    out, err = (tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") for _ in range(2))  # noqa: SIM115
    with tempfile.TemporaryFile() as source:
        source.write(stdin.encode() if isinstance(stdin, str) else stdin)
        source.seek(0)
        streams = [stream.fileno() for stream in (source, out, out if joined else err)]
        if hasattr(os, "pidfd_open") and _read_by_imports(variables) == _server().variables:
            job = {"command": command, "environment": variables, "cwd": str(cwd or Path.cwd())}
            return _Forked(_fork(job, streams, asks), command, out, err)
        variables["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [variables.get("PYTHONPATH")])])
        stdin, stdout, stderr = streams
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            stdin=stdin, stdout=stdout, stderr=stderr, env=variables, cwd=cwd, start_new_session=True,
        )  # fmt: skip
        return _Executed(process, command, out, err)


def run(module: str, *arguments: object, timeout: float | None = None, **options) -> subprocess.CompletedProcess[str]:
    """What `python -m MODULE ARGUMENTS` has done. `options`: as of `start`."""
    process = start(module, *arguments, **options)
    try:
        output, errors = process.communicate(timeout)
    finally:
        process.kill()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def _read_by_imports(variables: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in variables.items() if name.startswith(READ_BY_IMPORTS)}


class _Server(NamedTuple):
    """The process that starts commands.

    Attributes:
      asking: takes jobs; when it is closed, the process ends and kills what it has started.
      variables: of those that its imports read.
    """

    process: subprocess.Popen | None
    asking: socket.socket
    variables: dict[str, str]


@functools.cache
def _server() -> _Server:
    """One for this process, and for the commands that it has started."""
    if ASKING in os.environ:
        return _Server(None, socket.socket(fileno=int(os.environ[ASKING])), _read_by_imports(os.environ))
    asking, asked = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with asked:
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(asked.fileno())],
            stdin=subprocess.DEVNULL, pass_fds=[asked.fileno()], cwd=ROOT, start_new_session=True,
        )  # fmt: skip
    atexit.register(process.wait)
    atexit.register(asking.close)  # before the other
    return _Server(process, asking, _read_by_imports(os.environ))


def _fork(job: dict, streams: list[int], asks: bool) -> socket.socket:
    """Asks for a command. Returns what tells its process id and its exit code."""
    told, telling = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    asking = _server().asking
    with telling:
        fds = [telling.fileno(), *streams, *([asking.fileno()] if asks else [])]
        socket.send_fds(asking, [json.dumps(job).encode()], fds)
    return told


def serve(asked: socket.socket) -> dict:
    """Starts what it is asked for until nobody can ask any more. Returns in each child: its job."""
    children: dict[int, tuple[int, socket.socket]] = {}  # by a file descriptor that is readable once they have ended
    poll = select.poll()
    poll.register(asked, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                pid, telling = children.pop(fd)
                poll.unregister(fd)
                os.close(fd)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):  # the test did not wait for it
                    telling.send(str(code).encode())
                telling.close()
                continue
            message, fds, *_ = socket.recv_fds(asked, MESSAGE, 5)
            if not message:
                for pid, _ in children.values():
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(pid, signal.SIGKILL)
                os._exit(0)
            telling, *streams = fds
            telling = socket.socket(fileno=telling)
            if not (pid := os.fork()):
                os.setsid()
                telling.send(str(os.getpid()).encode())  # from now on, its process group can be killed
                for other in (asked, telling, *(other for _, other in children.values())):
                    other.close()
                return json.loads(message) | {"streams": streams}
            for stream in streams:
                os.close(stream)
            child = os.pidfd_open(pid)
            children[child] = (pid, telling)
            poll.register(child, select.POLLIN)


def become(job: dict) -> None:
    """This process is from now on what was asked for."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # it goes with the process that started it
    *streams, asking = job["streams"] if len(job["streams"]) > 3 else (*job["streams"], None)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["environment"])
    os.environ.pop(ASKING, None)  # of the command that asked
    if asking is not None:
        os.environ[ASKING] = str(asking)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(write_through="PYTHONUNBUFFERED" in os.environ)
    sys.path.insert(0, job["cwd"])
    sys.argv = job["command"]


if __name__ == "__main__":
    for name in IMPORTS:
        importlib.import_module(name)
    gc.freeze()
    become(serve(socket.socket(fileno=int(sys.argv[1]))))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

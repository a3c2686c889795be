"""Trackers of experiments, beside metrics.jsonl and TensorBoard: wandb and trackio, by their own packages.

None of them ever stops a training or keeps it waiting: each has a thread, which a queue feeds. What it raises is told
once, and is its end; one that hangs is left behind when the run has ended. The run's id is kept in trackers.json: a run
that is continued is one run there too. The step is a value among the others, as a run that goes back to its last
checkpoint logs the steps after it again.
"""

import contextlib
import importlib
import importlib.util
import json
import logging
import math
import os
import queue
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tx_jax.errors import InputError
from tx_jax.files import is_local, json_text, write_atomically

_logger = logging.getLogger(__name__)

FILE = "trackers.json"
PROJECT = "tx_jax"
MAX_QUEUED = 10_000  # records, of a tracker that falls behind; more are left out
FINISH_SECONDS = 30.0  # which a tracker has at the end, to send what it has not sent

left_behind = False  # whether a tracker hangs, so that its package may also keep this process from ending


class _Tracked(Protocol):
    """A run as a tracker has it. All calls come from one thread."""

    def log(self, values: Mapping[str, float]) -> None: ...

    def summarize(self, values: Mapping[str, float]) -> None: ...

    def finish(self, failed: bool) -> None: ...


class _Wandb:
    def __init__(self, name: str, id_: str, workdir: Path, config: Mapping[str, Any]):
        wandb = importlib.import_module("wandb")
        has_account = os.environ.get("WANDB_MODE") or wandb.login(prompt=False)
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=id_,
            name=name,
            resume="allow",
            dir=str(workdir) if is_local(workdir) else None,
            config=dict(config),
            mode=None if has_account else "offline",  # else it would ask at the terminal
            settings=wandb.Settings(console="off"),  # what is printed stays as it is
        )
        self._run.define_metric("*", step_metric="step")

    def log(self, values: Mapping[str, float]) -> None:
        self._run.log(dict(values))

    def summarize(self, values: Mapping[str, float]) -> None:
        self._run.summary.update(dict(values))

    def finish(self, failed: bool) -> None:
        self._run.finish(exit_code=int(failed))


class _Trackio:
    def __init__(self, name: str, id_: str, workdir: Path, config: Mapping[str, Any]):
        trackio = importlib.import_module("trackio")
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        self._run = trackio.init(project=project, name=f"{name}-{id_}", config=dict(config), resume="allow")

    def log(self, values: Mapping[str, float]) -> None:
        self._run.log(dict(values), step=int(values["step"]))

    def summarize(self, values: Mapping[str, float]) -> None:
        self._run.log({f"summary/{name}": value for name, value in values.items()})

    def finish(self, failed: bool) -> None:
        self._run.finish()


TRACKERS: dict[str, Callable[[str, str, Path, Mapping[str, Any]], _Tracked]] = {"wandb": _Wandb, "trackio": _Trackio}


def check_installed(names: Iterable[str]) -> None:
    """Raises InputError if the package of a tracker is not installed. The configuration refuses unknown names."""
    for name in names:
        found = importlib.util.find_spec(name) if name in TRACKERS else None
        if name in TRACKERS and (found is None or found.origin is None):  # a folder with this name is no package
            raise InputError(f'training.trackers: {name} is not installed: pip install -e ".[{name}]"')


class Tracking:
    """The trackers of a run; of processes other than the first, none.

    Attributes:
      failed: whether the run has failed, for `close`.
    """

    def __init__(self, names: Sequence[str] = ()):
        self._names, self.failed = names, False
        self._threads: list[_Thread] = []

    def begin(self, workdir: Path, config: Mapping[str, Any]) -> None:
        """Opens the run in each of them. Its id is that of an earlier start."""
        ids = {name: one["id"] for name, one in _read(workdir).items()} if self._names else {}
        self._begin(workdir, config, ids)

    def _begin(self, workdir: Path, config: Mapping[str, Any], ids: dict[str, str]) -> None:
        for name in self._names:
            ids.setdefault(name, uuid.uuid4().hex[:12])
            open_ = lambda name=name: TRACKERS[name](workdir.absolute().name, ids[name], workdir, config)  # noqa: E731
            self._threads.append(_Thread(name, open_))
        if self._names:
            with contextlib.suppress(OSError):  # a disk that is full stops the run elsewhere
                write_atomically(workdir / FILE, json_text({name: {"id": id_} for name, id_ in ids.items()}) + "\n")

    def log(self, step: int, values: Mapping[str, float]) -> None:
        """A record of finite values."""
        for thread in self._threads:
            thread.put("log", {"step": step, **values})

    def summarize(self, workdir: Path, values: Mapping[str, float]) -> None:
        """The results of the whole run, also of one that had ended before this start."""
        if self._names and not self._threads and (known := _read(workdir)):
            self._begin(workdir, {}, {name: one["id"] for name, one in known.items()})
        finite = {name: value for name, value in values.items() if math.isfinite(value)}
        for thread in self._threads:
            thread.put("summarize", finite)

    def close(self) -> None:
        """Gives each the time to send what is left."""
        global left_behind
        for thread in self._threads:
            thread.put("finish", self.failed)
        for thread in self._threads:
            left_behind |= not thread.ended()
        self._threads = []


NO_TRACKERS = Tracking()


@contextlib.contextmanager
def tracking(names: Sequence[str]) -> Iterator[Tracking]:
    """Trackers that are closed at the end, and told of an exception."""
    found = Tracking(names)
    try:
        yield found
    except BaseException:
        found.failed = True
        raise
    finally:
        found.close()


def _read(workdir: Path) -> dict[str, dict[str, str]]:
    """What trackers.json says; nothing if it is not there or damaged."""
    try:
        return {name: {"id": str(one["id"])} for name, one in json.loads((workdir / FILE).read_text()).items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}


class _Thread:
    """Does the calls for one tracker, in order."""

    def __init__(self, name: str, open_: Callable[[], _Tracked]):
        self._name, self._open = name, open_
        self._calls: queue.Queue[tuple[str, Any]] = queue.Queue(MAX_QUEUED)
        self._thread = threading.Thread(target=self._work, name=f"tracker {name}", daemon=True)
        self._thread.start()

    def put(self, call: str, argument: Any) -> None:
        if self._thread.is_alive():
            with contextlib.suppress(queue.Full):
                self._calls.put_nowait((call, argument))

    def ended(self) -> bool:
        """Waits for the end; whether it came."""
        self._thread.join(FINISH_SECONDS)
        if self._thread.is_alive():
            self._tell(f"does not come to its end in {FINISH_SECONDS:.0f} s: it may lack the last records")
        return not self._thread.is_alive()

    def _work(self) -> None:
        try:
            tracked = self._open()
            call = ""
            while call != "finish":
                call, argument = self._calls.get()
                getattr(tracked, call)(argument)
        except BaseException as error:  # packages also end by SystemExit
            self._tell(f"fails ({type(error).__name__}: {error}): training continues without it")

    def _tell(self, what: str) -> None:
        _logger.info(f"warning: the tracker {self._name} {' '.join(what.split())[:400]}")

"""metrics.jsonl and TensorBoard event files, and the same for trackers."""

import contextlib
import json
import math
import re
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from tx_jax.errors import InputError, InputWarning
from tx_jax.files import appending, is_local, json_text, publish, staging, sync, write_atomically
from tx_jax.runs.trackers import NO_TRACKERS, Tracking
from tx_jax.storage.failures import StoreError, StoreFailed

# Values that depend on the clock, so that no two runs have them in common.
_TIMED = re.compile(r"tokens_per_second|data_wait_share|mfu|goodput|seconds_\w+")
FLUSH_SECONDS = 30  # between what TensorBoard sees; a flush waits for the disk


class MetricsLog:
    """Appends records. A resumed run first drops the records after the step that it starts from."""

    def __init__(self, directory: Path, *, start_step: int, tracking: Tracking = NO_TRACKERS):
        self._path = directory / "metrics.jsonl"
        if self._path.exists():
            kept = [record for record in read(directory) if record["step"] <= start_step]
            write_atomically(self._path, "".join(json_text(record) + "\n" for record in kept))
        self._file, self._synced = appending(self._path), time.monotonic()
        self._tensorboard, self._tracking = _TensorBoard(directory / "tb", start_step + 1), tracking

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None and issubclass(kind, StoreError | StoreFailed):
            return  # a store that failed is not asked again, which takes minutes
        with contextlib.suppress(OSError):  # of a write that failed before, and was told then
            self._file.close()
        self._tensorboard.close()

    def write(self, step: int, split: str, values: dict[str, float]) -> None:
        """Writes a record, which then survives the process. `step` counts finished optimizer steps.

        Raises:
          OSError: metrics.jsonl cannot be written. (TensorBoard's files may fail: that is a warning.)
        """
        with self._named():
            self._file.write(json_text({"step": step, "split": split, **values}) + "\n")
            self._file.flush()
        if not is_local(self._path) and time.monotonic() - self._synced > FLUSH_SECONDS:
            with contextlib.suppress(StoreError):  # it is written, or the error raised, before the next checkpoint
                self.sync()
        named = {f"{split}/{name}": value for name, value in values.items() if math.isfinite(value)}
        self._tensorboard.write(step, named)
        self._tracking.log(step, named)

    def sync(self) -> None:
        """Waits until all records are on disk. Raises OSError as `write` does."""
        with self._named():
            sync(self._file)
        self._synced = time.monotonic()

    @contextlib.contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise type(error)(error.errno, error.strerror, str(self._path)) from error


class _TensorBoard:
    """Scalars for TensorBoard. Where they cannot be written, that is told once, and stops nothing.

    (`tensorboardX.SummaryWriter` writes in a thread, and waits for ever once that has died of a full disk.)
    """

    def __init__(self, folder: Path, first_step: int):
        self._place, self._flushed = folder, time.monotonic()
        self._events: EventsWriter | None = None
        with self._tolerant():
            self._folder = staging(folder)
            self._folder.mkdir(exist_ok=True)
            self._events = EventsWriter(str(self._folder / "events"))
            # What an earlier process wrote of this step and later ones is void.
            self._add(first_step, session_log=SessionLog(status=SessionLog.START))
            self._flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        with self._tolerant():
            if self._events is None:
                return
            if not self._folder.exists():
                raise FileNotFoundError(f"{self._folder} is gone")
            for name, value in values.items():
                self._add(step, summary=scalar(name, value))
            if time.monotonic() - self._flushed > FLUSH_SECONDS:
                self._flush()

    def close(self) -> None:
        with self._tolerant():
            if self._events is not None:
                self._events.close()
                publish(self._folder, self._place)

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        self._events.flush()
        publish(self._folder, self._place)

    def _add(self, step: int, **content: object) -> None:
        self._events.write_event(Event(wall_time=time.time(), step=step, **content))

    @contextlib.contextmanager
    def _tolerant(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            events, self._events = self._events, None
            if events is not None:
                with contextlib.suppress(Exception):  # that it can't be written is told once
                    events.close()
            text = f"TensorBoard's files cannot be written ({error}): training continues without them"
            warnings.warn(text, InputWarning, stacklevel=3)


def is_timed(name: str) -> bool:
    """Whether the value with this name depends on the clock: all others are the same in a run that was resumed."""
    return _TIMED.fullmatch(name) is not None


def evaluation(directory: Path, step: int) -> dict[str, float] | None:
    """The metrics of the evaluation after this step; None where it is not among the records."""
    for record in reversed(read(directory)):
        if record["step"] == step and record["split"] == "validation":
            return {name: value for name, value in record.items() if name not in ("step", "split")}
    return None


def read(directory: Path) -> list[dict]:
    """The records of a run, in order; what is null there was not finite, and is NaN. A last line that a kill cut short
    is left out.

    Raises:
      InputError: another line is damaged.
    """
    path = directory / "metrics.jsonl"
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text(errors="replace").splitlines(keepends=True), start=1):
        if line.endswith("\n"):
            try:
                records.append({k: math.nan if v is None else v for k, v in json.loads(line).items()})
            except (ValueError, AttributeError):
                raise InputError(f"{path}, line {number} is damaged: remove that line") from None
    return records

"""One process a run directory, on a store: a lease, since a store has no locks that end with their process.

    FOLDER/LOCK/000001      who holds it, as JSON; `beat` grows every `RENEW_SECONDS`

Whoever creates the object with the next number holds the lease. Creating is conditional: of several that try, the store
lets one succeed (if-generation-match 0 on gs://, If-None-Match on s3://). A holder that was killed leaves its object.
The next one takes over at once where it can see that the process is gone, on the same host; elsewhere after it has
watched the object for `LEASE_SECONDS` by its own clock without a beat. A holder that finds a higher number, or its own
object gone, has lost the lease: it was asleep for longer than that.
"""

import json
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError
from tx_jax.files import json_text
from tx_jax.storage.failures import StoreError
from tx_jax.storage.store_path import StorePath

RENEW_SECONDS, LEASE_SECONDS, WATCH_SECONDS = 10.0, 60.0, 2.0
FOLDER = "LOCK"


@contextmanager
def held(folder: StorePath, lost: Callable[[str], None]) -> Iterator[None]:
    """Holds the lease of a folder.

    Args:
      lost: called from another thread, with the reason, when another process has taken over; it must end this one
        before that writes anything more.

    Raises:
      InputError: another process holds it.
    """
    place, token = folder / FOLDER, uuid.uuid4().hex
    number = _take(folder, place, token)
    mine, stop = place / _name(number), threading.Event()
    thread = threading.Thread(target=_renew, args=(place, number, token, stop, lost), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        with suppress(StoreError):  # else the next one waits until it has expired
            mine.unlink(missing_ok=True)


def holder(folder: StorePath) -> str | None:
    """What tells this holder of the lease from any other; None if nobody holds it."""
    found = _newest(folder / FOLDER)
    return None if found is None else found[1].get("token")


def _take(folder: StorePath, place: StorePath, token: str) -> int:
    """Waits for the end of a lease whose holder is gone. Returns the number of this one."""
    found = _newest(place)
    if found is not None and not _is_gone(found[1]):
        beat, since = found[1].get("beat"), time.monotonic()
        while time.monotonic() - since < LEASE_SECONDS:
            time.sleep(min(WATCH_SECONDS, LEASE_SECONDS / 10))
            now = _newest(place)
            if now is None:
                found = None
                break
            if now[0] != found[0] or now[1].get("beat") != beat:
                raise _refused(folder, now[1])
    number = 1 if found is None else found[0] + 1
    try:
        (place / _name(number)).create(_record(token, 0))
    except FileExistsError:
        now = _newest(place)
        if now is None or now[1].get("token") != token:  # else the answer to the first try was lost
            raise _refused(folder, now[1] if now else {}) from None
    for other in place.iterdir():
        if other.name < _name(number):
            other.unlink(missing_ok=True)
    return number


def _refused(folder: StorePath, record: dict[str, Any]) -> InputError:
    return InputError(
        f"process {record.get('pid', '?')} on {record.get('host', '?')} is training in {folder}: wait for it, stop it, "
        "or give another --workdir"
    )


def _renew(place: StorePath, number: int, token: str, stop: threading.Event, lost: Callable[[str], None]) -> None:
    beat = 0
    while not stop.wait(RENEW_SECONDS):
        beat += 1
        try:
            found = _newest(place)
            if found is None or found[0] != number or found[1].get("token") != token:
                return lost(f"another process has taken over {place.parent}: this one writes nothing more")
            (place / _name(number)).write_bytes(_record(token, beat))
        except StoreError:  # as long as nothing can be read there, nothing can be written there either
            continue


def _newest(place: StorePath) -> tuple[int, dict[str, Any]] | None:
    """The highest number and its record; None if there is none."""
    try:
        names = sorted(path.name for path in place.iterdir() if path.name.isdecimal())
    except FileNotFoundError:
        return None
    for name in reversed(names):
        try:
            return int(name), json.loads((place / name).read_bytes())
        except FileNotFoundError:  # given back in the meantime
            continue
        except ValueError:
            return int(name), {}
    return None


def _name(number: int) -> str:
    return f"{number:06d}"


def _record(token: str, beat: int) -> bytes:
    record = {"token": token, "beat": beat, "pid": os.getpid(), "host": platform.node(), "boot": _boot()}
    return json_text(record | {"began": _began(os.getpid())}).encode()


def _is_gone(record: dict[str, Any]) -> bool:
    """Whether the process was one of this host, and is no longer there."""
    if not _boot() or (record.get("boot"), record.get("host")) != (_boot(), platform.node()):
        return False
    return _began(record.get("pid")) != record.get("began")


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() + _namespace()
    except OSError:
        return ""


def _namespace() -> str:
    """Containers of a host have process numbers of their own."""
    return os.readlink("/proc/self/ns/pid")


def _began(pid: Any) -> str | None:
    """When a process began, which tells it from a later one with the same number; None if there is no such process, or
    it has ended and nobody has asked how."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]

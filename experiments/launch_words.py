"""What the words of experiments.launch_tpu do, and how they show it."""

import shlex
import sys
import time
from collections.abc import Sequence

from tx_jax.errors import InputError, did_you_mean
from tx_jax.launch.accelerators import chip_of
from tx_jax.launch.gcloud import LABEL, Gcloud, GcloudFailed, Slice, labels_of, reason, resource_state
from tx_jax.launch.lifecycle import Resource
from tx_jax.launch.observing import WORKER, on_worker, status_command

SHOWN = 12  # accelerators of a zone in a message


def say(line: str) -> None:
    """A line of the launcher's own."""
    print(f"[{time.strftime('%H:%M:%S')}] {line}", flush=True)


def tell(text: bytes) -> None:
    """A part of a worker's log."""
    sys.stdout.flush()
    sys.stdout.buffer.write(text)
    sys.stdout.buffer.flush()


def check_zone(slice_: Slice, gcloud: Gcloud, accelerator: str) -> None:
    """Raises InputError if the zone does not have the accelerator."""
    try:
        types = gcloud.run(slice_.accelerators()).split()
    except GcloudFailed as error:
        raise InputError(f"--zone={slice_.zone}: gcloud cannot tell what it has: {error}") from None
    has = accelerator in types or (":" in accelerator and any(chip_of(one) == chip_of(accelerator) for one in types))
    if not has:
        listed = f" It has {', '.join(types[:SHOWN])}{' and more' if len(types) > SHOWN else ''}." if types else ""
        near = did_you_mean(accelerator, types)
        raise InputError(f"--zone={slice_.zone}: it has no {accelerator}.{listed}{near}")


def _described(slice_: Slice, gcloud: Gcloud) -> dict:
    """What gcloud says of the resource. Raises InputError if there is none."""
    try:
        return gcloud.json(slice_.describe()) or {}
    except GcloudFailed as error:
        if not error.is_absent:
            raise
    names = [_name(one) for one in gcloud.json(slice_.list_all()) or []]
    there = f"it has {', '.join(names)}" if names else "it has none"
    raise InputError(f"--name={slice_.name}: there is no such queued resource in {slice_.zone}: {there}")


def status(slice_: Slice, gcloud: Gcloud) -> None:
    found = _described(slice_, gcloud)
    if found or gcloud.only_shows:
        _show_status(slice_, gcloud, found)


def _show_status(slice_: Slice, gcloud: Gcloud, found: dict) -> None:
    if not gcloud.only_shows:
        why = f" ({text})" if (text := reason(found)) else ""
        launch = labels_of(found).get(LABEL)
        print(f"{slice_.name}: {resource_state(found).value}{why}, launch {launch or 'of no launcher'}")
    if gcloud.only_shows or resource_state(found) == Resource.ACTIVE:
        states = WORKER.findall(gcloud.run(slice_.ssh(status_command(slice_))))
        for number, (_, _, said) in enumerate(states):
            print(f"  worker {number}: {said}" if len(states) == 1 else f"  a worker: {said}")
        for line in gcloud.run(slice_.ssh(on_worker(slice_, "tail"), worker="0")).splitlines():
            print(f"  log: {line}")


def logs(slice_: Slice, gcloud: Gcloud, worker: str, follow: bool, poll_seconds: float) -> None:
    _described(slice_, gcloud)
    start = 1
    while True:
        text = gcloud.run(slice_.ssh(on_worker(slice_, "log", str(start)), worker=worker))
        data = text.encode(errors="surrogateescape")
        tell(data)
        start += len(data)
        if not follow or gcloud.only_shows:
            return
        time.sleep(poll_seconds)


def ssh(slice_: Slice, gcloud: Gcloud, worker: str, command: Sequence[str]) -> int:
    if worker == "all" and not command:
        raise InputError("--worker=all needs a command after --")
    return gcloud.interactive(slice_.ssh(shlex.join(command), worker=worker))


def stop(slice_: Slice, gcloud: Gcloud) -> None:
    _described(slice_, gcloud)
    gcloud.run(slice_.ssh(on_worker(slice_, "stop")))
    if not gcloud.only_shows:
        print(f"{slice_.name}: the training saves and stops. The VM stays, and costs, until the word delete.")


def delete(slice_: Slice, gcloud: Gcloud) -> None:
    _described(slice_, gcloud)
    gcloud.run(slice_.delete())
    if not gcloud.only_shows:
        print(f"{slice_.name}: deleted.")


def list_all(slice_: Slice, gcloud: Gcloud) -> None:
    found = gcloud.json(slice_.list_all()) or []
    shown = [one for one in found if slice_.name in ("", _name(one))]
    if not shown and not gcloud.only_shows:
        print(f"no queued resources{f' called {slice_.name}' if slice_.name else ''} in {slice_.zone}")
    for one in shown:
        specs = one.get("tpu", {}).get("nodeSpec", [{}])
        kind = specs[0].get("node", {}).get("acceleratorType", "?").rpartition("/")[2]
        launch = labels_of(one).get(LABEL)
        print(
            f"{_name(one):24} {resource_state(one).value:22} {kind:14} {f'launch {launch}' if launch else ''}".rstrip()
        )


def _name(description: dict) -> str:
    return description.get("name", "?").rpartition("/")[2]

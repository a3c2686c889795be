"""The manifest of a checkpoint: size and SHA-256 of each of its files, to find what a disk or a copy has damaged.

It is written among the files before the checkpoint takes its name, so there is no moment at which a checkpoint is
visible without one. Checkpoints of earlier versions have no manifest and cannot be verified. Newer ones say in their
metadata that they have one, so a lost manifest is noticed.

Each process hashes what it wrote itself (`hash_own`); process 0 puts that together, and hashes the little that it adds.
On a store the manifest also has the checksum that the store computed of each object: as long as an object still has it,
nothing need be read to verify it. A checkpoint that was copied elsewhere is verified by SHA-256.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tx_jax.files import json_text, sync_folder, write_atomically
from tx_jax.storage.store_path import StorePath

NAME = "manifest.json"
MARK = {"manifest": 1}  # what the metadata of a checkpoint with a manifest says
METADATA = "_CHECKPOINT_METADATA"  # Orbax's name
OWN = "ocdbt.process_{}"  # Orbax's name for the folder of what a process writes
HASHES = "hashes.{}.json"  # what a process tells process 0 of its files, by their names below the item
AT_ONCE = 2**25  # bytes; objects of a store up to this size are read in one request
SMALL = 2**20  # bytes; files up to this size are read even in a quick check


class _Found(NamedTuple):
    """A file that is there: its bytes, and the checksum that a store has of it, else ""."""

    size: int
    checksum: str = ""


def hash_own(item: Path, process: int) -> None:
    """Hashes what this process wrote into the folder of an item of a checkpoint, syncs it to disk, and leaves the
    result for `write`. Only this process may have written there, and it must have finished.

    Raises:
      OSError: a file cannot be read, or the result not written.
    """
    own = OWN.format(process)
    hashes = {f"{own}/{name}": entry for name, entry in hashes_of(item / own).items()}
    tell_hashes(item, process, hashes)


def hashes_of(folder: Path) -> dict[str, dict[str, int | str]]:
    """Size and SHA-256 of each file below a folder, which are synced to disk."""
    return {name: _hashed(folder / name, found.size) for name, found in _files(folder).items()}


def tell_hashes(item: Path, process: int, hashes: dict[str, dict[str, int | str]]) -> None:
    """Leaves for `write` what a process knows of its files in the folder of an item, by their names below it. It need
    not survive a power cut: the checkpoint is not finished then."""
    (item / HASHES.format(process)).write_text(json_text(hashes) + "\n")


def write(directory: Path) -> None:
    """Syncs every file below the directory to disk, and then writes the manifest.

    Raises:
      OSError: a file cannot be read, or the manifest not written.
    """
    known = {}
    for path in [*directory.glob(f"*/{HASHES.format('*')}")]:
        for name, entry in json.loads(path.read_bytes()).items():
            known[f"{path.parent.name}/{name}"] = entry
        path.unlink()
    files = {}
    for name, found in _files(directory).items():
        entry = known.get(name)
        if entry is None or entry["bytes"] != found.size:
            entry = _hashed(directory / name, found.size)
        files[name] = entry | ({"store": found.checksum} if found.checksum else {})
    for folder in _folders(directory):
        sync_folder(folder)
    write_atomically(directory / NAME, json_text({"files": files}, indent=1) + "\n")


def _hashed(path: Path, size: int) -> dict[str, int | str]:
    if not isinstance(path, StorePath):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    return {"bytes": size, "sha256": _sha256(path, size)}


def _sha256(path: Path, size: int) -> str:
    if isinstance(path, StorePath) and size <= AT_ONCE:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def problem(directory: Path, *, quick: bool = False) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if every file is as it was written.

    Args:
      quick: looks at the presence and size of large files only.
    """
    try:
        found = _files(directory)
        if not found:
            return "it is empty"
        if not (directory / NAME).exists():
            return _problem_of_old(directory, found)
        for name, expected in json.loads((directory / NAME).read_bytes())["files"].items():
            if reason := _problem_of_file(directory / name, expected, found.get(name), quick=quick):
                return f"{name} {reason}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{NAME} is damaged"
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"
    return None


def recorded(directory: Path) -> dict[str, dict[str, Any]]:
    """What the manifest says of each file, by name; {} if there is none.

    Raises:
      OSError, ValueError: it cannot be read.
    """
    return json.loads((directory / NAME).read_bytes())["files"] if is_verifiable(directory) else {}


def is_verifiable(directory: Path) -> bool:
    """Whether there is a manifest; versions before there were manifests wrote none."""
    return (directory / NAME).exists()


def metadata(directory: Path) -> dict:
    """The notes stored with a checkpoint; {} if there are none.

    Raises:
      OSError, ValueError: the file with it cannot be read.
    """
    return json.loads((directory / METADATA).read_bytes()).get("custom_metadata") or {}


def _problem_of_file(path: Path, expected: dict, found: _Found | None, *, quick: bool) -> str | None:
    if found is None:
        return "is missing"
    if found.size != expected["bytes"]:
        return f"has {found.size:,} bytes, not {expected['bytes']:,}"
    if found.checksum and found.checksum == expected.get("store"):
        return None
    if quick and found.size > SMALL:
        return None
    return None if _sha256(path, found.size) == expected["sha256"] else "has another checksum"


def _problem_of_old(directory: Path, found: dict[str, _Found]) -> str | None:
    if METADATA not in found:
        return f"{NAME} and {METADATA} are missing"
    try:
        if metadata(directory).items() >= MARK.items():
            return f"{NAME} is missing"
    except (ValueError, AttributeError):
        return f"{METADATA} is damaged"
    return next((f"{name} has 0 bytes" for name, file in found.items() if not file.size), None)


def _files(directory: Path) -> dict[str, _Found]:
    """The files below, without the manifest, by name; one request of a store."""
    if isinstance(directory, StorePath):
        found = {file.name: _Found(file.size, file.checksum) for file in directory.objects()}
    else:
        paths = (path for path in sorted(directory.rglob("*")) if path.is_file())
        found = {path.relative_to(directory).as_posix(): _Found(path.stat().st_size) for path in paths}
    return {name: file for name, file in found.items() if name.rpartition("/")[2] != NAME}


def _folders(directory: Path) -> Iterator[Path]:
    if not isinstance(directory, StorePath):
        yield from (path for path in directory.rglob("*") if path.is_dir())

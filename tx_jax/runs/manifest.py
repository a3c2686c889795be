"""The manifest of a checkpoint: size and SHA-256 of each of its files, to find what a disk or a copy has damaged.

It is written among the files before the checkpoint takes its name, so there is no moment at which a checkpoint is
visible without one. Checkpoints of earlier versions have no manifest and cannot be verified. Newer ones say in their
metadata that they have one, so a lost manifest is noticed.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tx_jax.files import json_text, sync_folder, write_atomically

NAME = "manifest.json"
MARK = {"manifest": 1}  # what the metadata of a checkpoint with a manifest says
METADATA = "_CHECKPOINT_METADATA"  # Orbax's name
SMALL = 2**20  # bytes; files up to this size are read even in a quick check


def write(directory: Path) -> None:
    """Syncs every file below the directory to disk, and then writes the manifest.

    Raises:
      OSError: a file cannot be read, or the manifest not written.
    """
    files = {}
    for path in _files(directory):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())
        files[path.relative_to(directory).as_posix()] = {"bytes": path.stat().st_size, "sha256": digest}
    for folder in (path for path in directory.rglob("*") if path.is_dir()):
        sync_folder(folder)
    write_atomically(directory / NAME, json_text({"files": files}, indent=1) + "\n")


def problem(directory: Path, *, quick: bool = False) -> str | None:
    """What is wrong with a checkpoint, in a few words; None if every file is as it was written.

    Args:
      quick: looks at the presence and size of large files only.
    """
    try:
        if not any(_files(directory)):
            return "it is empty"
        if not (directory / NAME).exists():
            return _problem_of_old(directory)
        for name, expected in json.loads((directory / NAME).read_bytes())["files"].items():
            if found := _problem_of_file(directory / name, expected["bytes"], expected["sha256"], quick=quick):
                return f"{name} {found}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"{NAME} is damaged"
    except OSError as error:
        return f"{error.filename or directory}: {error.strerror}"
    return None


def is_verifiable(directory: Path) -> bool:
    """Whether there is a manifest; versions before there were manifests wrote none."""
    return (directory / NAME).exists()


def metadata(directory: Path) -> dict:
    """The notes stored with a checkpoint; {} if there are none.

    Raises:
      OSError, ValueError: the file with it cannot be read.
    """
    return json.loads((directory / METADATA).read_bytes()).get("custom_metadata") or {}


def _problem_of_file(path: Path, size: int, digest: str, *, quick: bool) -> str | None:
    if not path.is_file():
        return "is missing"
    if (found := path.stat().st_size) != size:
        return f"has {found:,} bytes, not {size:,}"
    if quick and size > SMALL:
        return None
    with path.open("rb") as file:
        return None if hashlib.file_digest(file, "sha256").hexdigest() == digest else "has another checksum"


def _problem_of_old(directory: Path) -> str | None:
    if not (directory / METADATA).exists():
        return f"{NAME} and {METADATA} are missing"
    try:
        if metadata(directory).items() >= MARK.items():
            return f"{NAME} is missing"
    except (ValueError, AttributeError):
        return f"{METADATA} is damaged"
    empty = [path for path in _files(directory) if not path.stat().st_size]
    return f"{empty[0].relative_to(directory)} has 0 bytes" if empty else None


def _files(directory: Path) -> Iterator[Path]:
    return (path for path in sorted(directory.rglob("*")) if path.is_file() and path.name != NAME)

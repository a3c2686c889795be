"""Paths as users give them; files that are replaced atomically, so that after a crash they have the old content or the
new; and JSON that any reader can read.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError

# At least two letters: one is a Windows drive. Path turns gs://x into `gs:/x`. `tfds:NAME` is not an address.
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/")
_HUB = re.compile(r"\s*https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")


def local_path(text: str, what: str) -> Path:
    """The path that a user gave, which must be in this machine's file system.

    Args:
      text: as it was given.
      what: the flag or key that it was given as, such as --workdir; the error names it.

    Raises:
      InputError: it is the address of an object store or of the network, such as gs://bucket/folder.
    """
    if hub := _HUB.match(text):
        raise InputError(f"{what}={text}: a model on the Hugging Face Hub is given by its name alone, {hub[1]}")
    if address := _ADDRESS.match(text):
        raise InputError(
            f"{what}={text}: paths that begin with {address[1]}:// are not supported yet, only those of this machine's "
            "file system: copy it here, or mount it (such as by gcsfuse, mount-s3) and give the folder"
        )
    return Path(text)


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The value as JSON, with null for numbers that are NaN or infinite, which JSON does not have.

    Every JSON file is written with this, except the definitions of tokenizers and models, which have their own format.
    """
    return json.dumps(_with_nulls(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file atomically: after a kill or a power cut it has the old content or the new. On disk at return.

    Raises:
      OSError: it cannot be written; an existing file is unchanged, and nothing else is left behind.
    """
    temporary = path.with_name(path.name + ".tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def replace_folder(path: Path, write: Callable[[Path], None]) -> None:
    """Replaces a folder with the one that `write` fills. Its name never stands for a part of either; after a kill
    between the two renames the folder is missing until the next call.

    Raises:
      OSError: it cannot be written; an existing folder is unchanged.
    """
    temporary, earlier = _beside(path)
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        write(temporary)
        for file in filter(Path.is_file, temporary.rglob("*")):
            with file.open("rb") as opened:
                os.fsync(opened.fileno())
    except OSError:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(temporary)
    shutil.rmtree(earlier, ignore_errors=True)
    if path.exists():
        os.replace(path, earlier)
    os.replace(temporary, path)
    sync_folder(path.parent)
    shutil.rmtree(earlier, ignore_errors=True)


def clear_replaced(path: Path) -> None:
    """Removes what a kill in `replace_folder` left beside a folder that is whole."""
    for folder in _beside(path):
        shutil.rmtree(folder, ignore_errors=True)


def _beside(path: Path) -> tuple[Path, Path]:
    """Where the new content of a folder is made, and where the earlier one is meanwhile."""
    return path.with_name(path.name + ".tmp"), path.with_name(path.name + ".old")


def sync_folder(path: Path) -> None:
    """Makes the names in a folder survive a power cut, if the file system supports it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems sync no folders
        pass
    finally:
        os.close(descriptor)

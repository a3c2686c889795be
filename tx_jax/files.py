"""Files that are replaced whole: after a crash they hold the old content or the new, never a part. What JSON they hold
any reader can read.
"""

import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def json_text(value: Any, *, indent: int | None = None, ensure_ascii: bool = True) -> str:
    """The value as JSON, a number that is NaN or infinite as null: JSON has no such numbers.

    Every file of JSON is made with this, but for the definitions of tokenizers and models, which have a form of their
    own.
    """
    return json.dumps(_with_nulls(value), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)


def _with_nulls(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_atomically(path: Path, content: str | bytes) -> None:
    """Replaces a file so that a reader, a kill or a power cut leaves the old content or the new; on disk at return.

    Raises:
      OSError: it cannot be written; an earlier file is as it was, and nothing else is left behind.
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
    """Replaces a folder by what `write` makes in an empty one. Under its name there is never a part of either; after a
    kill between the two renames there is nothing, until the next call.

    Raises:
      OSError: it cannot be written; an earlier folder is as it was.
    """
    temporary, earlier = (path.with_name(path.name + ending) for ending in (".tmp", ".old"))
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


def sync_folder(path: Path) -> None:
    """Makes the names in a folder last through a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems sync no folders
        pass
    finally:
        os.close(descriptor)

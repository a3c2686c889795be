"""Paths as users give them, and files that are replaced whole: after a crash they hold the old content or the new."""

import os
import re
from pathlib import Path

from tx_jax.errors import InputError

# Two letters at least: one is a drive of Windows. `gs:/x` is what Path makes of gs://x. `tfds:NAME` is no address.
_ADDRESS = re.compile(r"\s*([A-Za-z][A-Za-z0-9+.-]+):/")
_HUB = re.compile(r"\s*https?://(?:www\.)?(?:huggingface\.co|hf\.co)/([\w.-]+/[\w.-]+)")


def local_path(text: str, what: str) -> Path:
    """The path that a user gave, which must be one of this machine's file system.

    Args:
      text: as it was given.
      what: where it was given, such as --workdir: the error names it.

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


def sync_folder(path: Path) -> None:
    """Makes the names in a folder last through a power cut, where the file system can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some network file systems sync no folders
        pass
    finally:
        os.close(descriptor)

"""The working tree as it is copied to the workers, and what is kept of it: revision, patch, files that git lacks."""

import dataclasses
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from tx_jax.errors import InputError

MAX_BYTES = 200 << 20


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The files of a working tree.

    Attributes:
      revision: of the commit that is checked out.
      patch: the changes that are not committed, as `git diff --binary` has them.
      untracked: names of files that git neither knows nor ignores.
      files: names of all files that are copied: those that git knows, as they are now, and the untracked.
    """

    root: Path
    revision: str
    patch: bytes
    untracked: tuple[str, ...]
    files: tuple[str, ...]

    def write_archive(self, path: Path) -> None:
        """Writes the files as a gzipped tar archive."""
        with tarfile.open(path, "w:gz", dereference=False) as archive:
            for name in self.files:
                archive.add(self.root / name, arcname=name, recursive=False)

    def holds(self, path: Path) -> bool:
        """Whether a path, relative to the root or absolute, is a file or a folder of the snapshot."""
        try:
            name = (self.root / path).resolve().relative_to(self.root.resolve()).as_posix()
        except ValueError:
            return False
        return any(file == name or file.startswith(f"{name}/") for file in self.files)


def take(root: Path) -> Snapshot:
    """The snapshot of a clone.

    Raises:
      InputError: it is no clone, or too large to be copied to every worker.
    """
    try:
        revision = _git(root, "rev-parse", "HEAD").decode().strip()
    except (OSError, subprocess.CalledProcessError) as error:
        raise InputError(f"{root} is no git clone with a commit whose state is recorded: {_said(error)}") from None
    tracked = _names(_git(root, "ls-files", "-z"))
    untracked = _names(_git(root, "ls-files", "-z", "--others", "--exclude-standard"))
    files = [name for name in (*tracked, *untracked) if (path := root / name).is_symlink() or path.is_file()]
    sizes = {name: (root / name).lstat().st_size for name in files}
    if sum(sizes.values()) > MAX_BYTES:
        largest = sorted(sizes, key=sizes.__getitem__, reverse=True)[:3]
        listed = ", ".join(f"{name} ({sizes[name] >> 20} MB)" for name in largest)
        raise InputError(
            f"{root} has {sum(sizes.values()) >> 20} MB to copy to every worker, more than {MAX_BYTES >> 20} MB; the "
            f"largest files are {listed}: have git ignore what is not code, and put data on the store"
        )
    patch = _git(root, "diff", "--binary", "HEAD")
    return Snapshot(root, revision, patch, tuple(untracked), tuple(files))


def _git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=True).stdout


def _names(listed: bytes) -> Sequence[str]:
    return sorted({name.decode(errors="surrogateescape") for name in listed.split(b"\0") if name})


def _said(error: Exception) -> str:
    text = getattr(error, "stderr", b"") or b""
    return (text.decode(errors="replace").strip().splitlines() or [str(error)])[-1]

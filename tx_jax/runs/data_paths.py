"""Where a run's data is, if its configuration has relative paths and the run is read in another folder than that in
which it was started."""

import dataclasses
import warnings
from pathlib import Path

from tx_jax.config import DATA_PATHS, ExperimentConfig
from tx_jax.errors import InputError, InputWarning
from tx_jax.files import files_of
from tx_jax.runs.run_dir import RunDir
from tx_jax.storage import schemes

KEYS = (*DATA_PATHS, "selective_words")


def found(directory: RunDir, config: ExperimentConfig, *, store: str | None = None) -> ExperimentConfig:
    """The configuration of a run, with its relative paths as they were meant: in the folder where the run was started,
    or else, where that has no such file, in this one. Warns with InputWarning of what is taken from another folder.

    Args:
      store: what is used instead of `data.store`, which is then not looked for.

    Raises:
      InputError: neither folder has one of them.
    """
    data, started = config.data, directory.started_in()
    changed: dict[str, str | tuple[str, ...]] = {} if store is None else {"store": store}
    for key in KEYS:
        value = getattr(data, key, "")
        if key in changed or not value:
            continue
        if isinstance(value, str):
            changed[key] = _located(directory, f"data.{key}", value, started)
        else:
            splits = (split.partition("=") for split in value)
            changed[key] = tuple(f"{name}={_located(directory, f'data.{key}', x, started)}" for name, _, x in splits)
    return dataclasses.replace(config, data=dataclasses.replace(data, **changed))


def _located(directory: RunDir, key: str, value: str, started: Path | None) -> str:
    """The value, a path or several, comma-separated, with those replaced that are in the other folder."""
    parts = [part.strip() for part in value.split(",")]
    return ",".join(_of_part(directory, key, part, started) for part in parts)


def _of_part(directory: RunDir, key: str, part: str, started: Path | None) -> str:
    named = part.startswith("tfds:") or schemes.scheme_of(part) is not None
    if not part or named or Path(part).is_absolute() or started == Path.cwd():
        return part
    if started is not None and _is_there(there := str(started / part)):
        if not (Path(part).exists() and Path(there).exists() and Path(part).samefile(there)):
            taken = f"{key}={part} is taken from {started}, where {directory.path} was started"
            warnings.warn(taken, InputWarning, stacklevel=2)
        return there
    if _is_there(part):
        return part
    begun = "the folder in which it was started" if started is None else f"{started}, where it was started,"
    raise InputError(
        f"{key}={part} of {directory.path} is relative to {begun} and neither there nor in this folder, {Path.cwd()}: "
        "start in the folder that has it" + (", or give --store" if key == "data.store" else "")
    )


def _is_there(part: str) -> bool:
    return Path(part).exists() or bool(files_of(part))

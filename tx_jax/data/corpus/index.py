"""Indexes: arrays that are computed once from a split and kept next to its store, such as where each example begins.

    STORE/index/FINGERPRINT/train-spans-0123456789ab/index.json    its inputs, and the sizes of its files
    STORE/index/FINGERPRINT/train-spans-0123456789ab/starts.npy    one file per column

They are memory-mapped, so that they take no memory of their own, and phases and processes share them. They are not part
of the store: if STORE/index is deleted, they are computed again. An index is written to a folder with a temporary name,
which is renamed once everything is on disk: a killed process leaves nothing that looks like an index, and if several
processes compute the same one, the first to finish wins. If the store is not writable, indexes are kept in
~/.cache/tx_jax/index, and if that is not writable either, in memory. Indexes of a small split are computed in memory at
every start.
"""

import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
import shutil
import time
import uuid
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tx_jax.data.corpus.token_store import INDEX, Split, map_array, read_json, write_json
from tx_jax.data.corpus.writer import GrowingArray
from tx_jax.errors import InputWarning
from tx_jax.files import sync_folder

FORMAT = 1  # increase it whenever the contents of an index with the same name and settings change
SMALL = 1 << 22  # splits with fewer tokens: an index takes less than a tenth of a second
LONG = 1 << 28  # splits with at least this many tokens: the user is told that an index is computed
ABANDONED_SECONDS = 6 * 3600  # an unfinished index is deleted after this long without a change
_RECORD = "index.json"
_PREFIX = 16  # characters of a fingerprint in the name of a folder
_DELETED = r"\.[0-9a-f]{16}-[0-9a-f]{32}"  # the name of such a folder while it is deleted
_logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an index is computed.

    Attributes:
      name: the kind of index, a part of its folder's name.
      title: what it is, for the user: "making the {title} of ...".
      settings: plain values: everything that the contents depend on, except the split.
      columns: the name and type of each array.
      blocks: computes the contents: yields pieces of some or all columns, to be concatenated in this order.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    columns: Mapping[str, np.dtype]
    blocks: Callable[[], Iterator[Mapping[str, np.ndarray]]]


class Index:
    """The arrays of an index, by name; one-dimensional.

    Attributes:
      nbytes: memory held, in bytes; 0 if they are memory-mapped.
    """

    def __init__(self, columns: Mapping[str, np.ndarray], *, mapped: bool):
        self._columns = columns
        self.nbytes = 0 if mapped else sum(column.nbytes for column in columns.values())

    def __getitem__(self, name: str) -> np.ndarray:
        return self._columns[name]


_opened: weakref.WeakValueDictionary[tuple[str, str], Index] = weakref.WeakValueDictionary()
_warned: set[str] = set()


def count_type(most: int) -> np.dtype:
    """The narrower of two candidate types that can hold the numbers from 0 to `most`."""
    return np.dtype("<u4" if most < 1 << 32 else "<i8")


def open_index(split: Split, recipe: Recipe) -> Index:
    """The index, as saved by an earlier start or another process; otherwise it is computed and saved now.

    Warns (InputWarning) if it cannot be saved next to the store. Logs (INFO) if computing it takes seconds or longer.
    """
    if split.num_tokens < SMALL or not split.fingerprint:
        return _in_memory(recipe)
    record = {
        "format": FORMAT,
        "store": split.fingerprint,
        "split": split.folder.name,
        "name": recipe.name,
        "settings": dict(recipe.settings),
        "columns": {name: np.dtype(dtype).str for name, dtype in recipe.columns.items()},
    }
    digest = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    name = f"{record['split']}-{recipe.name}-{digest[:12]}"
    index = _opened.get((split.fingerprint, name))
    if index is None:
        index = _opened[split.fingerprint, name] = _find_or_make(split, recipe, record, name)
    return index


def delete_indexes(store: Path, *, but: str = "") -> None:
    """Deletes a store's indexes, if possible, except those of the contents with fingerprint `but`. The others would
    do no harm: an index is looked up by the fingerprint of the contents that it was computed from.
    """
    place = store / INDEX
    for folder in place.glob("*"):
        is_ours = re.fullmatch(_DELETED, folder.name) or any(folder.glob(f"*/{_RECORD}"))
        if is_ours and folder.name != but[:_PREFIX]:
            with contextlib.suppress(OSError):
                _delete(folder)
    if not but:
        with contextlib.suppress(OSError):  # for example if the folder holds other files
            place.rmdir()


def _find_or_make(split: Split, recipe: Recipe, record: dict, name: str) -> Index:
    beside = split.folder.parent / INDEX
    places = [beside, *([cache] if (cache := _cache_folder()) else [])]
    folders = [place / split.fingerprint[:_PREFIX] / name for place in places]
    for folder in folders:
        if (index := _read(folder, record)) is not None:
            return index
    if split.num_tokens >= LONG:
        _logger.info(
            f"{split.name}, {split.num_tokens:,} tokens: building the {recipe.title}, once for all later starts"
        )
    problems = []
    for place, folder in zip(places, folders, strict=True):
        try:
            if place == beside:
                delete_indexes(split.folder.parent, but=split.fingerprint)
            _write(folder, record, recipe)
            index = _read(folder, record)
        except OSError as error:
            problems.append(f"{place} cannot be written ({error.strerror or error})")
            continue
        if index is not None:
            if problems:
                _warn_once(f"{problems[0]}: what is computed once from the token store is kept in {place}")
            return index
        problems.append(f"{place} does not return what was written")
    _warn_once(
        f"{', '.join(problems)}: what could be kept for later starts is held in memory and computed anew at each start"
    )
    return _in_memory(recipe)


def _warn_once(text: str) -> None:
    if text not in _warned:
        _warned.add(text)
        warnings.warn(text, InputWarning, stacklevel=2)


def _cache_folder() -> Path | None:
    folder = Path(os.path.expanduser("~/.cache/tx_jax/index"))
    return folder if folder.is_absolute() else None  # it is relative if the user has no home folder


def _in_memory(recipe: Recipe) -> Index:
    parts: dict[str, list[np.ndarray]] = {name: [np.empty(0, dtype)] for name, dtype in recipe.columns.items()}
    for block in recipe.blocks():
        for name, values in block.items():
            parts[name].append(values.astype(recipe.columns[name]))
    return Index({name: np.concatenate(arrays) for name, arrays in parts.items()}, mapped=False)


def _read(folder: Path, record: dict) -> Index | None:
    """The index in a folder; None if there is none, or it is incomplete."""
    try:
        found = read_json(folder / _RECORD)
        items = found.pop("items")
        if found != record:
            return None
        columns = {name: map_array(folder / f"{name}.npy") for name in record["columns"]}
    except (OSError, EOFError, ValueError, KeyError, TypeError, AttributeError):  # numpy's reader raises many
        return None
    is_whole = all(
        column.dtype.str == record["columns"][name] and column.shape == (items.get(name),)
        for name, column in columns.items()
    )
    return Index(columns, mapped=True) if is_whole else None


def _write(folder: Path, record: dict, recipe: Recipe) -> None:
    """Computes an index block by block. Raises OSError if it cannot be written; then nothing is left behind."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    _delete_abandoned(folder.parent)
    partial = _hidden(folder)
    partial.mkdir()
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, partial, ignore_errors=True)
        arrays: dict[str, GrowingArray] = {}
        for name, dtype in recipe.columns.items():
            arrays[name] = GrowingArray(partial / f"{name}.npy", dtype)
            stack.callback(_close, arrays[name])
        for block in recipe.blocks():
            for name, values in block.items():
                arrays[name].append(values)
        for array in arrays.values():
            array.finish()
        write_json(partial / _RECORD, record | {"items": {name: array.length for name, array in arrays.items()}})
        _publish(partial, folder, record)


def _close(array: GrowingArray) -> None:
    with contextlib.suppress(OSError):  # closing writes buffered data, which fails again on a full disk
        array.close()


def _publish(partial: Path, folder: Path, record: dict) -> None:
    """Renames a finished index to its final name, unless another process was faster. Raises OSError if that fails."""
    if folder.exists() and _read(folder, record) is None:  # damaged
        _delete(folder)
    try:
        partial.rename(folder)
    except OSError:
        if _read(folder, record) is None:
            raise
    sync_folder(folder.parent)


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-{uuid.uuid4().hex}")


def _delete(folder: Path) -> None:
    """Deletes a folder. It is renamed first, so that no other process sees a partly deleted folder."""
    hidden = _hidden(folder)
    folder.rename(hidden)
    shutil.rmtree(hidden, ignore_errors=True)


def _delete_abandoned(folder: Path) -> None:
    """Deletes unfinished indexes left by killed processes. Other processes may be writing at the same time."""
    for partial in folder.glob(".*"):
        with contextlib.suppress(OSError):
            changed = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
            if time.time() - changed > ABANDONED_SECONDS:
                shutil.rmtree(partial, ignore_errors=True)

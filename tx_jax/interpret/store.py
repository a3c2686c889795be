"""Activations of many texts in a folder: one flat file each, memory-mapped, written as they are computed.

capture.json    the names and shapes, the tokens of each text
NAME.npy        the activations of all texts, one text after another, float32; slashes in a name are dots
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tx_jax.errors import InputError
from tx_jax.files import json_text, local_folder, new_folder, path_of
from tx_jax.interpret import capture, sites
from tx_jax.interpret.texts import Row

FILE = "capture.json"


def write(
    model: capture.Model,
    rows: Sequence[Row],
    names: Sequence[str],
    path: str | Path,
    *,
    batch_size: int = capture.BATCH_SIZE,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> None:
    """Captures the activations of all rows into a new folder. In memory there is one batch at a time.

    Raises:
      InputError: the folder exists and is not empty.
    """
    config = model.model
    sizes = {"H": config.num_heads, "K": config.head_dim, "D": config.dim, "F": config.mlp_dim, "E": config.table_dim}
    known = sites.of(config)
    shapes = {name: [_shape(known[name], row, sizes) for row in rows] for name in names}
    with new_folder(path_of(path, "path"), last=FILE) as folder:
        arrays = {}
        for name in names:
            total = sum(map(math.prod, shapes[name]))
            arrays[name] = np.lib.format.open_memmap(_file(folder, name), "w+", np.float32, (total,))
        begins = {name: np.cumsum([0, *map(math.prod, shapes[name])]) for name in names}
        for index, values, _ in capture.stream(model, rows, names, batch_size=batch_size, progress=progress):
            for name, value in values.items():
                arrays[name][begins[name][index] : begins[name][index + 1]] = value.ravel()
        for array in arrays.values():
            array.flush()
        record = {
            "model": model.name,
            "shapes": shapes,
            "texts": [{"tokens": row.tokens, "target_tokens": row.target_tokens} for row in rows],
        }
        (folder / FILE).write_text(json_text(record) + "\n", encoding="utf-8")


def _shape(site: sites.Site, row: Row, sizes: Mapping[str, int]) -> list[int]:
    lengths = dict(site.lengths)
    return [row.length(lengths[axis]) if axis in lengths else sizes[axis] for axis in site.axes]


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name.replace('/', '.')}.npy"


class Captured:
    """What `write` wrote.

    Attributes:
      names: of the activations.
      tokens: of each text, as the vocabulary writes them.
    """

    def __init__(self, path: str | Path):
        """Raises InputError if there is no such folder."""
        folder = local_folder(path_of(path, "path"))
        try:
            record = json.loads((folder / FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{path} holds no activations: it has no {FILE}") from None
        self._shapes = record["shapes"]
        self.names = tuple(self._shapes)
        self.tokens = [tuple(text["tokens"]) for text in record["texts"]]
        self._flat = {name: np.load(_file(folder, name), mmap_mode="r") for name in self.names}
        self._begins = {name: np.cumsum([0, *map(math.prod, shapes)]) for name, shapes in self._shapes.items()}

    def __len__(self) -> int:
        return len(self.tokens)

    def get(self, name: str, text: int) -> np.ndarray:
        """An activation of one text, in the shape that `sites` says; read from the disk when it is used."""
        if name not in self._flat:
            raise InputError(f"{name} was not captured; there are {', '.join(self.names)}")
        begins = self._begins[name]
        return self._flat[name][begins[text] : begins[text + 1]].reshape(self._shapes[name][text])

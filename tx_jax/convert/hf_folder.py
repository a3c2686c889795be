"""Reads and writes a Hugging Face model folder (config.json and safetensors files). Input is not trusted; writes are
atomic.

Pickles are never opened, because loading one runs whatever code it contains.
"""

import json
import os
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from tx_jax.errors import InputError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# The supported floating-point formats of weights; other formats are used by quantized models.
DTYPES = {
    "float64": np.dtype(np.float64),
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
_DTYPE_NAMES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
# Other weight file formats -> what else from_pretrained needs to read them.
_OTHER_FORMS = {
    ".bin": "",
    ".pt": "",
    ".pth": "",
    ".pkl": "",
    ".h5": ", from_tf=True",
    ".ckpt": ", from_tf=True",
    ".msgpack": ", from_flax=True",
}
MAX_SHARD_BYTES = 5_000_000_000


class Stored(NamedTuple):
    """One tensor of a file, before it is read."""

    file: Path
    name: str
    shape: tuple[int, ...]
    dtype: str

    def read(self) -> np.ndarray:
        """Returns the values as stored. Raises InputError if this is not a floating-point tensor."""
        if self.dtype not in _DTYPE_NAMES:
            raise InputError(
                f"{self.file}: {self.name} holds {self.dtype} values; only {', '.join(DTYPES)} weights can be read"
            )
        with safe_open(self.file, framework="np") as file:
            return file.get_tensor(self.name)


def read_config(folder: Path) -> dict[str, Any]:
    """Returns the values of config.json. Raises InputError if the file is missing or damaged."""
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}")
    return _read_json(_inside(folder, "config.json"))


def open_tensors(folder: Path, config: Mapping[str, Any]) -> dict[str, Stored]:
    """Returns all tensors of a folder by name; reads only the headers of its files.

    Raises:
      InputError: there is no safetensors file; a file is truncated or damaged; the index names files outside the
        folder, or tensors that are not in the file it names.
    """
    if (folder / SINGLE).exists():
        return headers(_inside(folder, SINGLE))
    if not (folder / INDEX).exists():
        raise InputError(_no_weights(folder, config))
    places = _read_json(_inside(folder, INDEX)).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise InputError(f"{folder / INDEX} is damaged: its weight_map is no table of file names")
    tensors: dict[str, Stored] = {}
    for file in sorted(set(places.values())):
        found = headers(_inside(folder, file))
        if astray := [name for name in found if places.get(name) != file]:
            raise InputError(f"{folder / file} holds {astray[0]!r}, which {INDEX} does not say")
        tensors |= found
    if lost := [name for name in places if name not in tensors]:
        raise InputError(f"{folder / INDEX} says that {lost[0]!r} is in {places[lost[0]]}, but it is not")
    return tensors


def headers(path: Path) -> dict[str, Stored]:
    """Returns the tensors of one safetensors file by name. Raises InputError for a truncated or damaged file."""
    try:
        with safe_open(path, framework="np") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return {name: Stored(path, name, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()}
    except SafetensorError as error:
        with path.open("rb") as raw:
            pointer = raw.read(24) == b"version https://git-lfs."
        why = (
            "git-lfs left a pointer in its place; run `git lfs pull`" if pointer else f"truncated or damaged ({error})"
        )
        raise InputError(f"{path} is no safetensors file: {why}") from None


def _inside(folder: Path, name: str) -> Path:
    """Returns the path of a file in the folder. Raises InputError if the name, or a link, leads outside it."""
    if "\0" in name:
        raise InputError(f"{folder} names the file {name!r}: refused")
    path = folder / name
    root = folder.resolve()
    # The Hub's cache stores a snapshot's files next to it and links to them.
    if folder.parent.name == "snapshots" and (folder.parents[1] / "blobs").is_dir():
        root = folder.parents[1].resolve()
    outside = os.path.isabs(name) or ".." in re.split(r"[/\\]", name) or not path.resolve().is_relative_to(root)
    if outside:
        raise InputError(f"{folder} names the file {name!r}, which lies outside it: refused")
    if not path.is_file():
        raise InputError(f"{folder} is no whole Hugging Face model: it lacks {name}")
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} holds no table of keys")
    return values


def _no_weights(folder: Path, config: Mapping[str, Any]) -> str:
    """Explains why there are no weights to read, and gives the command that fixes it."""
    forms = [suffix for suffix in _OTHER_FORMS if any(suffix in path.suffixes for path in folder.iterdir())]
    if not forms:
        return f"{folder} holds no weights: neither {SINGLE} nor {INDEX}"
    why = f"{folder} holds no {SINGLE}, and {forms[0]} files are never loaded: they can run code"
    return f"{why}. {advice(str(folder), config, forms[0])}"


def advice(source: str, config: Mapping[str, Any], suffix: str = ".bin") -> str:
    """Returns the command that rewrites a model (a folder or a name on the Hub) as safetensors."""
    classes = config.get("architectures")
    first = str(classes[0]) if isinstance(classes, list) and classes else ""
    named = first if re.fullmatch(r"[A-Z]\w+", first) else "AutoModel"
    read = f"t.{named}.from_pretrained({json.dumps(source)}{_OTHER_FORMS[suffix]})"
    code = f"import transformers as t; {read}.save_pretrained({json.dumps(Path(source).name + '-safetensors')})"
    needs = "TensorFlow or Flax, and transformers 4" if _OTHER_FORMS[suffix] else "torch and transformers"
    return (
        f"If you trust it, rewrite it in an environment with {needs}, and copy the tokenizer's files there: "
        f"python -c {shlex.quote(code)}"
    )


def write(
    folder: Path,
    config: Mapping[str, Any],
    tensors: Mapping[str, np.ndarray],
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
) -> None:
    """Writes config.json and the tensors, in one file or in shards with an index, like transformers."""
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    shards = _shards(tensors, max_shard_bytes)
    if len(shards) == 1:
        return save_tensors(folder / SINGLE, shards[0])
    places = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05}-of-{len(shards):05}.safetensors"
        save_tensors(folder / file, shard)
        places |= dict.fromkeys(shard, file)
    index = {"metadata": {"total_size": sum(x.nbytes for x in tensors.values())}, "weight_map": places}
    (folder / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def save_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
    """Writes one safetensors file. The library copies each array's raw memory, so arrays must be contiguous."""
    save_file({name: np.asarray(x, order="C") for name, x in tensors.items()}, path, metadata={"format": "pt"})
    path.chmod(0o644)  # the library makes it accessible only to its owner


def _shards(tensors: Mapping[str, np.ndarray], limit: int) -> list[dict[str, np.ndarray]]:
    shards: list[dict[str, np.ndarray]] = [{}]
    for name, x in tensors.items():
        if shards[-1] and sum(y.nbytes for y in shards[-1].values()) + x.nbytes > limit:
            shards.append({})
        shards[-1][name] = x
    return shards

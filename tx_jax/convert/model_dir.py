"""Our own format for a converted model: a folder with everything needed to use it, including a record of its source.

model.json          the configuration, the source, and a sha256 of every other file
params.safetensors  float32, by parameter path
tokenizer/          if the source had one
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import flax.traverse_util
import numpy as np
from safetensors.numpy import load_file

from tx_jax import added, text
from tx_jax.config import TransformerConfig, model_from_dict
from tx_jax.convert import family, hf_folder
from tx_jax.convert.heads import check_sizes, shapes_of
from tx_jax.errors import InputError
from tx_jax.files import new_folder
from tx_jax.text import Tokenizer

FILE, PARAMS, TOKENIZER = "model.json", "params.safetensors", "tokenizer"


@dataclasses.dataclass(frozen=True)
class Source:
    """The source of a converted model.

    Attributes:
      name: the name on the Hub, or the folder's name without its path.
      revision: the commit on the Hub; None for a folder.
      model_type: the model_type in config.json.
      dtype: the dtype of the source's weights.
      hf_config: the original config.json, so that values without a field here are not lost when converting back.
    """

    name: str
    revision: str | None
    model_type: str
    dtype: str
    hf_config: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Model:
    """A model that does not come from one of our runs.

    Attributes:
      params: the parameters by path, float32.
      untrained: the modules that the source lacked, so they hold initial values, such as `masked_lm`.
      labels: the names of a classifier's or tagger's outputs, in order; empty if unknown.
      tokenizer_problem: why the source's tokenizer is missing here; "" if there is a tokenizer, or the source has
        none.
      problem_type: a classifier's problem type in transformers' terms: "regression", "single_label_classification" or
        "multi_label_classification"; None if unknown.
    """

    config: TransformerConfig
    params: Mapping[str, np.ndarray]
    tokenizer: Tokenizer | None
    source: Source | None
    untrained: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    tokenizer_problem: str = ""
    problem_type: str | None = None

    @property
    def tree(self) -> dict[str, Any]:
        """Returns the parameters as the nested dict that models expect."""
        return flax.traverse_util.unflatten_dict(dict(self.params), sep="/")


def save(model: Model, path: Path) -> None:
    """Writes the folder atomically.

    Raises:
      InputError: `path` already exists.
    """
    with new_folder(path, last=FILE) as folder:
        hf_folder.save_tensors(folder / PARAMS, model.params)
        if model.tokenizer is not None:
            model.tokenizer.save(folder / TOKENIZER)
        record = {
            "model": dataclasses.asdict(model.config),
            "source": None if model.source is None else dataclasses.asdict(model.source),
            "untrained": list(model.untrained),
            "labels": list(model.labels),
            "tokenizer_problem": model.tokenizer_problem,
            "problem_type": model.problem_type,
            "extensions": added.of_heads(model.config.heads),
            "files": _digests(folder),
        }
        (folder / FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


def load(path: Path) -> Model:
    """Reads the folder back and checks it against its record.

    Raises:
      InputError: the folder does not exist; a file is missing or differs from what was written; or the parameters do
        not match the configuration.
    """
    try:
        record = json.loads((path / FILE).read_text(encoding="utf-8"))
        config, source, files = record["model"], record["source"], dict(record["files"])
        source = None if source is None else Source(**source)
        untrained, labels = (tuple(map(str, record.get(key, ()))) for key in ("untrained", "labels"))
        problem, problem_type = str(record.get("tokenizer_problem", "")), record.get("problem_type")
        extensions = tuple(map(str, record.get("extensions", ())))
    except FileNotFoundError:
        raise InputError(f"{path} is no converted model: it has no {FILE}") from None
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(f"{path / FILE} is damaged: {error}") from None
    found = _digests(path)
    if changed := sorted(name for name in files.keys() | {PARAMS} if files.get(name) != found.get(name)):
        raise InputError(f"{path} is damaged: {', '.join(changed)} missing, or not as {FILE} records; convert again")
    added.load(extensions, needed=False)
    config = model_from_dict(config)
    stored = hf_folder.headers(path / PARAMS)
    check_sizes(config, stored, str(path / FILE))
    if {name: x.shape for name, x in stored.items()} != shapes_of(config):
        raise InputError(f"{path / PARAMS} does not hold the parameters that {FILE} describes; convert again")
    params = load_file(path / PARAMS)

    tokenizer = text.load(path / TOKENIZER) if (path / TOKENIZER).is_dir() else None
    if source is not None and not labels:  # written by a version that did not keep them
        labels = family.labels_of_heads(source.hf_config, config, untrained)
        problem_type = problem_type or family.problem_type_of(source.hf_config)
    return Model(config, params, tokenizer, source, untrained, labels, problem, problem_type)


def _digests(folder: Path) -> dict[str, str]:
    """Returns the sha256 of every file of a model, except the record itself."""
    files = [folder / PARAMS, *sorted((folder / TOKENIZER).glob("*"))]
    return {file.relative_to(folder).as_posix(): _digest(file) for file in files if file.is_file()}


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

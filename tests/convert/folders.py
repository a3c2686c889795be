"""A small BERT as a Hugging Face folder, and ways to spoil it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.golden import weights
from tests.models import small
from tx_jax.config import TransformerConfig
from tx_jax.convert import hf_folder, to_hf
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.model_dir import Model
from tx_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece

PRETRAINING = ("masked_lm", "next_sentence")


def model(tokenizer: WordPiece | None = None, **changes: Any) -> Model:
    """The small BERT of the tests, its weights drawn."""
    config: TransformerConfig = small.config(**changes)
    return Model(config, weights.draw_weights(shapes_of(config), 1), tokenizer, source=None)


def wordpiece(size: int = small.CONFIG.vocab_size) -> WordPiece:
    return WordPiece([*SPECIAL_TOKENS, *(f"word{i}" for i in range(size - 5))])


def write(path: Path, tokenizer: WordPiece | None = None, **changes: Any) -> Path:
    """The small BERT, with the given fields of its configuration, as `transformers` keeps it."""
    to_hf.write(model(tokenizer, **changes), path)
    return path


def tensors(path: Path) -> dict[str, np.ndarray]:
    return {name: np.array(x) for name, x in load_file(path / hf_folder.SINGLE).items()}


def change(path: Path, edit: Callable[[dict[str, np.ndarray]], Any]) -> Path:
    """Rewrites the tensors; `edit` changes the dict it is given, or returns another."""
    values = tensors(path)
    values = edit(values) or values
    save_file({name: np.ascontiguousarray(x) for name, x in values.items()}, path / hf_folder.SINGLE)
    return path


def configure(path: Path, **values: Any) -> Path:
    """Sets keys of config.json; None removes one."""
    file = path / "config.json"
    config = json.loads(file.read_text()) | values
    file.write_text(json.dumps({key: value for key, value in config.items() if value is not None}))
    return path


def shard(path: Path, count: int = 2) -> Path:
    """Splits the weights into files with an index."""
    values = tensors(path)
    (path / hf_folder.SINGLE).unlink()
    total = sum(x.nbytes for x in values.values())
    hf_folder.write(path, json.loads((path / "config.json").read_text()), values, max_shard_bytes=total // count + 1)
    assert (path / hf_folder.INDEX).exists()
    return path


def index(path: Path, edit: Callable[[dict[str, str]], Any]) -> Path:
    """Changes the table of the index."""
    file = path / hf_folder.INDEX
    values = json.loads(file.read_text())
    edit(values["weight_map"])
    file.write_text(json.dumps(values))
    return path

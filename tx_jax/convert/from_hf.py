"""Converts a Hugging Face folder to one of our models."""

import collections
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tx_jax import text, tree
from tx_jax.config import TransformerConfig
from tx_jax.config.heads import labeled
from tx_jax.convert import families, generation, hf_folder
from tx_jax.convert.family import Family, label_problem, labels_of_heads, problem_type_of
from tx_jax.convert.heads import check_wanted, ordered, shapes_of
from tx_jax.convert.matching import Match, match
from tx_jax.convert.model_dir import Model, Source
from tx_jax.convert.rules import to_ours
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.text import Tokenizer
from tx_jax.text.definition import read_json
from tx_jax.text.hf_files import class_of

TOKENIZER_FILES = ("vocab.txt", "vocab.json", "tokenizer.json", "*.model", "*.spm")
# Keys of config.json that describe the machine or the version that wrote it, not the model.
_FORGOTTEN = ("_name_or_path", "transformers_version")


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion did, in addition to the model it produced.

    Attributes:
      heads_read: the heads that the checkpoint had.
      initialised: the modules that the checkpoint lacked and that are newly initialized, such as `masked_lm`, `pooler`.
      ignored: tensors that hold no parameters, or copies of tied parameters.
      left_out: tensors of heads that were not requested.
      warnings: unusual but harmless findings, one line each.
    """

    heads_read: tuple[str, ...]
    initialised: tuple[str, ...]
    ignored: tuple[str, ...]
    left_out: tuple[str, ...]
    warnings: tuple[str, ...]


def read(
    folder: Path,
    *,
    heads: Sequence[str] | None = None,
    num_labels: int | None = None,
    name: str | None = None,
    revision: str | None = None,
    seed: int = 0,
) -> tuple[Model, Report]:
    """Converts a folder with config.json and safetensors files, and its tokenizer if it has one.

    Args:
      heads: the heads of the model; those that the checkpoint lacks are newly initialized. None = those that it has.
      num_labels: the number of labels of classification heads. Heads with a different number in the checkpoint are
        newly initialized. None = the number in config.json.
      name, revision: the source to record; defaults to the folder's name.
      seed: the seed for newly initialized parameters.

    Raises:
      InputError: the folder cannot be used.
    """
    hf_config = hf_folder.read_config(folder)
    family, model_type = families.of_hf_config(hf_config)
    if num_labels is not None:
        hf_config = {key: value for key, value in hf_config.items() if key not in ("id2label", "label2id")}
        hf_config["num_labels"] = num_labels
    claimed = _claimed(family, hf_config)
    wanted = None if heads is None else check_wanted(heads, family)
    stored = hf_folder.open_tensors(folder, hf_config)
    try:
        found = match(
            family, hf_config, stored, claimed=claimed or (), wanted=wanted, relabelled=num_labels is not None
        )
    except InputError as error:
        raise InputError(f"{_foreign_class(family, model_type, hf_config)}{error}") from None
    params = to_ours({name: tensor.read() for name, tensor in found.tensors.items()}, found.rules, found.shapes)
    params = {path: np.asarray(x, np.float32) for path, x in params.items()}
    params |= {path: np.zeros(shape, np.float32) for path, shape in found.zeros.items()}
    tokenizer, problem, warnings = _tokenizer(folder, found.config)
    absent = set(claimed or ()) - {"pooled", *found.detected}
    if absent and wanted is None:
        warnings.append(
            f"config.json names {hf_config['architectures'][0]}, but the files lack {', '.join(sorted(absent))}"
        )
    warnings += _warnings_of_values(found, params)
    if labeled(found.config.heads) and (odd := label_problem(hf_config)):
        warnings.append(odd)

    fresh = _fresh(found.config, set(shapes_of(found.config)) - set(params), seed)
    initialised = tuple(dict.fromkeys(path.partition("/")[0] for path in fresh))
    report = Report(
        heads_read=ordered((set(found.config.heads) & set(found.detected)).difference(initialised)),
        initialised=initialised,
        ignored=tuple(found.ignored),
        left_out=tuple(found.left_out),
        warnings=tuple(warnings),
    )
    kept = {key: value for key, value in hf_config.items() if key not in _FORGOTTEN}
    if values := read_json(folder / generation.FILE):
        kept[generation.KEY] = {key: value for key, value in values.items() if key not in _FORGOTTEN}
    source = Source(name or folder.resolve().name, revision, model_type, _dtype(found), kept)
    model = Model(
        found.config,
        params | fresh,
        tokenizer,
        source,
        untrained=report.initialised,
        labels=labels_of_heads(hf_config, found.config, report.initialised),
        problem_type=problem_type_of(hf_config),
        tokenizer_problem=problem,
    )
    return model, report


def _claimed(family: Family, hf_config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Returns the heads of the class that config.json names; None if it names no known class."""
    classes = hf_config.get("architectures")
    known = classes and isinstance(classes, list) and isinstance(classes[0], str)
    return family.heads_of_class(classes[0]) if known else None


def _foreign_class(family: Family, model_type: str, hf_config: Mapping[str, Any]) -> str:
    """Returns the start of the error message for a folder that does not match, if its class is unsupported."""
    classes = hf_config.get("architectures")
    name = classes[0] if classes and isinstance(classes, list) else None
    stem, endings = family.model_types[model_type], tuple(dict.fromkeys(family.classes.values()))
    if not isinstance(name, str) or name.removeprefix(stem) in endings:
        return ""
    known = ", ".join(stem + ending for ending in endings)
    return f"config.json names {name}, which is not supported: supported are {known}; --heads= takes the body alone\n"


def _dtype(found: Match) -> str:
    """Returns the dtype in which the weights can be written back without loss; float64 is not preserved."""
    stored = {tensor.dtype for tensor in found.tensors.values()}
    return {"F16": "float16", "BF16": "bfloat16"}.get(stored.pop(), "float32") if len(stored) == 1 else "float32"


def _warnings_of_values(found: Match, params: Mapping[str, np.ndarray]) -> list[str]:
    warnings = []
    names = {path: rule.hf_names[0] for rule in found.rules for path in rule.paths}
    if broken := [names[path] for path, x in params.items() if not np.isfinite(x).all()]:
        warnings.append(f"NaN or infinity in {', '.join(broken)}")
    if rounded := [name for name, tensor in found.tensors.items() if tensor.dtype == "F64"]:
        warnings.append(f"{len(rounded)} float64 tensors were rounded to float32")
    return warnings


def _tokenizer(folder: Path, config: TransformerConfig) -> tuple[Tokenizer | None, str, list[str]]:
    """Returns the folder's tokenizer if we can run it, the reason if we cannot, and warnings about it.

    Raises:
      InputError: the tokenizer has more tokens than the model has embeddings.
    """
    if not any(file for pattern in TOKENIZER_FILES for file in folder.glob(pattern)):
        name = class_of(folder)
        return None, f"{folder} names {name}Tokenizer, but holds none of its files" if name else "", []
    try:
        tokenizer = text.load(folder)
    except InputError as error:
        return None, str(error), [f"the tokenizer is left behind: {error}"]
    if tokenizer.vocab_size > config.vocab_size:
        raise InputError(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model embeddings for {config.vocab_size} "
            "(config.json, vocab_size): they do not belong together"
        )
    warnings = []
    tokens = tokenizer.tokens(range(tokenizer.vocab_size))
    if twice := [token for token, count in collections.Counter(tokens).items() if count > 1]:
        warnings.append(
            f"the vocabulary holds {twice[0]!r} {tokens.count(twice[0])} times, first as token {tokens.index(twice[0])}"
            f" ({len(twice)} such in all): the last of them is used"
        )
    if tokenizer.vocab_size < config.vocab_size:
        warnings.append(
            f"the tokenizer has {tokenizer.vocab_size} tokens, the model embeddings for {config.vocab_size}: "
            "the rest is never used"
        )
    return tokenizer, "", warnings


def _fresh(config: TransformerConfig, paths: set[str], seed: int) -> dict[str, np.ndarray]:
    """Returns initial values for the given parameters only; nothing else is computed."""
    if not paths:
        return {}

    def initial(rng: jax.Array) -> dict[str, jax.Array]:
        return {path: x for path, x in tree.flatten(registry.init_params(config, rng)).items() if path in paths}

    # threefry: the same values on every backend.
    values = jax.jit(initial)(jax.random.key(seed, impl="threefry2x32"))
    return {path: np.asarray(x) for path, x in values.items()}

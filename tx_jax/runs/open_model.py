"""Finds and opens a model: a run directory, a converted model, a Hugging Face folder, or a name on the Hugging Face
Hub. All code that distinguishes between them is in this module."""

import dataclasses
import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from tx_jax import tree
from tx_jax.config import ExperimentConfig, LabeledDataConfig
from tx_jax.config.checks import is_whole
from tx_jax.config.heads import labeled
from tx_jax.convert import families, from_hf, hf_folder, hub, model_dir
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError, InputWarning
from tx_jax.files import is_local, local_folder, path_of
from tx_jax.models import forward, lora
from tx_jax.runs.best import Evaluations
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.run_dir import RunDir

Kind = Literal["run directory", "converted model", "Hugging Face folder", "Hugging Face Hub"]


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a model is.

    Attributes:
      name: the name as the user gave it.
      path: where it is; for a model on the Hub, in the Hub's cache.
      revision: the commit on the Hub.
    """

    name: str
    kind: Kind
    path: Path
    revision: str | None = None

    @property
    def folder(self) -> Path:
        """The path; of a model on an object store that is no run, which is read from it, a copy on this host."""
        return self.path if self.kind == "run directory" else local_folder(self.path)

    @property
    def source(self) -> str | None:
        """Its name where `folder`, a cache, has another."""
        if self.kind == "Hugging Face Hub":
            return self.name
        return None if is_local(self.path) else self.path.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class OpenModel(Model):
    """A model from any place. Its parameters are unsharded in host memory, with adapters merged into their kernels.

    Attributes:
      place: where it is.
      experiment: the configuration of a run; None for any other model.
      step: for a run, the optimizer step that the parameters are from; None for any other model.
    """

    place: Place
    experiment: ExperimentConfig | None = None
    step: int | None = None


def locate(name: str | Path, *, revision: str | None = None) -> Place:
    """Locates the model at a path; a name that is not a path is downloaded from the Hub.

    Args:
      revision: for a name on the Hub: a branch, tag or commit.

    Raises:
      InputError: there is no model.
    """
    if name == "":  # to `Path` it would be this folder
        raise InputError("model='': give the folder of a model, or its name on the Hugging Face Hub")
    path = path_of(name, "model")
    if not path.is_dir():
        if path.exists():
            raise InputError(f"{path} is a file: give the folder of a model, or its name on the Hugging Face Hub")
        if path.is_absolute() or str(name).startswith("."):
            raise InputError(f"{path} is not a run directory or any other model: there is no such folder")
        folder, commit = hub.fetch(str(name), revision)
        return Place(str(name), "Hugging Face Hub", folder, commit)
    if revision:
        raise InputError(f"--revision is for a name on the Hub, but {path} is a local folder")
    return Place(str(name), _kind(path), path)


def _kind(path: Path) -> Kind:
    if (path / model_dir.FILE).is_file():
        return "converted model"
    config = path / "config.json"
    if not config.is_file():
        if (path / "sweep.json").is_file():
            runs = sorted(str(folder.parent) for folder in path.glob("*/config.json"))
            known = f"; give one of them, such as {runs[0]}" if runs else ""
            raise InputError(f"{path} holds the runs of a sweep, and its results.json says which is best{known}")
        if seeds := _runs_of_seeds(path):
            raise InputError(f"{path} holds one run per seed: give one of them, {' or '.join(seeds)}")
        raise InputError(
            f"{path} is not a run directory, a converted model or a Hugging Face model: it has no config.json and no "
            f"{model_dir.FILE}"
        )
    try:
        values = json.loads(config.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{config} is not valid JSON: {error}") from None
    is_run = isinstance(values, dict) and {"model", "training"} <= values.keys()
    return "run directory" if is_run else "Hugging Face folder"


def _runs_of_seeds(path: Path) -> list[str]:
    """The run directories that `experiments.train --seeds` made in a folder, ordered by seed."""
    found = [folder.parent for folder in path.glob("seed_*/config.json")]
    return [str(folder) for folder in sorted(found, key=lambda folder: (len(folder.name), folder.name))]


def open_model(
    name: str | Path,
    *,
    heads: Sequence[str] | None = None,
    step: int | None = None,
    revision: str | None = None,
    average: int = 1,
) -> OpenModel:
    """Opens the model at a path, or with a name on the Hub. Minor problems with it are reported as InputWarnings.

    Args:
      heads: for a Hugging Face model: the heads to read; those it lacks are newly initialized, see `untrained`. None:
        those that it has. Other models keep their heads. "pooled" is its pooler, if it has one; a missing pooler is not
        initialized.
      step: for a run. None: a fine-tuned run's best checkpoint by `training.best_metric`, the newest of other runs; if
        that is damaged, the newest intact one, with a warning.
      revision: see `locate`.
      average: for a run: the parameters are the mean of those of so many checkpoints, this one and those before it
        (Vaswani et al. 2017, section 6.1).

    Raises:
      InputError: there is no model, it is damaged, or it has no such step, or not so many checkpoints.
    """
    if not is_whole(average, 1):
        raise InputError(f"average={average!r}: give the number of checkpoints whose mean to take, 1 for one alone")
    if step is not None and not is_whole(step):
        raise InputError(f"step={step!r}: give the number of a checkpoint's step")
    place = locate(name, revision=revision)
    if place.kind == "run directory":
        return _open_run(place, step, average)
    if average != 1:
        raise InputError(f"{name} is not a run ({place.kind}), so it has no {average} checkpoints to average")
    if step is not None:
        raise InputError(f"{name} is not a run ({place.kind}), so it has no step {step}")
    if place.kind == "converted model":
        model = model_dir.load(place.folder)
    else:
        model, report = _read_hf(place, heads)
        for line in report.warnings:
            if model.tokenizer_problem and model.tokenizer_problem in line:
                continue  # an error only for callers that need the tokenizer
            warnings.warn(f"{name}: {line}", InputWarning, stacklevel=2)
    return OpenModel(**{field.name: getattr(model, field.name) for field in dataclasses.fields(Model)}, place=place)


def _read_hf(place: Place, heads: Sequence[str] | None) -> tuple[Model, from_hf.Report]:
    """Like `from_hf.read`, except that a missing pooler is not initialized."""
    if "pooled" in (heads or ()):
        family, _ = families.of_hf_config(hf_folder.read_config(place.folder))
        heads = [head for head in heads if head != "pooled" or head in family.heads]
    model, report = from_hf.read(place.folder, heads=heads, name=place.source, revision=place.revision)
    config = dataclasses.replace(model.config, heads=tuple(head for head in model.config.heads if head != "pooled"))
    if "pooler" in model.untrained and not config.needs_pooler:
        params = {path: x for path, x in model.params.items() if not path.startswith("pooler/")}
        untrained = tuple(module for module in model.untrained if module != "pooler")
        model = dataclasses.replace(model, config=config, params=params, untrained=untrained)
    return model, report


def _open_run(place: Place, step: int | None, average: int) -> OpenModel:
    directory = RunDir(place.folder)
    config = directory.load_config()
    with Checkpoints(directory.checkpoints, read_only=True) as checkpoints:
        if checkpoints.begun() is None:
            raise InputError(f"{place.name} has no checkpoints yet")
        chosen = (_best(directory, config, checkpoints) or checkpoints.newest()) if step is None else step
        if chosen not in checkpoints.on_disk():
            of_step = "" if step is None else f" of step {step!r}"
            raise InputError(f"{place.name} has no checkpoint{of_step}; it has {checkpoints.steps()}")
        if step is not None:
            checkpoints.verify(step)
        params = _averaged(place.name, checkpoints, config, chosen, average)
    merged = lora.merged(params, config.lora)
    return OpenModel(
        config=config.model,
        params={path: np.asarray(x) for path, x in tree.flatten(merged).items()},
        tokenizer=directory.load_tokenizer(),
        source=None,
        labels=_labels(config),
        problem_type=_problem_type(config),
        place=place,
        experiment=config,
        step=chosen,
    )


def _averaged(name: str, checkpoints: Checkpoints, config: ExperimentConfig, step: int, count: int) -> Any:
    """The mean of the parameters of some checkpoints, the last of which is that of a step; summed in float64."""
    shapes = forward.param_shapes(config.model, config.lora)
    if count == 1:
        return checkpoints.host_params(step, shapes)
    steps = [other for other in checkpoints.on_disk() if other <= step][-count:]
    if len(steps) < count:
        raise InputError(
            f"{name} has {len(steps)} checkpoints up to step {step}, not {count} to average: {steps}. A training keeps "
            f"more of them with --config.training.keep_last={count}"
        )
    total: Any = None
    for other in steps:
        checkpoints.verify(other)
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), checkpoints.host_params(other, shapes))
        total = params if total is None else jax.tree.map(np.add, total, params)
    return jax.tree.map(lambda x: (x / count).astype(np.float32), total)


def _labels(config: ExperimentConfig) -> tuple[str, ...]:
    """The names of the labels that a run learned."""
    has_labels = isinstance(config.data, LabeledDataConfig) and labeled(config.model.heads)
    return config.data.labels if has_labels else ()


def _problem_type(config: ExperimentConfig) -> str | None:
    return {
        "classification": "single_label_classification",
        "multi_label": "multi_label_classification",
        "regression": "regression",
    }.get(config.task)


def _best(directory: RunDir, config: ExperimentConfig, checkpoints: Checkpoints) -> int | None:
    """The best checkpoint of a fine-tuned run; None if the run keeps none or, with a warning, if it is damaged."""
    if not isinstance(config.data, LabeledDataConfig) or not config.training.keep_best:
        return None
    step = Evaluations.read(directory.path, config.training.best_metric).best(checkpoints.on_disk())
    try:
        if step is not None:
            checkpoints.verify(step)
    except InputError as error:
        warnings.warn(f"{error}; using the newest", InputWarning, stacklevel=3)
        return None
    return step

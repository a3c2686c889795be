"""Starting from a model that is there already: a run directory, a converted model, or a Hugging Face model.

It gives the run its shape, its tokenizer and its first parameters. What the new run has and the model lacks, such as a
classifier, is fresh.
"""

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.config.distillation import DistillationConfig
from tx_jax.config.further import experiment_values
from tx_jax.config.heads import HEADS, head_of
from tx_jax.convert import families, from_hf, hf_folder, hub, model_dir
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError
from tx_jax.files import local_path
from tx_jax.models import lora
from tx_jax.runs import trained
from tx_jax.runs.run_dir import RunDir
from tx_jax.tasks.distillation import TEACHER
from tx_jax.text import Tokenizer

# What a model need not have in common with the one it starts from; all else is its shape.
OWN = ("heads", "num_labels", "dropout", "classifier_dropout", "attention_dropout", "init_stddev", "dtype", "remat")
POSITION, SEGMENT = "embeddings/position/embedding", "embeddings/segment/embedding"


@dataclasses.dataclass(frozen=True)
class Start:
    """A model to start from.

    Attributes:
      name: as the user gave it.
      params: by path; empty where only the shape is taken.
    """

    name: str
    model: TransformerConfig
    tokenizer: Tokenizer | None
    params: Mapping[str, Any]

    def shape(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration of the new model, as plain values: ours in `OWN`, the rest from here."""
        values = dataclasses.asdict(self.model) | {key: own[key] for key in OWN if key in own}
        if "masked_lm" not in values["heads"]:
            values["enhanced_mask_decoder"] = False
        if not self.model.needs_pooler:  # of a pooler, only one that is there can be carried along
            values["heads"] = tuple(head for head in values["heads"] if head != "pooled")
        return values

    def of_student(self, distillation: DistillationConfig) -> "Start":
        """What a student begins as, if this is its teacher: see `DistillationConfig`. Its teacher is there as well."""
        params = {f"{TEACHER}/{path}": x for path, x in self.params.items()}
        of_teacher = {layer: distillation.teacher_layer(layer) for layer in range(distillation.layers)}
        for path, x in self.params.items():
            stack, _, rest = path.partition("/layer_")
            if not rest:
                params[path] = x
                continue
            number, _, name = rest.partition("/")
            for layer, other in of_teacher.items():
                if other == int(number):
                    params[f"{stack}/layer_{layer}/{name}"] = x
        model = dataclasses.replace(self.model, num_layers=distillation.layers)
        if model.num_segments == 2 and model.position_embedding == "learned":
            model = dataclasses.replace(model, num_segments=0, pooler="relu")  # what classifiers on a DistilBERT have
            if self.params:
                params[POSITION] = np.asarray(params[POSITION]) + np.asarray(params.pop(SEGMENT))[0]
        return dataclasses.replace(self, model=model, params=params)

    def fill(self, fresh: Any) -> tuple[Any, tuple[str, ...]]:
        """The parameters of a fresh model, with those from here in their places, each where the fresh one lies.

        Returns:
          The parameters, and the modules (the first parts of paths) that stay fresh.

        Raises:
          InputError: a parameter of the body is missing here, or has another shape.
        """
        kept: dict[str, None] = {}

        def one(path: str, leaf: jax.Array) -> jax.Array:
            found = self.params.get(path)
            if found is not None and found.shape == leaf.shape:
                return jax.device_put(np.asarray(found, leaf.dtype), leaf.sharding)
            if self.params and head_of(path) is None and not path.startswith(f"{lora.MODULE}/"):
                here = "is missing there" if found is None else f"has shape {found.shape} there"
                raise InputError(f"start_from={self.name}: {path} of shape {leaf.shape} {here}: they do not fit")
            kept[path.partition("/")[0]] = None
            return leaf

        return tree.map_with_path(one, fresh), tuple(kept)


def open_start(
    values: Mapping[str, Any], workdir: Path, given: Collection[str] = ()
) -> tuple[dict[str, Any], Start | None]:
    """The values of a configuration, the model's shape filled in, and what they start from, if anything.

    A run that has begun needs its start no more: its own directory knows the shape and the tokenizer.

    Args:
      values: nested plain values; `model` may lack whatever `start_from` gives. What only further pretraining knows
        is left out: it is over when the training begins.
      given: keys of `model` that the user gave for this run, and so must hold.

    Raises:
      InputError: there is no such model, it cannot be used, or its shape is not what was given.
    """
    values = experiment_values(values)
    values["model"] = {**values["model"]}
    name = values.get("start_from", "")
    if not name:
        return values, None
    directory = RunDir(workdir)
    if (workdir / "config.json").is_file() and any(directory.checkpoints.glob("[0-9]*")):
        config = directory.load_config()
        start = Start(name, config.model, directory.load_tokenizer(), {})
        teacher = config.distillation
    else:
        start = _start(name, tuple(values["model"].get("heads", ())), values.get("start_fresh", False))
        teacher = DistillationConfig(teacher_layers=start.model.num_layers, teacher_segments=start.model.num_segments)
    if layers := values.get("distillation", {}).get("layers", 0):
        teacher = dataclasses.replace(teacher, layers=layers)
        values["distillation"] = {
            **values["distillation"],
            "teacher_layers": teacher.teacher_layers,
            "teacher_segments": teacher.teacher_segments,
        }
        start = start.of_student(teacher)
    asked, values["model"] = values["model"], start.shape(values["model"])
    if refused := [key for key in given if asked[key] != values["model"][key]]:
        listed = ", ".join(f"model.{key}={asked[key]!r} (there {values['model'][key]!r})" for key in refused)
        raise InputError(f"start_from={name} gives the model its shape: leave out {listed}")
    return values, start


def read_model(name: str, heads: tuple[str, ...]) -> Model:
    """A model, wherever it is from.

    Args:
      name: a run directory, a converted model, a folder of Hugging Face's form, or a name on its Hub.
      heads: those that are needed; a Hugging Face model is read with these alone, the others have what they have.
        "pooled" is its pooler where it has one.

    Raises:
      InputError: there is no such model, or it cannot be used.
    """
    path = local_path(name, "model")
    if model_dir.is_model_dir(path):
        return model_dir.load(path)
    if (path / "checkpoints").is_dir():
        run = trained.load(path)
        params = {key: np.asarray(x) for key, x in tree.flatten(run.params).items()}
        return Model(run.model, params, run.tokenizer, source=None)
    commit = None
    folder = path
    if not path.is_dir():
        folder, commit = hub.fetch(name)
    family, _ = families.of_hf_config(hf_folder.read_config(folder))
    heads = tuple(head for head in heads if head != "pooled" or head in family.heads)
    model, _ = from_hf.read(folder, heads=heads, name=None if path.is_dir() else name, revision=commit)
    return _without_fresh_pooler(model)


def _without_fresh_pooler(model: Model) -> Model:
    """The model without a pooler that nothing but the head "pooled" asks for, if its source lacked it."""
    config = dataclasses.replace(model.config, heads=tuple(head for head in model.config.heads if head != "pooled"))
    if "pooler" not in model.untrained or config.needs_pooler:
        return model
    params = {path: x for path, x in model.params.items() if not path.startswith("pooler/")}
    untrained = tuple(module for module in model.untrained if module != "pooler")
    return dataclasses.replace(model, config=config, params=params, untrained=untrained)


def _start(name: str, heads: tuple[str, ...], fresh: bool) -> Start:
    model = read_model(name, heads)
    if model.tokenizer_problem and not fresh:
        raise InputError(
            f"start_from={name}: its tokenizer cannot be used, and without it no text has the ids that the model "
            f"knows: {model.tokenizer_problem}. For the shape alone: --config.start_fresh"
        )
    params = {path: x for path, x in model.params.items() if path.partition("/")[0] not in model.untrained}
    if model.config.classifier_transform and "pooler/kernel" not in params:  # it begins as the masked LM's
        moves = (("masked_lm/transform/", "pooler/"), ("masked_lm/norm/", "pooler/norm/"))
        params |= {new + path.removeprefix(old): x for path, x in params.items() for old, new in moves if old in path}
    if fresh:
        heads = tuple(head for head in model.config.heads if HEADS[head].reads != "pooled")  # none is carried along
        return Start(name, dataclasses.replace(model.config, heads=heads), model.tokenizer, {})
    return Start(name, model.config, model.tokenizer, params)

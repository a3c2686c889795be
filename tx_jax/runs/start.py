"""Starts a run from an existing model: a run directory, a converted model, or a Hugging Face model.

The model provides the run's shape, tokenizer, and initial parameters. Any part of the new run that the model lacks,
such as a classifier, is newly initialized.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.config.distillation import DistillationConfig
from tx_jax.config.further import experiment_values
from tx_jax.config.heads import head_of, labeled
from tx_jax.data.labeled.label_names import default_names, rename
from tx_jax.errors import InputError
from tx_jax.hosts import distributed
from tx_jax.models import lora
from tx_jax.runs.carried_head import CarriedHead, carry
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.open_model import OpenModel, open_model
from tx_jax.runs.run_dir import RunDir
from tx_jax.tasks.distillation import TEACHER
from tx_jax.text import Tokenizer

# Fields that may differ between a model and the one it starts from; all others make up its shape.
OWN = (
    "heads",
    "num_labels",
    "dropout",
    "classifier_dropout",
    "attention_dropout",
    "init_stddev",
    "dtype",
    "remat",
    "attention",
)
OF_NEW = ("initial_attention",)  # and these, where all parameters are newly initialized
POSITION, SEGMENT = "embeddings/position/embedding", "embeddings/segment/embedding"


@dataclasses.dataclass(frozen=True)
class Start:
    """A model to start from.

    Attributes:
      name: the name as the user gave it.
      params: the parameters by path.
      gives: "parameters"; "shape" if `start_fresh` requests that all parameters be newly initialized; or
        "continuation" if the run has already begun, so its parameters are in its own checkpoints. The latter two have
        no `params`.
      head: the classifier or tagger whose training continues; "" if there is none.
      labels: the labels of `head`, in the order of its outputs; for a run that has already begun, the run's own labels.
      label_map: whether the user renamed some of the labels.

    Raises:
      ValueError: `params` is present when it should be absent, or absent when it should be present.
    """

    name: str
    model: TransformerConfig
    tokenizer: Tokenizer | None
    params: Mapping[str, Any]
    gives: Literal["parameters", "shape", "continuation"] = "parameters"
    head: str = ""
    labels: tuple[str, ...] = ()
    label_map: bool = False

    def __post_init__(self):
        if bool(self.params) != (self.gives == "parameters"):
            raise ValueError(f"{self.gives=} with {len(self.params)} parameters")

    def shape(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the new model's configuration as plain values: `OWN` fields, and of a new model `OF_NEW`, from `own`,
        the rest from this model."""
        fields = (*OWN, *OF_NEW) if self.gives == "shape" else OWN
        values = dataclasses.asdict(self.model) | {key: own[key] for key in fields if key in own}
        if "masked_lm" not in values["heads"]:
            values["enhanced_mask_decoder"] = False
        if not self.model.needs_pooler or self.gives == "shape":  # only an existing pooler can be carried over
            values["heads"] = tuple(head for head in values["heads"] if head != "pooled")
        return values

    def of_student(self, distillation: DistillationConfig) -> "Start":
        """Returns the start of a student whose teacher is this model (see `DistillationConfig`).

        It also contains the teacher's parameters.
        """
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
            model = dataclasses.replace(model, num_segments=0, pooler="relu")  # as in DistilBERT's classifiers
            if self.params:
                params[POSITION] = np.asarray(params[POSITION]) + np.asarray(params.pop(SEGMENT))[0]
        return dataclasses.replace(self, model=model, params=params)

    def carry(self, labels: Sequence[str]) -> CarriedHead:
        """Returns what a run with these labels keeps of the classification head.

        Raises:
          InputError: the user's label map does not produce the run's labels.
        """
        if not self.head or not labels:
            return CarriedHead("")
        return carry(self.head, self.labels, tuple(labels), self.name, mapped=self.label_map)

    def fill(self, fresh: Any, *, labels: Sequence[str]) -> tuple[Any, tuple[str, ...]]:
        """Replaces parameters of a newly initialized model with this model's, keeping each one's device placement.

        Args:
          labels: the new run's labels, in the order of its outputs; () if it has none. Each row of the head moves to
            its label's position; if the labels differ from this model's, the head stays newly initialized.

        Returns:
          The parameters, and the modules (the first parts of paths) that stay newly initialized.

        Raises:
          InputError: this model lacks a parameter of the body, or has it in a different shape; the checkpoints of a run
            that had already begun are gone; or an error from `carry`.
        """
        if self.gives == "continuation":
            raise InputError("the run had begun, but its checkpoints are gone: give the same command again")
        head = self.carry(labels)
        kept: dict[str, None] = {}

        def one(path: str, leaf: jax.Array) -> jax.Array:
            found = head.of_new_run(path, self.params.get(path))
            if found is not None and found.shape == leaf.shape:
                return jax.device_put(np.asarray(found, leaf.dtype), leaf.sharding)
            if self.gives == "parameters" and head_of(path) is None and not path.startswith(f"{lora.MODULE}/"):
                here = "is missing there" if found is None else f"has shape {found.shape} there"
                raise InputError(f"start_from={self.name}: {path} of shape {leaf.shape} {here}: they do not fit")
            kept[path.partition("/")[0]] = None
            return leaf

        return tree.map_with_path(one, fresh), tuple(kept)


def open_start(
    values: Mapping[str, Any], workdir: Path, given: Collection[str] = ()
) -> tuple[dict[str, Any], Start | None]:
    """Returns the configuration's values with the model's shape filled in, and the start, if any.

    A run that has already begun no longer needs the model it started from: its own directory records the shape and the
    tokenizer.

    Args:
      values: nested plain values; `model` may lack anything that `start_from` provides. Settings that apply only to
        further pretraining are left out, because it is over when the training begins.
      given: keys of `model` that the user set for this run, so the model must match them.

    Raises:
      InputError: the model does not exist, cannot be used, or does not have the given shape.
    """
    values = experiment_values(values)
    values["model"] = {**values["model"]}
    name = values.get("start_from", "")
    label_map = tuple(values.get("data", {}).get("label_map", ()))
    if label_map and (not name or values.get("start_fresh", False)):
        raise InputError(
            f"data.label_map={label_map} names labels of a model to start from, and no head is taken from one here"
        )
    if not name:
        return values, None
    directory = RunDir(workdir)
    begun = distributed.agreed(lambda: Checkpoints(directory.checkpoints, read_only=True).begun())
    if begun is not None:
        config = directory.load_config()
        labels = getattr(config.data, "labels", ())
        start = Start(name, config.model, directory.load_tokenizer(), {}, gives="continuation", labels=labels)
        teacher = config.distillation
    else:
        heads = tuple(values["model"].get("heads", ()))
        start = _start(name, heads, values.get("start_fresh", False), label_map)
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


def _start(name: str, heads: tuple[str, ...], fresh: bool, label_map: tuple[str, ...]) -> Start:
    opened = open_model(name, heads=heads)
    if fresh:
        return Start(name, opened.config, opened.tokenizer, {}, gives="shape")
    if opened.tokenizer_problem:
        raise InputError(
            f"start_from={name}: its tokenizer cannot be used, and without it no text has the ids that the model "
            f"knows: {opened.tokenizer_problem}. For the shape alone: --config.start_fresh"
        )
    params = {path: x for path, x in opened.params.items() if path.partition("/")[0] not in opened.untrained}
    if (
        opened.config.classifier_transform and "pooler/kernel" not in params
    ):  # the pooler is initialized from the masked LM's
        moves = (("masked_lm/transform/", "pooler/"), ("masked_lm/norm/", "pooler/norm/"))
        params |= {new + path.removeprefix(old): x for path, x in params.items() for old, new in moves if old in path}
    head, labels = _labels(opened, heads)
    if label_map and not head:
        raise InputError(f"data.label_map={label_map}: {name} has no head {' or '.join(heads)} whose labels have names")
    labels = rename(labels, label_map, option="data.label_map")
    return Start(name, opened.config, opened.tokenizer, params, head=head, labels=labels, label_map=bool(label_map))


def _labels(opened: OpenModel, heads: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Returns the classification head whose training continues, and its labels; "" and () if there is none."""
    for head in set(labeled(heads)).intersection(opened.config.heads).difference(opened.untrained):
        if opened.problem_type != "regression" and opened.config.num_labels > 1:
            return head, opened.labels or default_names(opened.config.num_labels)
    return "", ()

"""A model on the available devices, to evaluate it, predict and fill masks with it."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, MeshConfig, TransformerConfig
from tx_jax.convert import generation
from tx_jax.errors import InputError
from tx_jax.runs.open_model import OpenModel, open_model
from tx_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Trained:
    """Parameters and everything needed to use them.

    Attributes:
      config: the experiment that it comes from; None for a model without a run.
      tokenizer: None for a model that came without one.
      params: nested dict, float32, on `mesh`; adapters are merged into their kernels.
      step: the optimizer step of the parameters; None for a model without a run.
      name: the name that the user gave.
      labels, untrained, problem_type, tokenizer_problem: see `Model`.
      suggested: the settings of decoding that came with the model, by transformers' names. Nothing here follows them.
    """

    model: TransformerConfig
    config: ExperimentConfig | None
    tokenizer: Tokenizer | None
    params: Any
    step: int | None
    mesh: jax.sharding.Mesh
    name: str = ""
    labels: tuple[str, ...] = ()
    untrained: tuple[str, ...] = ()
    problem_type: str | None = None
    tokenizer_problem: str = ""
    suggested: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def require_masks(self) -> Tokenizer:
        """The tokenizer of a model that fills masks. Raises InputError for a model or tokenizer that cannot."""
        if "masked_lm" not in self.model.heads:
            raise InputError(f"the model has no masked_lm head to fill masks with; its heads are {self.model.heads}")
        self.require_tokenizer().require("cls", "sep", "mask")
        return self.tokenizer

    def require_tokenizer(self) -> Tokenizer:
        """Raises InputError for a model without one."""
        if self.tokenizer_problem:
            raise InputError(f"the tokenizer of {self.name} cannot be used: {self.tokenizer_problem}")
        if self.tokenizer is None:
            raise InputError("the model was converted without a tokenizer, so it cannot read text")
        return self.tokenizer


def load(
    name: str | Path,
    step: int | None = None,
    mesh_of: Callable[[ExperimentConfig], jax.sharding.Mesh | None] = lambda config: None,
    *,
    heads: Sequence[str] | None = None,
    average: int = 1,
) -> Trained:
    """`open_model`, with the parameters on the available devices.

    Args:
      mesh_of: returns the mesh for a run; if it returns None, each device holds all parameters.
      step, heads, average: see `open_model`.
    """
    model = open_model(name, step=step, heads=heads, average=average)
    return place(model, None if model.experiment is None else mesh_of(model.experiment))


def place(model: OpenModel, mesh: jax.sharding.Mesh | None = None) -> Trained:
    """The model with its parameters on a mesh; by default every available device has all of them."""
    mesh = mesh or sharding.make_mesh(MeshConfig(data=-1, fsdp=1, tensor=1))
    return Trained(
        model=model.config,
        config=model.experiment,
        tokenizer=model.tokenizer,
        params=jax.device_put(model.tree, sharding.state_sharding(mesh, model.tree)),
        step=model.step,
        mesh=mesh,
        name=model.place.name,
        labels=model.labels,
        untrained=model.untrained,
        problem_type=model.problem_type,
        tokenizer_problem=model.tokenizer_problem,
        suggested=generation.suggested(model.source.hf_config if model.source else {}),
    )

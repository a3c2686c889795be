"""A trained model, from its run directory or converted: to evaluate it and to fill masks with it."""

import dataclasses
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, LabeledDataConfig, MeshConfig, TransformerConfig
from tx_jax.convert import model_dir
from tx_jax.errors import InputError, InputWarning
from tx_jax.models import forward, lora
from tx_jax.runs.best import Evaluations
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.run_dir import RunDir
from tx_jax.text.tokenizer import Tokenizer


@dataclasses.dataclass(frozen=True)
class Trained:
    """Parameters with what is needed to use them.

    Attributes:
      config: the experiment that it is from; None for a converted model.
      tokenizer: None for a model that was converted without one.
      params: nested dict, float32, on `mesh`; adapters are merged into their kernels.
      step: the optimizer step that they are from; None for a converted model.
    """

    model: TransformerConfig
    config: ExperimentConfig | None
    tokenizer: Tokenizer | None
    params: Any
    step: int | None
    mesh: jax.sharding.Mesh

    def require_masks(self) -> Tokenizer:
        """The tokenizer of a model that fills masks. Raises InputError for a model or tokenizer that cannot."""
        if "masked_lm" not in self.model.heads:
            raise InputError(f"the model has no masked_lm head to fill masks with; its heads are {self.model.heads}")
        if self.tokenizer is None:
            raise InputError("the model was converted without a tokenizer, so it cannot read text")
        self.tokenizer.require("cls", "sep", "mask")
        return self.tokenizer


def load(
    workdir: Path,
    step: int | None = None,
    mesh_of: Callable[[ExperimentConfig], jax.sharding.Mesh | None] = lambda config: None,
) -> Trained:
    """The parameters of a run at a step, or of a converted model, on the devices there are.

    Every file of the checkpoint is verified. Where the newest is damaged, the newest good one is taken, with a warning.

    Args:
      mesh_of: gives the mesh for a run; where it gives none, each device holds all parameters.
      step: None: that of a fine-tuned run which its `training.best_metric` likes best, the newest of others.

    Raises:
      InputError: neither a run directory nor a converted model, no checkpoint, none of that step, or none that is good.
    """
    if model_dir.is_model_dir(workdir):
        return _load_converted(workdir, step)
    directory = RunDir(workdir)
    config = directory.load_config()
    mesh = mesh_of(config) or _mesh()
    if not directory.checkpoints.is_dir():
        raise InputError(f"{workdir} has no checkpoints yet")
    with Checkpoints(directory.checkpoints, read_only=True) as checkpoints:
        chosen = (_best(directory, config, checkpoints) or checkpoints.newest()) if step is None else step
        if chosen is None or not (directory.checkpoints / str(chosen)).is_dir():
            of_step = "" if step is None else f" of step {step}"
            raise InputError(f"{workdir} has no checkpoint{of_step}; it has {checkpoints.steps()}")
        if step is not None:
            checkpoints.verify(step)
        target = sharding.with_sharding(mesh, forward.param_shapes(config.model, config.lora))
        params = lora.merged(checkpoints.restore_params(chosen, target), config.lora)
    return Trained(config.model, config, directory.load_tokenizer(), params, chosen, mesh)


def _best(directory: RunDir, config: ExperimentConfig, checkpoints: Checkpoints) -> int | None:
    """The best checkpoint of a fine-tuned run; None where the run keeps none or it is damaged, with a warning."""
    if not isinstance(config.data, LabeledDataConfig) or not config.training.keep_best:
        return None
    step = Evaluations.read(directory.path, config.training.best_metric).best(checkpoints.on_disk())
    try:
        if step is not None:
            checkpoints.verify(step)
    except InputError as error:
        warnings.warn(f"{error}; the newest is used", InputWarning, stacklevel=3)
        return None
    return step


def _load_converted(path: Path, step: int | None) -> Trained:
    if step is not None:
        raise InputError(f"{path} is a converted model: it has no step {step}, nor any other")
    return from_model(model_dir.load(path))


def from_model(model: model_dir.Model) -> Trained:
    """A model that no run stands behind, on the devices there are."""
    mesh = _mesh()
    params = jax.device_put(model.tree, sharding.state_sharding(mesh, model.tree))
    return Trained(model.config, None, model.tokenizer, params, None, mesh)


def _mesh() -> jax.sharding.Mesh:
    """Data parallel over whatever devices there are: they need not be those of training."""
    return sharding.make_mesh(MeshConfig(data=-1, fsdp=1, tensor=1))

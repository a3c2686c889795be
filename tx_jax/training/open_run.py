"""From the values of a configuration to a run that is ready to train: what it starts from, its data, its checks."""

import dataclasses
import functools
from collections.abc import Collection
from pathlib import Path
from typing import Any

from tx_jax import added
from tx_jax.config import ExperimentConfig, from_config_dict
from tx_jax.config.further import experiment_values
from tx_jax.config.starting import check_start
from tx_jax.errors import InputError
from tx_jax.files import check_writable, is_local
from tx_jax.hosts import distributed
from tx_jax.hosts.watchdog import doing
from tx_jax.runs import trackers
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.left_open import fill_in
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.start import Start, open_start
from tx_jax.tasks.base import Task
from tx_jax.tasks.registry import open_task
from tx_jax.training import begin
from tx_jax.training.attention import reason_against_kernels, reason_against_resuming
from tx_jax.training.profile import ProfiledSteps


@dataclasses.dataclass(frozen=True)
class OpenRun:
    """What `loop.train` needs.

    Attributes:
      task: with its data; `task.config` is the configuration, filled in.
      start_from: the model that gives the run its initial parameters, if any.
      told: one line for each value that was filled in or chosen, and why.
      notices: one line for each thing that deserves a second look.
      profiled: the steps to profile, if any.
    """

    task: Task
    start_from: Start | None
    told: list[str]
    notices: list[str]
    profiled: ProfiledSteps | None = None


def open_run(
    values: dict[str, Any], workdir: Path, given: Collection[str] = (), profile_steps: str | None = None
) -> OpenRun:
    """Opens the run in a folder, new or to be continued.

    Args:
      values: a configuration as nested plain values, such as `get_config().to_dict()`.
      given: the keys that the user set, such as "optimizer.learning_rate": one of them that does nothing is an error.
      profile_steps: such as "100-103".

    Raises:
      InputError: what in the configuration, the data, the model to start from or the folder cannot be used.
    """
    trackers.check_installed(values["training"].get("trackers", ()))
    if is_local(workdir):
        distributed.agreed(lambda: check_writable(workdir, "workdir"))
    trained = distributed.agreed(lambda: Checkpoints(RunDir(workdir).checkpoints, read_only=True).begun())
    begins = trained is None
    if not values["training"].get("num_epochs"):
        _profiled(profile_steps, trained, values["training"]["num_steps"])
    if begins:  # a run that is continued may have a configuration that would be refused now
        check_start(experiment_values(values), given)
    values, told = fill_in(values, given, begun=None if begins else workdir)
    given_of_model = {key.removeprefix("model.") for key in given if key.startswith("model.")}
    values, start_from = open_start(values, workdir, given_of_model)
    config, more = _with_attention(values, begins)
    tokenizer, label_order = (start_from.tokenizer, start_from.labels) if start_from else (None, ())
    with added.explained(config.extensions):
        task = open_task(config, tokenizer=tokenizer, label_order=label_order)
        begin.check_extensions(task)
    profiled = _profiled(profile_steps, trained, task.config.training.num_steps)  # the data told how many epochs have
    labels = task.config.model.num_labels
    if "num_labels" in given_of_model and (asked := values["model"]["num_labels"]) != labels:
        raise InputError(f"--config.model.num_labels={asked}: the data has {labels} labels; leave this key out")
    notices = begin.check_task(task, given) if begins else []
    with doing("looking at the data"):
        notices += task.notices() if distributed.is_first() else []
    return OpenRun(task, start_from, [*told, *more, *_left_to_the_task(config, task.config)], notices, profiled)


def _with_attention(values: dict[str, Any], begins: bool) -> tuple[ExperimentConfig, list[str]]:
    """The configuration with an implementation of attention that can be used here, and why it is another one."""
    config, told = from_config_dict(values), []
    if not begins and (reason := reason_against_resuming(config)):
        values["model"]["attention"] = "auto"
        config, told = from_config_dict(values), [f"{reason}; training continues with 'auto'"]
    if reason := distributed.agreed(functools.partial(reason_against_kernels, config)):
        if config.model.attention != "auto":
            raise InputError(f"{reason}. Give --config.model.attention=xla")
        values["model"]["attention"] = "xla"
        config, told = from_config_dict(values), [*told, f"{reason}: training uses XLA's"]
    return config, told


def _profiled(steps: str | None, trained: int | None, num_steps: int) -> ProfiledSteps | None:
    """Raises InputError if the run does not train them."""
    if steps is None:
        return None
    profiled = ProfiledSteps.parse(steps)
    profiled.check(trained or 0, num_steps)
    return profiled


def _left_to_the_task(config: ExperimentConfig, resolved: ExperimentConfig) -> list[str]:
    """One line for each choice that the configuration leaves to the task."""
    metrics = getattr(resolved.data, "metrics", ())
    if metrics == getattr(config.data, "metrics", ()):
        return []
    chosen = f"data.metrics={metrics}, training.best_metric={resolved.training.best_metric!r}"
    return [
        f"Chosen for the task and its labels: {chosen}. To choose others: --config.data.metrics=\"('{metrics[-1]}',)\""
    ]

"""Checks before a training begins that it would learn something. Runs that continue are not checked."""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

import jax
import numpy as np

from tx_jax import added, tree
from tx_jax.config.starting import check_steps
from tx_jax.errors import InputError, did_you_mean
from tx_jax.tasks.base import Objective, Task, total_loss
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import abstract_params

# Number of batches to search for something to predict.
LOOKED_AT = 100


def check_task(task: Task, given: Collection[str] = ()) -> list[str]:
    """Looks at what only the open task tells.

    Args:
      given: the keys that are set on the command line, see `check_start`.

    Returns:
      Notices for the user, one line each.

    Raises:
      InputError: `training.best_metric` is not a metric of the task, patterns match no parameter, the number of steps
        leaves a key without effect, or none of the words to mask occurs.
    """
    check_steps(task.config, given)
    check_best_metric(task)
    check_patterns(task.objective, given)
    return _check_listed_words(task)


def check_extensions(task: Task) -> None:
    """Uses once what a user's own modules add: draws the first batch of each phase and of the held-out examples, and
    traces the loss and what evaluation computes. Compiles nothing.

    Raises:
      InputError: this fails; the message names the modules.
    """
    config, objective = task.config, task.objective
    if not config.extensions:
        return
    params, rng = abstract_params(objective), jax.random.key(0)

    def loss(params: Any, batch: Any) -> jax.Array:
        return total_loss(objective.metrics(params, batch, dropout_rng=rng), objective.loss_weights(batch))

    with added.explained(config.extensions, blamed=True):
        for phase in config.training_phases:
            batches = task.batches("train", batch_size=phase.batch_size, repeat=True, phase=phase)
            jax.eval_shape(jax.grad(loss), params, batches.batch_at(phase.start))
        held_out = task.batches("validation", batch_size=config.training.eval_batch_size, repeat=False)
        batch = held_out.batch_at(0)
        jax.eval_shape(functools.partial(objective.metrics, dropout_rng=None), params, batch)
        jax.eval_shape(objective.outputs, params, batch)


def check_best_metric(task: Task) -> None:
    """Raises InputError if `training.best_metric` decides something and is not a metric of the task."""
    training, objective = task.config.training, task.objective
    if not (training.keep_best or training.patience):
        return
    params = abstract_params(objective)
    batch = objective.batch_shapes(task.config.training_phases[0])
    names = {*jax.eval_shape(functools.partial(objective.metrics, dropout_rng=None), params, batch), *task.score_names}
    if training.best_metric not in names:
        raise InputError(
            f"training.best_metric={training.best_metric!r} is not among the metrics: {', '.join(sorted(names))}."
            + did_you_mean(training.best_metric, names)
        )


def check_patterns(objective: Objective, given: Collection[str] = ()) -> None:
    """Raises InputError if `optimizer.no_decay` matches no parameter, or `optimizer.frozen` none that would train
    without it, as with LoRA. (The optimizer checks the other patterns.)

    Of the `no_decay` patterns in a file only one must match: recipes share them between models with and without
    biases.
    """
    config, optimizer = objective.config, objective.config.optimizer
    params = abstract_params(objective)
    paths = list(tree.flatten(params))
    if optimizer.frozen and config.lora.rank:
        all_that_may = dataclasses.replace(config, optimizer=dataclasses.replace(optimizer, frozen=()))
        trained = Optimizer(all_that_may).rates(params)
        tree.require_matches(
            "optimizer.frozen", optimizer.frozen, trained, f"parameter that lora.rank={config.lora.rank} trains"
        )
    if not optimizer.weight_decay:
        return
    unmatched = [pattern for pattern in optimizer.no_decay if not any(tree.matches(path, [pattern]) for path in paths)]
    if unmatched and ("optimizer.no_decay" in given or len(unmatched) == len(optimizer.no_decay)):
        tree.require_matches("optimizer.no_decay", unmatched, paths)


def _check_listed_words(task: Task) -> list[str]:
    """Raises InputError where no batch of a pass over the token stores has a word of `data.selective_words`."""
    config = task.config
    if not getattr(config.data, "selective_words", ""):  # then every row has something to predict
        return []
    phase = config.training_phases[0]
    batches = task.batches("train", batch_size=phase.batch_size, repeat=False, phase=phase)
    count = min(len(batches), LOOKED_AT)
    if any(_has_loss(task, batches.batch_at(number)) for number in range(count)):
        return []
    if count < len(batches):
        return [f"the first {count} batches of {config.data.store} contain no word of {config.data.selective_words}"]
    raise InputError(
        f"no word of data.selective_words={config.data.selective_words} occurs in {config.data.store}: the masked LM "
        "would learn nothing"
    )


def _has_loss(task: Task, batch: dict[str, Any]) -> bool:
    """Whether every term of the loss has something to predict: next-sentence prediction always has."""
    return all(float(np.sum(weight)) > 0 for weight in task.objective.loss_weights(batch).values())

"""One optimizer step, as a pure function and jitted."""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tx_jax import sharding, tree
from tx_jax.batch import Batch
from tx_jax.config import ExperimentConfig
from tx_jax.tasks.base import Metrics, Objective, WeightedSum, total_loss
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import TrainState

# Metrics of `train_step` that describe the whole run up to a step: over several steps, only the last value counts. All
# others are means over whatever the steps counted.
LAST_VALUES = ("learning_rate", "skipped_updates")

TrainStep = Callable[[TrainState, Batch, jax.Array], tuple[TrainState, Metrics]]


def train_step(
    state: TrainState,
    batch: Batch,
    rng: jax.Array,
    *,
    objective: Objective,
    optimizer: Optimizer,
    accumulation_steps: int,
) -> tuple[TrainState, Metrics]:
    """One optimizer update from one global batch.

    The gradient is that of the mean over the whole batch, regardless of the number of microbatches: each loss term is
    divided by the weight of the whole batch before the gradients are added. It is taken with respect to the trainable
    parameters only: nothing is computed or stored for the others, and the norm excludes them.

    If the loss or the gradient norm is not finite, the parameters and the optimizer's state, including its count of
    updates and thus the learning rate, do not change; only the step advances. `skipped_updates` counts such steps over
    the whole run: it follows from the state, and is the same after a resume.
    """
    rng = jax.random.fold_in(rng, state.step)
    weights = objective.loss_weights(batch)
    trained, frozen = optimizer.split(state.params)

    def loss_and_metrics(trained: Any, part: Batch, part_rng: jax.Array) -> tuple[jax.Array, Metrics]:
        metrics = objective.metrics(tree.join(trained, frozen), part, dropout_rng=part_rng)
        return total_loss(metrics, weights), metrics

    gradient = jax.grad(loss_and_metrics, has_aux=True)
    if accumulation_steps == 1:
        grads, metrics = gradient(trained, batch, rng)
    else:
        grads, metrics = _accumulate(gradient, trained, batch, rng, accumulation_steps)
    before, loss, one = _updates_taken(state), total_loss(metrics, weights), jnp.ones(())
    with jax.named_scope("optimizer"):
        updates, opt_state = optimizer.update(grads, state.opt_state, trained)
        updated = optax.apply_updates(trained, updates)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        updated, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (updated, opt_state), (trained, state.opt_state)
        )
    metrics |= {
        "loss": WeightedSum(loss, one),
        "gradient_norm": WeightedSum(norm, one),
        "learning_rate": WeightedSum(optimizer.schedule(before), one),
        "skipped_updates": WeightedSum((state.step - before + ~finite).astype(jnp.float32), one),
    }
    return TrainState(step=state.step + 1, params=tree.join(updated, frozen), opt_state=opt_state), metrics


def _updates_taken(state: TrainState) -> jax.Array:
    """The optimizer's own count of updates; the step if the optimizer keeps no count."""
    counts = [count for _, count in optax.tree.get_all_with_path(state.opt_state, "count")]
    return counts[0] if counts else state.step


def _accumulate(gradient: Any, params: Any, batch: Batch, rng: jax.Array, steps: int) -> tuple[Any, Metrics]:
    """Sums gradients and metrics over microbatches. Microbatch i takes rows i, i + steps, …, so that each is
    distributed over the devices just as the whole batch is.
    """
    parts = jax.tree.map(lambda x: x.reshape(x.shape[0] // steps, steps, *x.shape[1:]).swapaxes(0, 1), dict(batch))
    part_shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), parts)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(gradient, params, part_shapes, rng))

    def body(carry: Any, inputs: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        part, i = inputs
        return jax.tree.map(jnp.add, carry, gradient(params, part, jax.random.fold_in(rng, i))), None

    return jax.lax.scan(body, zeros, (parts, jnp.arange(steps)))[0]


def jit_train_step(config: ExperimentConfig, objective: Objective, optimizer: Optimizer) -> TrainStep:
    """`train_step` with everything but its arrays filled in; its input state is donated. It is compiled
    once for each batch shape: at most once per phase, and for all runs of this process that compute the same."""
    phases = config.training_phases
    accumulation_steps = tuple({phase.shape[:2]: phase.accumulation_steps for phase in phases}.items())
    return _jitted(objective, Optimizer(optimizer.config.program), accumulation_steps)


@functools.lru_cache(maxsize=4)
def _jitted(
    objective: Objective, optimizer: Optimizer, accumulation_steps: tuple[tuple[tuple[int, int], int], ...]
) -> TrainStep:
    """
    Args:
      accumulation_steps: by batch size and length; of a single phase, whose lengths may vary, the one value.
    """

    def step(state: TrainState, batch: Batch, rng: jax.Array) -> tuple[TrainState, Metrics]:
        first = accumulation_steps[0][1]
        parts = first if len(accumulation_steps) == 1 else dict(accumulation_steps)[batch["tokens"].shape[:2]]
        return train_step(state, batch, rng, objective=objective, optimizer=optimizer, accumulation_steps=parts)

    return jax.jit(step, donate_argnums=0)


def check_batch_sizes(config: ExperimentConfig, mesh: jax.sharding.Mesh) -> None:
    """Raises InputError for a phase, held-out batches or a model that cannot be split evenly over the mesh."""
    sharding.check_divisible(mesh, config)
    size, parts = (config.key_of_phases(name) for name in ("batch_size", "accumulation_steps"))
    for phase in config.training_phases:
        sharding.check_batch_size(mesh, f"{size} / {parts}", phase.batch_size // phase.accumulation_steps)
    sharding.check_batch_size(mesh, "training.eval_batch_size", config.training.eval_batch_size)

"""What training carries from step to step: nothing that the step number already determines."""

import functools
from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from tx_jax import sharding
from tx_jax.nn import initial
from tx_jax.tasks.base import Objective
from tx_jax.training.optimizer import Optimizer


@flax.struct.dataclass
class TrainState:
    """A pytree.

    Attributes:
      step: int32 scalar, optimizer steps taken. Data order, dropout and learning rate are functions of it.
      params: nested dict, float32.
      opt_state: optax's, of the parameters that train.
    """

    step: jax.Array
    params: Any
    opt_state: Any


def _init(objective: Objective) -> Callable[[jax.Array], Any]:
    return _traced_init(objective, jax.sharding.get_abstract_mesh())


@functools.lru_cache(maxsize=4)
def _traced_init(objective: Objective, mesh: jax.sharding.AbstractMesh) -> Callable[[jax.Array], Any]:
    """What is traced within a mesh belongs to it."""
    return initial.traced(objective.init)


def _fresh(objective: Objective, optimizer: Optimizer, key: jax.Array) -> TrainState:
    params = _init(objective)(key)
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params))


def abstract_params(objective: Objective) -> Any:
    """The shapes and dtypes of an objective's parameters."""
    return jax.eval_shape(_init(objective), _key(0))


def abstract_state(objective: Objective, optimizer: Optimizer, mesh: jax.sharding.Mesh) -> TrainState:
    """The state as `jax.ShapeDtypeStruct`s that know where each array lives; nothing is allocated."""
    return sharding.with_sharding(mesh, jax.eval_shape(functools.partial(_fresh, objective, optimizer), _key(0)))


def init_state(objective: Objective, optimizer: Optimizer, seed: int, mesh: jax.sharding.Mesh) -> TrainState:
    """A fresh state, every array created where it will live."""
    shardings = jax.tree.map(lambda x: x.sharding, abstract_state(objective, optimizer, mesh))
    return initial.create(functools.partial(_fresh, objective, optimizer), _key(seed), shardings)


def _key(seed: int) -> jax.Array:
    """Threefry: initial parameters are the same on every backend."""
    return jax.random.key(seed, impl="threefry2x32")

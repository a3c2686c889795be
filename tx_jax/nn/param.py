"""A module's parameter."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import ScopeParamShapeError


def param(module: nn.Module, name: str, init: nn.initializers.Initializer, shape: tuple[int, ...]) -> jax.Array:
    """`module.param`, float32, without its tracing of the initializer wherever the parameter is there already: flax
    does so to learn the shape, which took a seventh of the time for tracing a step.

    Raises:
      ScopeParamShapeError: the parameter that is there has another shape.
    """
    if module.is_initializing() or not module.has_variable("params", name):
        return module.param(name, init, shape, jnp.float32)
    value = module.get_variable("params", name)
    if value.shape != shape:
        raise ScopeParamShapeError(name, "/".join(module.path), value.shape, shape)
    return value

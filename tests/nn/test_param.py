import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from flax.errors import ScopeParamNotFoundError, ScopeParamShapeError

from tx_jax.nn.param import param

CALLS = []


def initialize(key, shape, dtype):
    CALLS.append(shape)
    return jax.random.normal(key, shape, dtype)


class Scaled(nn.Module):
    size: int = 3

    @nn.compact
    def __call__(self, x):
        return x * param(self, "scale", initialize, (self.size,))


def test_the_initializer_runs_only_where_the_parameter_is_not_there_yet():
    variables = Scaled().init(jax.random.key(0), jnp.ones(3))
    assert CALLS.pop() == (3,)
    assert variables["params"]["scale"].dtype == jnp.float32
    assert (Scaled().apply(variables, jnp.full(3, 2.0)) == 2 * variables["params"]["scale"]).all()
    assert not CALLS


def test_another_shape_or_none_is_an_error_with_its_name():
    with pytest.raises(ScopeParamShapeError, match=r'"scale"'):
        Scaled().apply({"params": {"scale": jnp.ones(4)}}, jnp.ones(4))
    with pytest.raises(ScopeParamNotFoundError, match=r'"scale"'):
        Scaled().apply({"params": {"other": jnp.ones(4)}}, jnp.ones(3))

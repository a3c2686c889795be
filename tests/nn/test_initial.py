"""Initial parameters drawn without a program of their own: equal to the last bit to those of the whole program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import SingleDeviceSharding

from tests.models import small
from tx_jax.models import registry
from tx_jax.nn import initial

KEY = jax.random.key(3, impl="threefry2x32")
# The suite's flags let the last bit of a number depend on the shape of its array; XLA's defaults do not.
DEFAULTS = {"xla_backend_optimization_level": 3, "xla_llvm_disable_expensive_passes": False}
if jax.__version_info__ < (0, 11):
    DEFAULTS["xla_cpu_use_fusion_emitters"] = True


@pytest.fixture(autouse=True)
def _as_by_default(monkeypatch):
    monkeypatch.setattr(initial, "_block", jax.jit(initial._block.__wrapped__, compiler_options=DEFAULTS))


def made(make, key=KEY):
    place = SingleDeviceSharding(jax.devices()[0])
    return initial.create(make, key, jax.tree.map(lambda _: place, jax.eval_shape(make, key)))


def assert_equal_to_the_program(make, key=KEY):
    found, expected = made(make, key), jax.jit(make, compiler_options=DEFAULTS)(key)
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert (one.shape, one.dtype) == (other.shape, other.dtype)
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("shape", [(7,), (3, 5), (2, 3, 4), (1, 1), (400, 700)])
def test_the_numbers_are_those_of_jax_for_any_shape_and_over_several_blocks(shape):
    assert_equal_to_the_program(lambda key: initial.truncated_normal(key, jnp.float32(0.02), shape))


@pytest.mark.parametrize(
    "changes",
    [{}, {"architecture": "decoder", "heads": ("causal_lm",), "num_segments": 0, "scale_residual_init": True}],
    ids=["encoder", "decoder"],
)
def test_a_model_begins_as_its_program_would_begin_it(changes):
    assert_equal_to_the_program(lambda key: registry.init_params(small.config(num_layers=1, **changes), key))


def test_what_is_neither_drawn_nor_constant_is_computed():
    """And a matrix that something else is made of is still itself."""

    def make(key):
        matrix = initial.truncated_normal(key, jnp.float32(1), (4, 4))
        return {"matrix": matrix, "twice": matrix * 2, "normal": jax.random.normal(key, (3,)), "one": jnp.ones(5)}

    expected = jax.jit(make)(KEY)
    for name, value in made(make).items():
        np.testing.assert_allclose(value, expected[name], rtol=1e-6, err_msg=name)


def test_a_model_is_drawn_by_one_program_and_traced_once(monkeypatch):
    traces, init = [], registry.init_params

    def counted(key):
        traces.append(key)
        return init(small.config(), key)

    once = initial.traced(counted)
    shapes = jax.eval_shape(once, KEY)
    assert shapes == registry.param_shapes(small.config())
    made(once)
    assert len(traces) == 1
    assert initial._block._cache_size() == 1

"""The sums over rows, as a TPU makes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax import sharding
from tx_jax.nn.sums import sum_over


@pytest.mark.parametrize("platform", ["cpu", "tpu"])
@pytest.mark.parametrize("axes", [(0, 1), (0, 2), (1,)])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_equal_to_those_of_float64(platform, axes, dtype, monkeypatch):
    monkeypatch.setattr(sharding, "platform", lambda: platform)
    x = jax.random.normal(jax.random.key(0), (5, 70, 3), jnp.dtype(dtype))
    assert ("dot_general" in str(jax.make_jaxpr(lambda x: sum_over(x, axes))(x))) == (platform == "tpu")
    sums = sum_over(x, axes)
    assert sums.dtype == jnp.float32
    np.testing.assert_allclose(sums, np.asarray(x, np.float64).sum(axes), atol=1e-4)

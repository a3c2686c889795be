"""The products by which a TPU's attention reads and writes heads are those of flattened rows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tx_jax import sharding
from tx_jax.nn.attention.layer import MultiHeadAttention
from tx_jax.nn.masks import Mask

CONFIGS = {
    "BERT": small.config(dropout=0.0, attention_dropout=0.0),
    "without biases": small.config(dropout=0.0, attention_dropout=0.0, use_bias=False),
    "DeBERTa": small.config(
        dropout=0.0,
        attention_dropout=0.0,
        position_embedding="none",
        relative_attention=("c2p", "p2c"),
        relative_distance=8,
        share_relative_projections=True,
    ),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_the_forms_of_a_tpu_give_the_same_values_and_gradients(name, monkeypatch):
    config = CONFIGS[name]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(3, 6, config.dim)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=x.shape), jnp.float32)
    inputs = {"mask": Mask(jnp.arange(6)[None] < jnp.array([[6], [4], [1]])), "deterministic": True}
    if config.relative_attention:
        inputs["table_PD"] = jnp.asarray(rng.normal(size=(16, config.dim)), jnp.float32)
    module = MultiHeadAttention(config)
    params = module.init(jax.random.key(0), x, x, **inputs)["params"]

    def value_and_gradient():
        def loss(params, x):
            return (module.apply({"params": params}, x, x, **inputs) * weights).sum()

        return jax.value_and_grad(loss, (0, 1))(params, x), str(jax.make_jaxpr(loss)(params, x))

    expected, flat = value_and_gradient()
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    actual, by_heads = value_and_gradient()
    assert flat != by_heads
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), actual, expected)

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn import disentangled
from tx_jax.nn.convolution import Convolution, neighbours

VALID = jnp.asarray(np.arange(9)[None] < np.array([9, 5])[:, None])


def layer(**changes):
    """A convolution with noise on its parameters, the input and the output of the layer beside it."""
    cfg = small.config(dropout=0.0, layer_norm_eps=1e-5, **changes)
    rng = np.random.default_rng(0)
    x, y = (jnp.asarray(rng.normal(size=(2, 9, cfg.dim)), jnp.float32) for _ in range(2))
    module = Convolution(cfg)
    params = module.init(jax.random.key(0), x, y, valid_BT=VALID, deterministic=True)["params"]
    params = jax.tree.map(lambda p: p + jnp.asarray(rng.normal(scale=0.2, size=p.shape), jnp.float32), params)
    return module, params, x, y


@pytest.mark.parametrize("activation", ["tanh", "gelu"])
@pytest.mark.parametrize("width", [1, 3, 5])
def test_against_numpy(width, activation):
    module, params, x, y = layer(conv_kernel=width, conv_activation=activation)
    actual = module.apply({"params": params}, x, y, valid_BT=VALID, deterministic=True)
    p = jax.tree.map(np.float64, params)
    expected = disentangled.convolution(p, np.float64(x), np.float64(y), module.config, np.asarray(VALID))
    valid = np.asarray(VALID)
    np.testing.assert_allclose(actual[valid], expected[valid], atol=5e-6 * np.abs(expected).max(), rtol=0)


def test_it_is_the_convolution_of_xla():
    _, params, x, _ = layer(conv_kernel=5)
    expected = jax.lax.conv_general_dilated(x, params["kernel"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"))
    actual = jnp.einsum("BTWD,WDE->BTE", neighbours(x, 5, None), params["kernel"])
    np.testing.assert_allclose(actual, expected, atol=2e-6 * np.abs(expected).max(), rtol=0)


def test_documents_are_borders():
    """Each document as if it stood alone, whatever stands beside it, on either side."""
    module, params, x, y = layer(conv_kernel=5)
    everything = jnp.ones_like(VALID)
    documents = jnp.asarray([[1, 1, 1, 1, 2, 3, 3, 3, 3]] * 2)
    together = module.apply({"params": params}, x, y, valid_BT=everything, documents_BT=documents, deterministic=True)
    for start, stop in ((0, 4), (4, 5), (5, 9)):
        part = slice(start, stop)
        alone = module.apply(
            {"params": params}, x[:, part], y[:, part], valid_BT=everything[:, part], deterministic=True
        )
        np.testing.assert_allclose(together[:, part], alone, atol=1e-5)


def test_dropout_is_of_the_convolution_alone():
    """Before the activation: what is dropped there leaves the layer's output, normalized."""
    module, params, x, y = layer(conv_kernel=3)
    module = Convolution(small.config(dropout=0.5, conv_kernel=3))
    params = params | {"kernel": 0 * params["kernel"], "bias": 0 * params["bias"] + 30.0}
    params["norm"] = {"scale": jnp.ones(32), "bias": jnp.zeros(32)}
    dropped = module.apply(
        {"params": params}, x, 0 * y, valid_BT=VALID, deterministic=False, rngs={"dropout": jax.random.key(0)}
    )
    # tanh(60) = 1 where it is kept: every row is two values, half of each.
    assert all(len(np.unique(np.round(row, 4))) == 2 for row in np.asarray(dropped).reshape(-1, 32))
    assert abs(float((dropped > 0).mean()) - 0.5) < 0.1

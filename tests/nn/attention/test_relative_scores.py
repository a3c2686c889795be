"""Scores with DeBERTa's terms by the kernels, in interpret mode, beside those that XLA makes on every device."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from tests.nn.attention.relative import BOTH, CONFIG, by_kernels, by_xla, rotate
from tx_jax import sharding
from tx_jax.nn.attention import relative_scores, xla
from tx_jax.nn.masks import Mask


@pytest.fixture(autouse=True)
def one_gather_for_a_rotation(monkeypatch):
    """Where it is interpreted, `pltpu.roll` is an operation a row, which takes long to compile."""
    monkeypatch.setattr(relative_scores.pltpu, "roll", rotate)


@pytest.mark.parametrize("shift", [0, 5])
def test_the_rotation_is_that_of_pallas(shift, monkeypatch):
    x = jnp.arange(6.0 * 16).reshape(6, 16)
    expected = rotate(x, shift, 1, stride=1, stride_axis=0)
    monkeypatch.undo()
    np.testing.assert_array_equal(jax.jit(lambda x: pltpu.roll(x, shift, 1, stride=1, stride_axis=0))(x), expected)


def arrays(batch, length, heads, head_dim, terms=BOTH, dtype=jnp.float32):
    """q, k and the tables of these terms; and a gradient of the scores."""
    rng = np.random.default_rng(0)
    shapes = {"q": (batch, length), "k": (batch, length)} | dict.fromkeys(terms, (2 * CONFIG.relative_buckets,))
    made = {name: jnp.asarray(rng.normal(size=(*shape, heads, head_dim)), dtype) for name, shape in shapes.items()}
    return made, jnp.asarray(rng.normal(size=(batch, heads, length, length)), dtype).astype(jnp.float32)


def relative_differences(made, gradient):
    """Of the scores and of all gradients: the largest difference over the root mean square."""
    values, pull = jax.vjp(by_kernels, made)
    expected, expected_pull = jax.vjp(by_xla, made)
    pairs = [(values, expected)]
    pairs += [(pull(gradient)[0][name], expected_pull(gradient)[0][name]) for name in made]
    as_numbers = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in pairs]
    return [np.abs(a - b).max() / np.sqrt((b**2).mean()) for a, b in as_numbers]


@pytest.mark.parametrize("terms", [BOTH, ("c2p",), ("p2c",)], ids="-".join)
def test_values_and_gradients(terms):
    assert max(relative_differences(*arrays(2, 256, 2, 64, terms))) < 1e-4


@pytest.mark.parametrize(("heads", "head_dim"), [(1, 128), (4, 64)])
def test_every_size_of_a_head(heads, head_dim):
    assert max(relative_differences(*arrays(1, 128, heads, head_dim))) < 1e-4


def test_bfloat16():
    values, *gradients = relative_differences(*arrays(1, 128, 2, 64, dtype=jnp.bfloat16))
    assert values < 1e-3  # both add up in float32
    assert max(gradients) < 0.05


def jaxpr_of(length, head_dim=64):
    """Of attention and its gradient on a TPU."""
    made, _ = arrays(1, length, 2, head_dim)

    def attend(made):
        relative = xla.Relative(CONFIG, {name: made[name] for name in BOTH})
        return xla.attend(made["q"], made["k"], made["k"], Mask(), relative=relative).sum()

    return str(jax.make_jaxpr(jax.grad(attend))(made))


def test_attention_on_a_tpu_uses_them_where_it_can(monkeypatch):
    assert relative_scores.FORWARD not in jaxpr_of(128)
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    text = jaxpr_of(128)
    assert relative_scores.FORWARD in text
    assert relative_scores.BACKWARD in text
    for length, head_dim in ((96, 64), (640, 64), (128, 32)):
        assert relative_scores.FORWARD not in jaxpr_of(length, head_dim)
    monkeypatch.setattr(sharding, "device_kind", lambda: "TPU v4")
    assert relative_scores.FORWARD not in jaxpr_of(128)

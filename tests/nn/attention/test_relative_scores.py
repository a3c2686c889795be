"""Scores with DeBERTa's terms by the kernels, in interpret mode, beside those that XLA makes on every device."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.pallas import tpu as pltpu

from tests.nn.attention.relative import BOTH, CONFIG, by_kernels, by_xla, rotate
from tx_jax import sharding
from tx_jax.nn.attention import choice, relative_scores, xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.check import LIMIT, deviation
from tx_jax.nn.attention.layer import MultiHeadAttention
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


@pytest.mark.parametrize(("heads", "head_dim"), [(3, 64), (1, 64)])
def test_heads_that_fill_no_group(heads, head_dim):
    assert max(relative_differences(*arrays(1, 128, heads, head_dim))) < 1e-4


CASE = Case("tpu", "bfloat16", 512, 512, 64, dropout=0.1, relative=True, device_kind="TPU v5 lite")


def test_what_it_can_do():
    assert relative_scores.reason_against(CASE) is None
    chosen = choice.choose("auto", CASE)
    assert (chosen.name, chosen.why) == ("relative", "the fastest for tpu")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"platform": "cpu"}, "TPUs, not on a CPU"),
        ({"relative": False}, "for DeBERTa's relative positions"),
        ({"device_kind": "TPU v4"}, "a TPU v4 cannot rotate"),
        ({"queries": 500, "keys": 500}, "multiples of 128 up to 512, not 500"),
        ({"queries": 640, "keys": 640}, "multiples of 128 up to 512, not 640"),
        ({"queries": 128}, "not 128 queries and 512 keys"),
        ({"head_dim": 32}, "64 or 128, not 32"),
        ({"dtype": "float16"}, "not in float16"),
        ({"capture": True}, "probabilities"),
        ({"cached": True}, "cache"),
        ({"length_parts": 2}, "split over 2 devices"),
    ],
)
def test_what_it_cannot_do(changes, reason):
    case = dataclasses.replace(CASE, **changes)
    assert reason in relative_scores.reason_against(case)
    if case.platform == "tpu" and case.relative:
        assert choice.choose("auto", case).name == "xla"
        assert reason in choice.choose("auto", case).why


def test_before_a_training_they_are_compared(monkeypatch):
    """With the gradients of the tables."""

    def use(attend):
        made = choice.Implementation(lambda case: None, attend)
        monkeypatch.setitem(choice.IMPLEMENTATIONS, "relative", made)

    case = dataclasses.replace(CASE, queries=128, keys=128)
    use(functools.partial(relative_scores.attend, interpret=True))
    assert 0 < deviation("relative", case, CONFIG) < LIMIT
    assert deviation("relative", dataclasses.replace(case, dtype="float32"), CONFIG) < 1e-5

    def wrong(*arrays, relative, **options):
        other = xla.Relative(CONFIG, relative.rows | {"p2c": -relative.rows["p2c"]})
        return xla.attend(*arrays, relative=other, **options)

    use(wrong)
    assert deviation("relative", case, CONFIG) > LIMIT


def test_a_layer_on_a_tpu_uses_them(monkeypatch):
    layer = MultiHeadAttention(dataclasses.replace(CONFIG, dim=128, num_heads=2))
    inputs = {"mask": Mask(), "deterministic": True, "table_PD": jnp.ones((2 * CONFIG.relative_buckets, 128))}
    x = jnp.ones((1, 128, 128))
    params = layer.init(jax.random.key(0), x, x, **inputs)

    def uses_them():
        return relative_scores.FORWARD in str(
            jax.make_jaxpr(lambda params: layer.apply(params, x, x, **inputs))(params)
        )

    assert not uses_them()
    monkeypatch.setattr(sharding, "platform", lambda: "tpu")
    assert uses_them()
    monkeypatch.setattr(sharding, "device_kind", lambda: "TPU v4")
    assert not uses_them()

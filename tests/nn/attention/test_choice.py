"""The table of implementations: who can run what, and what is chosen."""

import dataclasses
import typing

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.nn.attention import cases
from tx_jax import sharding
from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError, InputWarning
from tx_jax.nn.attention import cudnn, xla
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.choice import IMPLEMENTATIONS, choose
from tx_jax.nn.masks import Mask

GPU = Case(platform="gpu", dtype="bfloat16", queries=512, keys=512, head_dim=64)


def test_automatic_choices():
    assert choose("auto", GPU).name == "cudnn"
    assert choose("auto", dataclasses.replace(GPU, platform="cpu")).name == "xla"
    with_dropout = choose("auto", dataclasses.replace(GPU, dropout=0.1))
    assert with_dropout.name == "xla"
    assert with_dropout.why == "cudnn: it has no dropout (attention_dropout=0.1)"


def test_automatic_choices_on_a_tpu():
    short = dataclasses.replace(GPU, platform="tpu", dropout=0.1)
    assert choose("auto", short).name == "rows"
    assert choose("auto", short).why == "the fastest for tpu"
    long = dataclasses.replace(short, queries=4096, keys=4096, dropout=0.0)
    assert choose("auto", long).name == "splash"
    neither = choose("auto", dataclasses.replace(long, dropout=0.1))
    assert neither.name == "xla"
    assert "rows: lengths must be multiples" in neither.why
    assert "splash: it has no dropout (attention_dropout=0.1)" in neither.why


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"platform": "cpu"}, "not for cpu"),
        ({"dtype": "float32"}, "not in float32"),
        ({"head_dim": 60}, "multiple of 8"),
        ({"head_dim": 256}, "up to 128"),
        ({"dropout": 0.1}, "no dropout"),
        ({"relative": True}, "relative"),
        ({"documents": True}, "documents"),
        ({"window": 128}, "window"),
        ({"cached": True}, "cache"),
        ({"capture": True}, "probabilities"),
        ({"length_parts": 2}, "split"),
    ],
)
def test_what_cudnn_cannot_do(change, reason):
    assert cudnn.reason_against(GPU) is None
    case = dataclasses.replace(GPU, **change)
    assert reason in cudnn.reason_against(case)
    with pytest.raises(InputError, match=rf"model.attention='cudnn' cannot be used: .*{reason}.*attention=auto"):
        choose("cudnn", case)


def test_the_names_are_those_of_the_configuration():
    names = typing.get_args(typing.get_type_hints(TransformerConfig)["attention"])
    assert {*names} == {"auto", *IMPLEMENTATIONS}


def test_outside_training_another_runs_instead():
    with pytest.warns(InputWarning, match="'cudnn' cannot be used: it is for NVIDIA GPUs, not for cpu; using xla"):
        assert choose("cudnn", dataclasses.replace(GPU, platform="cpu"), training=False).name == "xla"


def test_xla_runs_everything():
    everything = Case("cpu", "float32", 1, 7, 3, 0.5, True, True, 2, True, True, True, True, 8)
    assert xla.reason_against(everything) is None
    assert list(IMPLEMENTATIONS)[-1] == "xla"


def test_the_platform_is_that_of_the_mesh():
    assert sharding.platform() == jax.default_backend() == "cpu"


class TestCudnnsFunction:
    """What is passed to JAX's function, run by its XLA form: the kernel itself needs a GPU."""

    @pytest.mark.parametrize("causal", [False, True])
    def test_lengths_are_the_mask(self, causal):
        inputs = cases.arrays(2, 12, 12, 3, 8)
        mask = Mask(cases.valid(12, 12, 7), causal=causal)
        actual = cudnn.attend(*inputs, mask, implementation="xla")
        np.testing.assert_allclose(actual, xla.attend(*inputs, mask), atol=1e-6)

    def test_cross_attention(self):
        inputs = cases.arrays(2, 5, 7, 3, 8)
        mask = Mask(cases.valid(7, 7, 3))
        np.testing.assert_allclose(
            cudnn.attend(*inputs, mask, implementation="xla"), xla.attend(*inputs, mask), atol=1e-6
        )

    def test_padding_on_the_left_is_not_taken_for_padding_on_the_right(self):
        inputs = cases.arrays(2, 6, 6, 3, 8)
        left = Mask(cases.valid(6, 6, 4)[:, ::-1])
        assert np.isnan(cudnn.attend(*inputs, left, implementation="xla")).all()

    def test_an_empty_row_is_finite(self):
        inputs = cases.arrays(2, 6, 6, 3, 8)
        y = cudnn.attend(*inputs, Mask(cases.valid(6, 6, 0)), implementation="xla")
        assert bool(jnp.isfinite(y).all())

"""The encoder against transformers' BertForPreTraining, by the outputs in tests/golden/bert.npz (make_bert.py)."""

import functools
import pathlib

import numpy as np
import pytest

from tests.golden import compute, weights

FILE = pathlib.Path(weights.__file__).with_name("bert.npz")
NAMES = list(weights.GOLDEN)


@functools.cache
def expected(name: str) -> dict[str, np.ndarray]:
    with np.load(FILE) as file:
        return {key.removeprefix(f"{name}/"): file[key] for key in file.files if key.startswith(f"{name}/")}


@functools.cache
def drawn(name: str) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    shapes = weights.parameter_shapes(weights.GOLDEN[name])
    return weights.draw_weights(shapes, weights.SEED), weights.draw_inputs(weights.GOLDEN[name], weights.SEED)


@functools.cache
def actual(name: str) -> dict:
    return compute.outputs(weights.GOLDEN[name], *drawn(name))


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_inputs_are_those_of_the_file(name):
    params, inputs = drawn(name)
    assert weights.fingerprint(params | inputs) == str(expected(name)["drawn"])
    # What the comparison needs: the maximum length, padding, two segments.
    assert inputs["valid"].sum(axis=1).max() == weights.GOLDEN[name].max_length
    assert not inputs["valid"].all()
    assert (inputs["segments"].max(axis=1) == 1).all()


@pytest.mark.parametrize("name", NAMES)
def test_hidden_states_of_every_layer(name):
    valid = drawn(name)[1]["valid"]
    hidden = expected(name)["hidden"]
    assert len(hidden) == weights.GOLDEN[name].num_layers + 1
    for i in range(len(hidden)):
        np.testing.assert_allclose(actual(name)["hidden"][i][valid], hidden[i][valid], atol=1e-5, rtol=0, err_msg=i)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("output", ["pooled", "masked_lm", "next_sentence", "loss"])
def test_outputs(name, output):
    a, b = actual(name)[output], expected(name)[output]
    assert a.shape == b.shape
    assert a.dtype == np.float32
    if output == "masked_lm":
        valid = drawn(name)[1]["valid"]
        a, b = a[valid], b[valid]
    np.testing.assert_allclose(a, b, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_gradients(name):
    gradients = actual(name)["gradients"]
    norms = dict(zip(sorted(gradients), expected(name)["gradient_norms"], strict=True))
    for path, norm in norms.items():
        if path.endswith("key/bias"):  # softmax does not see it
            assert norm < 1e-6
            assert np.linalg.norm(gradients[path]) < 1e-6 * norms[path.replace("bias", "kernel")]
        else:
            np.testing.assert_allclose(np.linalg.norm(gradients[path]), norm, rtol=1e-4, err_msg=path)
    full = {key.removeprefix("gradient:"): value for key, value in expected(name).items() if "gradient:" in key}
    assert len(full) == 3
    for path, error in compute.gradient_errors(gradients, full).items():
        assert error < 1e-4, path


def test_the_comparison_tells_the_gelus_apart():
    """The two forms of GELU differ by no more than 5e-4 anywhere: their outputs must differ by more than is allowed."""
    sizes = weights.GOLDEN["gelu"]
    wrong = compute.outputs(sizes._replace(activation="gelu_tanh"), *drawn("gelu"))
    valid = drawn("gelu")[1]["valid"]
    assert np.abs(wrong["masked_lm"] - expected("gelu")["masked_lm"])[valid].max() > 1e-4


def test_the_comparison_sees_the_epsilon():
    sizes = weights.GOLDEN["gelu"]
    wrong = compute.outputs(sizes._replace(layer_norm_eps=sizes.layer_norm_eps * 1.1), *drawn("gelu"))
    valid = drawn("gelu")[1]["valid"]
    assert np.abs(wrong["hidden"][1] - expected("gelu")["hidden"][1])[valid].max() > 1e-5


@pytest.mark.parametrize("name", NAMES)
def test_every_weight_shows(name):
    """No gradient but that of the key biases is small, so no parameter escapes the comparison."""
    for path, norm in zip(sorted(drawn(name)[0]), expected(name)["gradient_norms"], strict=True):
        assert path.endswith("key/bias") or norm > 1e-3, path

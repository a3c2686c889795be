"""On a mesh of 8 devices the TPU kernels compute what they compute on one, with the same dropout."""

import pytest

from tests.multidevice import processes
from tests.nn.attention import plain, sharded


@pytest.fixture(scope="module")
def differences():
    return processes.run("tests.nn.attention.sharded")


@pytest.mark.parametrize("name", sharded.RUNS)
def test_values_and_gradients(differences, name):
    assert set(differences[name]) == set(plain.NAMES)
    for array, difference in differences[name].items():
        assert difference < 1e-4, array

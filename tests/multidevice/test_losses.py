"""The loss on 8 devices is the loss on 1, with and without accumulation, whatever the shape of the mesh."""

import numpy as np
import pytest

from tests.multidevice import processes

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def runs(tiny_store):
    return processes.run("tests.multidevice.losses", str(tiny_store.path))


@pytest.mark.parametrize(
    ("name", "one"),
    [
        ("data", "one"),
        ("data, accumulated", "one"),
        ("data x fsdp x tensor", "one"),
        ("data x fsdp x tensor, adapters", "one, adapters"),
    ],
)
def test_losses_equal_those_of_one_device(runs, name, one):
    np.testing.assert_allclose(runs[name]["losses"], runs[one]["losses"], rtol=1e-5)
    for metric, value in runs[one]["held_out"].items():
        # An accuracy counts whole tokens; the parameters after 4 steps differ in their last bits.
        np.testing.assert_allclose(runs[name]["held_out"][metric], value, rtol=1e-4, err_msg=metric)


def test_dropout_does_not_depend_on_the_number_of_devices(runs):
    np.testing.assert_allclose(runs["data, dropout"]["losses"], runs["one, dropout"]["losses"], rtol=1e-5)
    assert runs["one, dropout"]["losses"][0] != runs["one"]["losses"][0]


@pytest.mark.parametrize("name", ["one", "one, adapters"])
def test_the_loss_moves(runs, name):
    """Else equality would say little."""
    losses = runs[name]["losses"]
    assert abs(losses[-1] - losses[0]) > 0.05


def test_parameters_lie_where_the_rules_put_them(runs):
    rows, columns = runs["one"]["kernel_shape"]
    assert runs["data"]["kernel_shard"] == [rows, columns]
    assert runs["data x fsdp x tensor"]["kernel_shard"] == [rows // 2, columns // 2]

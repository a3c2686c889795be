"""The loss on 8 devices is the loss on 1, with and without accumulation, whatever the shape of the mesh."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest


@pytest.fixture(scope="module")
def runs(tiny_store):
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.multidevice.losses", str(tiny_store.path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


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

"""What the doctor says of a machine."""

import importlib.metadata

import jax
import numpy as np
import pytest

from tx_jax.doctor import finding, machine
from tx_jax.doctor.finding import Finding
from tx_jax.errors import InputError


def levels(findings):
    return [(found.subject, found.level) for found in findings]


def test_this_machine_is_well():
    found = list(finding.examine(machine.checks()))
    assert [each.says for each in found if each.level == "error"] == []
    assert {each.subject for each in found} == {subject for subject, _ in machine.checks()}


class TestPackages:
    @pytest.fixture
    def required(self, monkeypatch):
        def require(*lines):
            monkeypatch.setattr(importlib.metadata, "requires", lambda name: list(lines))
            return list(machine.packages())

        return require

    def test_too_old(self, required):
        (error, _) = required("numpy>=999")
        assert error.says == f"numpy {np.__version__}, needed: numpy>=999"
        assert error.remedy == "pip install 'numpy>=999'"

    def test_missing(self, required):
        (error, _) = required("no-such-package>=1")
        assert (error.level, error.says) == ("error", "no no-such-package, needed: no-such-package>=1")

    def test_extras_are_not_required(self, required):
        assert levels(required('no-such-package; extra == "tpu"', "jax")) == [("packages", "ok")]

    def test_the_package_itself_is_missing(self):
        assert levels(machine.packages("no-such-package")) == [("packages", "warning")]


class TestDevices:
    @pytest.fixture
    def trace(self, monkeypatch, tmp_path):
        (tmp_path / "accel0").touch()
        monkeypatch.setattr(machine, "TRACES", {"tpu": ((str(tmp_path / "accel0"),), "tpu")})

    def test_a_tpu_that_jax_was_told_to_leave_alone(self, trace, monkeypatch):
        monkeypatch.setenv("JAX_PLATFORMS", "cpu")
        warning = list(machine.devices())[-1]
        assert warning.level == "warning"
        assert warning.remedy == "unset JAX_PLATFORMS (it is cpu)"

    def test_a_tpu_that_jax_cannot_use(self, trace, monkeypatch):
        monkeypatch.delenv("JAX_PLATFORMS")
        assert list(machine.devices())[-1].remedy == 'pip install -e ".[tpu]"'

    def test_an_unknown_kind(self, monkeypatch):
        class Device:
            device_kind, platform = "TPU v99", "tpu"

        monkeypatch.setattr(jax, "local_devices", lambda: [Device()] * 4)
        (warning,) = machine.devices()
        assert warning.level == "warning"
        assert warning.says.startswith("4 x TPU v99")


def test_a_step_that_computes_something_else(monkeypatch):
    monkeypatch.setattr(jax, "grad", lambda function: lambda w, x: w * 0)
    (error,) = machine.step()
    assert error.level == "error"


def test_little_memory(monkeypatch):
    monkeypatch.setattr(machine, "free_memory", lambda: machine.GIB)
    assert ("memory", "warning") in levels(machine.memory())


def test_the_exit_code_is_that_of_the_worst():
    def wrong():
        yield Finding("one", "warning", "not so well")
        raise InputError("and worse")

    found = list(finding.examine([("one", wrong), ("two", lambda: iter([Finding("two", "ok", "well")]))]))
    assert [(each.subject, each.says) for each in found] == [
        ("one", "not so well"), ("one", "and worse"), ("two", "well"),
    ]  # fmt: skip
    assert finding.exit_code(found) == 2
    assert finding.exit_code(found[:1]) == 1
    assert finding.exit_code(found[2:]) == finding.exit_code([]) == 0

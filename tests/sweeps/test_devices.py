"""Devices divided among workers."""

import os

import pytest

from tx_jax.errors import InputError
from tx_jax.sweeps import devices


def test_cpu_cores_are_divided(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3, 4}, raising=False)
    shares = devices.divide(2, {"JAX_PLATFORMS": "cpu"})
    assert [share.cores for share in shares] == [{0, 1}, {2, 3, 4}]
    assert all(not share.environment for share in shares)
    (alone,) = devices.divide(1, {"JAX_PLATFORMS": "cpu"})
    assert alone.cores is None
    with pytest.raises(InputError, match=r"--workers=6: this machine has 5 CPU cores,"):
        devices.divide(6, {"JAX_PLATFORMS": "cpu"})


def test_gpus_are_divided():
    shares = devices.divide(2, {"CUDA_VISIBLE_DEVICES": "2,3,5,7,8"})
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in shares] == ["2,3", "5,7"]
    with pytest.raises(InputError, match=r"has 1 GPU, and each worker needs one"):
        devices.divide(2, {"CUDA_VISIBLE_DEVICES": "0"})


def test_gpus_are_those_that_nvidia_smi_lists(tmp_path, monkeypatch):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA H200 (UUID: a)'\necho 'GPU 1: NVIDIA H200 (UUID: b)'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert [share.environment["CUDA_VISIBLE_DEVICES"] for share in devices.divide(2, {})] == ["0", "1"]


def test_tpu_chips_are_divided():
    shares = devices.divide(2, {"JAX_PLATFORMS": "tpu", "TPU_VISIBLE_CHIPS": "0,1,2,3"})
    assert shares[1].environment == {
        "TPU_VISIBLE_CHIPS": "2,3",
        "TPU_CHIPS_PER_PROCESS_BOUNDS": "1,2,1",
        "TPU_PROCESS_BOUNDS": "1,1,1",
    }

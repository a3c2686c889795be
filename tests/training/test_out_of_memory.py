"""Where memory runs out: what each backend says is understood, and the user told what helps."""

import re

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType

from tests.training.test_loop import Silent
from tx_jax import sharding
from tx_jax.config import from_config_dict
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training import loop
from tx_jax.training.out_of_memory import OutOfMemory, _advice, explained, parse

GIB, MIB = 2**30, 2**20
GPU = """RESOURCE_EXHAUSTED: Out of memory while trying to allocate 4770354232 bytes.
BufferAssignment OOM Debugging.
Peak buffers:
\tBuffer 1:
\t\tSize: 384.0KiB
\t\tEntry Parameter Subshape: f32[256,128,3]
\t\t==========================

\tBuffer 2:
\t\tSize: 6.00MiB
\t\tOperator: op_name="jit(train_step)/jit(main)/encoder/layer_0/wi/dot_general" source_file="mlp.py" source_line=9
\t\tXLA Label: fusion
\t\tShape: f32[4096,128,3]
\t\t==========================
"""
TPU = """RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. \
Used 63.80G of 30.75G hbm. Exceeded hbm capacity by 33.05G.

Program hbm requirement 63.80G:
    HLO temp         63.79G (100.0% utilization: Unpadded (63.58G) Padded (63.58G), 0.3% fragmentation (210.89M))

  Largest program allocations in hbm:

  1. Size: 2.00G
     Operator: op_name="jit(train_step)/encoder/layer_0/attention/dot_general" source_file="attention.py" source_line=1
     Shape: f32[32,4096,4096]{1,2,0:T(8,128)}
     ==========================
"""
FORMS = [
    ("RESOURCE_EXHAUSTED: Out of memory allocating 12884901888 bytes.", 12884901888, None),
    (GPU, 4770354232, None),
    ("RESOURCE_EXHAUSTED: Failed to allocate request for 176.00MiB (184549376B) on device ordinal 0", 176 * MIB, None),
    ("INTERNAL: Failed to allocate 98697216 bytes for new constant", 98697216, None),
    (TPU, round(63.80 * GIB), round(30.75 * GIB)),
    (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (1.00T) exceeds "
        "available HBM (30.75G).",
        2**40,
        round(30.75 * GIB),
    ),
    (
        "RESOURCE_EXHAUSTED: Error allocating device buffer: Attempting to allocate 4.39G. That was not possible. "
        "There are 2.30G free.; (0x0x0_HBM0)",
        round(4.39 * GIB),
        round(2.30 * GIB),
    ),
    (
        "RESOURCE_EXHAUSTED: Attempting to reserve 6.48G at the bottom of memory. That was not possible. There are "
        "6.78G free, 0B reserved, and 3.33G reservable.",
        round(6.48 * GIB),
        round(6.78 * GIB),
    ),
    ("Unable to allocate 2.00 GiB for an array with shape (536870912,) and data type float32", 2 * GIB, None),
]


@pytest.mark.parametrize(("message", "requested", "available"), FORMS, ids=[form[0][:60] for form in FORMS])
def test_what_the_backends_say_is_understood(message, requested, available):
    assert parse(message) == (requested, available)


def test_another_error_is_left_as_it_is(smoke_config, tiny_store):
    config = from_config_dict(smoke_config)
    error = jax.errors.JaxRuntimeError("INTERNAL: the device is on fire")
    objective = MaskedLM(config, tiny_store).objective
    with pytest.raises(jax.errors.JaxRuntimeError, match="on fire"), explained(config, objective):
        raise error


@pytest.mark.parametrize(("message", "shape"), [(GPU, "6.0 MiB  f32[4096,128,3]"), (TPU, "2.0 GiB  f32[32,4096,4096]")])
def test_the_largest_arrays_of_the_program_are_listed(smoke_config, tiny_store, message, shape):
    config = from_config_dict(smoke_config)
    with pytest.raises(OutOfMemory) as told, explained(config, MaskedLM(config, tiny_store).objective):
        raise jax.errors.JaxRuntimeError(message)
    largest = str(told.value).partition("the largest arrays of the program:\n")[2].splitlines()[0]
    assert shape in largest
    assert "encoder/layer_0/" in largest


def test_a_run_ends_with_what_is_there_and_what_helps(smoke_config, tiny_store, tmp_path):
    smoke_config.training.checkpoint_every = smoke_config.training.log_every = 1
    config = from_config_dict(smoke_config)

    def full():
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 12884901888 bytes.")

    with pytest.raises(OutOfMemory) as told:
        loop.train(config, MaskedLM(config, tiny_store), tmp_path, Silent(at=3, action=full))
    text = str(told.value)
    assert "out of memory on cpu: 12.0 GiB requested, " in text
    assert "parameters" in text
    assert "params/embeddings/token/embedding" in text or "params/embeddings/position/embedding" in text
    for knob in ("training.accumulation_steps=2", "model.remat=block", "mesh.fsdp", "training.batch_size"):
        assert f"--config.{knob}" in text
    assert (tmp_path / "FAILED").read_text().startswith("OutOfMemory: out of memory on cpu")
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.newest() >= 2


@pytest.mark.parametrize(("sizes", "fsdp"), [((8, 1, 1, 1), "8"), ((2, 2, 1, 2), "4"), ((1, 2, 2, 2), None)])
def test_the_advised_mesh_has_as_many_devices(smoke_config, sizes, fsdp):
    mesh = AbstractMesh(sizes, sharding.MESH_AXES, axis_types=(AxisType.Auto,) * 4)
    found = re.findall(r"mesh\.(\w+)=(\d+)", "\n".join(_advice(from_config_dict(smoke_config), mesh)))
    assert found == ([("data", "1"), ("fsdp", fsdp)] if fsdp else [])


def test_what_is_set_already_is_not_advised(smoke_config, tiny_store):
    smoke_config.model.remat = "block"
    smoke_config.training.accumulation_steps = 2
    config = from_config_dict(smoke_config)
    task = MaskedLM(config, tiny_store)
    with pytest.raises(OutOfMemory) as told, explained(config, task.objective):
        raise MemoryError("Unable to allocate 2.00 GiB for an array with shape (536870912,) and data type float32")
    assert "remat" not in str(told.value)
    assert "accumulation_steps=4" in str(told.value)

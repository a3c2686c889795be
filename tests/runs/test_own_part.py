"""A process's own part of a checkpoint, on a store that Orbax writes no arrays to."""

import asyncio

import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.errors import InputError
from tx_jax.files import path_of
from tx_jax.runs import commit, manifest, own_part
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.storage import cache

STATE = {"params": {"a": jnp.arange(6.0).reshape(2, 3), "b": jnp.int32(7)}}


@pytest.fixture
def checkpoints(memory):
    return path_of("s3://bucket/run/checkpoints", "x")


def save(checkpoints):
    handler, step = own_part.HashingHandler(checkpoints), checkpoints / "10"
    futures = asyncio.run(handler.async_save(commit.orbax_path(step / "default"), args=own_part.HashedSave(STATE)))
    assert not step.exists()
    for future in futures:
        future.result()
    return step


def test_it_is_uploaded_hashed_and_read_from_a_copy(checkpoints):
    step = save(checkpoints)
    assert not list(cache.work_folder(checkpoints).iterdir())
    files = {found.name for found in step.objects()}
    assert "default/hashes.0.json" in files
    manifest.write(step)
    assert {found.name for found in step.objects()} == files - {"default/hashes.0.json"} | {manifest.NAME}
    assert manifest.recorded(step).keys() == files - {"default/hashes.0.json"}
    assert manifest.problem(step) is None
    read = Checkpoints(checkpoints, read_only=True).host_params(10, STATE["params"])
    np.testing.assert_array_equal(read["a"], STATE["params"]["a"])
    assert read["b"] == 7
    assert not cache._used  # so that others may delete the copy


def test_what_is_not_as_the_manifest_says_is_not_read(checkpoints):
    step = save(checkpoints)
    manifest.write(step)
    (step / "default/params.a/0.0").write_bytes(b"")
    with pytest.raises(InputError, match=r"default/params.a/0.0 has 0 bytes instead of"), own_part.readable(step):
        pass


def test_a_failed_upload_is_raised(checkpoints, memory):
    memory.failing["write"] = PermissionError(13, "AccessDenied")
    with pytest.raises(PermissionError, match="no permission"):
        save(checkpoints)

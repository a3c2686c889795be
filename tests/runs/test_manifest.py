"""Damaged checkpoints: each kind is found, skipped with its reason, and never a silent start from zero."""

import json
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.errors import InputError, InputWarning
from tx_jax.runs import manifest
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.training.state import TrainState


def state_at(step):
    params = {"w": jnp.arange(2000.0) + step, "b": jnp.full((3,), float(step))}
    return TrainState(jnp.asarray(step, jnp.int32), params, {"m": jnp.zeros(5)})


def target():
    placement = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    shapes = jax.eval_shape(lambda: state_at(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=placement), shapes)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("original")
    with Checkpoints(folder, keep_last=9) as checkpoints:
        for step in (10, 20):
            checkpoints.save(state_at(step), {"loss": 1.0}, note=step)
    return folder


@pytest.fixture
def saved(original, tmp_path):
    return shutil.copytree(original, tmp_path / "checkpoints")


def files(step):
    return sorted(path for path in step.rglob("*") if path.is_file())


def largest(step):
    return max(files(step), key=lambda path: path.stat().st_size)


def flip(path, position):
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def empty(step):
    shutil.rmtree(step)
    step.mkdir()


def zero_all(step):
    for path in files(step):
        path.write_bytes(b"")


DAMAGE = {
    "truncated": (lambda step: os.truncate(largest(step), largest(step).stat().st_size // 2), "bytes, not"),
    "a byte flipped": (lambda step: flip(largest(step), largest(step).stat().st_size // 2), "has another checksum"),
    "empty": (empty, "it is empty"),
    "zero-length data": (lambda step: largest(step).write_bytes(b""), "has 0 bytes"),
    "zero-length files": (zero_all, "manifest.json is damaged"),
    "no manifest": (lambda step: (step / manifest.NAME).unlink(), "manifest.json is missing"),
    "manifest cut": (lambda step: os.truncate(step / manifest.NAME, 200), "manifest.json is damaged"),
    "a list as manifest": (lambda step: (step / manifest.NAME).write_text("[]"), "manifest.json is damaged"),
    "folder gone": (lambda step: shutil.rmtree(step / "default"), "is missing"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_found_and_the_newest_good_one_used(saved, kind):
    damage, reason = DAMAGE[kind]
    damage(saved / "20")
    with pytest.warns(InputWarning, match=f"step 20 is damaged and skipped.*{reason}.*step 10 is used"):
        checkpoints = Checkpoints(saved)
    with checkpoints:
        assert checkpoints.steps() == [10]
        restored = checkpoints.restore(10, target())
        np.testing.assert_array_equal(restored.params["w"], state_at(10).params["w"])
        checkpoints.save(state_at(20))  # the run comes to that step again
    assert (saved / "damaged-20").is_dir()
    with Checkpoints(saved) as checkpoints:
        assert checkpoints.steps() == [20]


def test_whichever_file_is_deleted_or_flipped_is_missed(original, tmp_path):
    relative = [path.relative_to(original / "20") for path in files(original / "20")]
    assert len(relative) > 8
    for number, name in enumerate(relative):
        for what in ("deleted", "flipped"):
            step = shutil.copytree(original / "20", tmp_path / f"{number}-{what}")
            if what == "deleted":
                (step / name).unlink()
                assert manifest.problem(step) == f"{name} is missing"
            elif name.name != manifest.NAME:
                flip(step / name, 0)
                assert manifest.problem(step) == f"{name} has another checksum"
                assert manifest.problem(step, quick=True)  # small files are always read


def test_a_reader_falls_back_and_changes_nothing(saved):
    flip(largest(saved / "20"), 40)
    before = [(path, path.stat().st_mtime_ns) for path in files(saved)]
    with Checkpoints(saved, read_only=True) as reader:
        with pytest.warns(InputWarning, match="step 20 is damaged"):
            assert reader.newest() == 10
        with pytest.raises(InputError, match=r"20 is damaged: .* checksum. Others that look intact: \[10\]"):
            reader.verify(20)
        reader.verify(10)
    assert [(path, path.stat().st_mtime_ns) for path in files(saved)] == before


@pytest.mark.parametrize("read_only", [True, False])
def test_none_good_is_an_error_that_lists_each_and_moves_nothing(saved, read_only):
    empty(saved / "10")
    flip(largest(saved / "20"), 40)
    for _ in range(2):
        with pytest.raises(InputError, match=r"step 20: .* has another checksum; step 10: it is empty"):
            Checkpoints(saved, read_only=read_only).newest()
    assert sorted(path.name for path in saved.iterdir()) == ["10", "20"]


def test_no_checkpoints_at_all_are_no_error(tmp_path):
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.newest() is None
        assert checkpoints.steps() == []


def test_damaged_ones_do_not_count_among_the_last_to_keep(saved):
    empty(saved / "20")
    with pytest.warns(InputWarning):
        checkpoints = Checkpoints(saved, keep_last=2)
    with checkpoints:
        checkpoints.save(state_at(15))
        checkpoints.wait()
        assert checkpoints.steps() == [10, 15]


def test_an_older_one_that_is_damaged_is_told_too(saved):
    empty(saved / "10")
    with pytest.warns(InputWarning, match="step 10 is damaged and set aside: it is empty"):
        checkpoints = Checkpoints(saved, keep_last=2)
    with checkpoints:
        assert checkpoints.steps() == [20]
    assert (saved / "damaged-10").is_dir()


def test_checkpoints_from_before_manifests_are_taken_with_a_warning(saved):
    for step in (10, 20):
        (saved / f"{step}/{manifest.NAME}").unlink()
        path = saved / f"{step}/{manifest.METADATA}"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"custom_metadata": {}}))
    with pytest.warns(InputWarning, match="step 20 is from a version without checksums"):
        checkpoints = Checkpoints(saved, keep_last=2)
    with checkpoints:
        assert checkpoints.steps() == [10, 20]
        assert checkpoints.notes(20) == {}
    largest(saved / "20").write_bytes(b"")
    with pytest.warns(InputWarning) as warned, Checkpoints(saved, read_only=True) as checkpoints:
        assert checkpoints.newest() == 10
    assert "has 0 bytes; step 10 is used" in str(warned[0].message)


def test_no_checkpoint_is_ever_seen_without_its_manifest(tmp_path, monkeypatch):
    """As after a kill while the manifest is written."""

    def killed(directory):
        assert not (tmp_path / "20").exists()
        raise OSError(5, "Input/output error")

    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state_at(10))
        checkpoints.wait()
        monkeypatch.setattr(manifest, "write", killed)
        checkpoints.save(state_at(20))
        with pytest.raises(InputError, match=r"20 could not be written: Input/output error.*intact: \[10\]"):
            checkpoints.wait()
    (tmp_path / "30.orbax-checkpoint-tmp-finished").mkdir()  # what a kill there leaves
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps() == [10]
    assert [path.name for path in tmp_path.iterdir()] == ["10"]


def test_notes_come_back(saved):
    with Checkpoints(saved, read_only=True) as checkpoints:
        assert checkpoints.notes(20)["note"] == 20


def test_process_0_does_not_read_what_each_process_hashed_itself(tmp_path, monkeypatch):
    for process in range(2):
        folder = tmp_path / "default" / manifest.OWN.format(process) / "d"
        folder.mkdir(parents=True)
        (folder / "data").write_bytes(bytes([process]) * 100)
        manifest.hash_own(tmp_path / "default", process)
    (tmp_path / "default/_METADATA").write_text("{}")
    (tmp_path / "default" / manifest.OWN.format(1) / "later").write_bytes(b"of process 0")
    hashed, hash_one = [], manifest._hashed
    monkeypatch.setattr(manifest, "_hashed", lambda path, size: (hashed.append(path.name), hash_one(path, size))[1])
    manifest.write(tmp_path)
    assert sorted(hashed) == ["_METADATA", "later"]
    assert manifest.problem(tmp_path) is None
    assert not list(tmp_path.glob("*/hashes*"))
    (tmp_path / "default" / manifest.OWN.format(1) / "d/data").write_bytes(bytes(100))
    assert manifest.problem(tmp_path) == "default/ocdbt.process_1/d/data has another checksum"

"""What the doctor says of an experiment."""

import fcntl

import pytest

from tests import programs
from tx_jax.doctor import experiment, finding, machine
from tx_jax.doctor.experiment import Examination
from tx_jax.runs import trackers


@pytest.fixture
def examine(smoke_config):
    def run(workdir=None, given=(), **changes):
        for key, value in changes.items():
            group, _, name = key.partition("__")
            smoke_config[group][name] = value
        checks = Examination(smoke_config.to_dict(), given, workdir).checks()
        return list(finding.examine(checks))

    return run


def worst(found):
    """The subjects of errors, or else of warnings."""
    return {
        level: [each.subject for each in found if each.level == level]
        for level in ("error", "warning")
        if any(each.level == level for each in found)
    }


def says(found, subject):
    return [each.says for each in found if each.subject == subject]


def test_all_is_well(examine, tmp_path):
    found = examine(tmp_path / "run")
    assert worst(found) == {}
    assert [each.subject for each in found if each.subject != "workdir"] == [
        "configuration", "data", "mesh", "attention", "model",
    ]  # fmt: skip
    free, room = says(found, "workdir")
    assert free.endswith("is free for a new run")
    assert room.startswith("room for ")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_is_not_installed_is_told(examine, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    found = examine(training__trackers=("wandb",))
    assert worst(found)["error"] == ["configuration"]
    assert "wandb is not installed: pip install" in says(found, "configuration")[0]


def test_without_data_the_rest_is_looked_at(examine):
    found = examine(data__store="no/such/store")
    assert worst(found) == {"error": ["data"]}
    assert "no token store at no/such/store" in says(found, "data")[0]
    assert says(found, "mesh")
    assert says(found, "attention")


def test_a_setting_that_does_nothing(examine):
    found = examine(given=("data.span_probability",), data__span_probability=0.3)
    assert worst(found) == {"error": ["configuration"]}
    assert "data.span_probability" in says(found, "configuration")[0]


def test_a_batch_that_the_devices_do_not_divide(examine):
    found = examine(mesh__data=3)
    assert worst(found)["error"] == ["mesh", "model"]
    assert "mesh.data=3" in says(found, "mesh")[0]


def test_attention_that_this_machine_has_not(examine):
    found = examine(model__attention="splash")
    assert worst(found) == {"error": ["attention"], "warning": ["data"]}  # it would be evaluated with another


def test_a_dtype_that_this_cpu_has_not(examine, monkeypatch):
    monkeypatch.setattr(experiment, "_computes_in_bfloat16", lambda: False)
    assert worst(examine(model__dtype="bfloat16")) == {"warning": ["attention"]}
    assert worst(examine(model__dtype="float32")) == {}


def test_a_state_that_does_not_fit(examine, monkeypatch):
    monkeypatch.setattr(experiment, "free_memory", lambda: 1000)
    found = examine()
    assert worst(found) == {"error": ["model"]}
    assert "--config.mesh.fsdp=" in next(each.remedy for each in found if each.subject == "model")


class TestRunDirectory:
    def test_it_cannot_be_written(self, examine, tmp_path):
        (tmp_path / "file").touch()
        assert worst(examine(tmp_path / "file" / "run")) == {"error": ["workdir"]}

    def test_somebody_trains_there(self, examine, tmp_path):
        with (tmp_path / "LOCK").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.write("17 on elsewhere\n")
            file.flush()
            found = examine(tmp_path)
        assert worst(found) == {"error": ["workdir"]}
        assert says(found, "workdir")[0] == "process 17 on elsewhere is training there"
        assert worst(examine(tmp_path)) == {}

    def test_no_room_for_checkpoints(self, examine, tmp_path, monkeypatch):
        class Full:
            free = 1000

        monkeypatch.setattr(experiment.shutil, "disk_usage", lambda path: Full)
        assert worst(examine(tmp_path)) == {"error": ["workdir"]}


def test_the_command(tiny_store, tmp_path):
    arguments = ["--config=configs/bert_base.py:smoke", "--config.model.vocab_size=200"]
    arguments += [f"--config.data.store={tiny_store.path}", f"--workdir={tmp_path / 'run'}"]
    well = programs.run("experiments.doctor", *arguments)
    # Whether there is room enough for warnings is the machine's affair.
    assert well.returncode in (0, 1), well.stdout + well.stderr
    assert "error" not in well.stdout
    ill = programs.run("experiments.doctor", *arguments, "--config.mesh.tensor=3")
    assert ill.returncode == 2
    assert "error   mesh: " in ill.stdout
    assert not ill.stderr
    refused = programs.run("experiments.doctor", "--workdir=runs/x")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert machine.checks()[0][0] in well.stdout

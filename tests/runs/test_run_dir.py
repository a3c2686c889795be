import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.runs import metrics_log
from tx_jax.runs.metrics_log import MetricsLog
from tx_jax.runs.run_dir import RunDir


@pytest.fixture
def begin(tiny_store):
    def begin(directory, values, data_fingerprint="a"):
        config = from_config_dict(values)
        changes = directory.changes(config, data_fingerprint)
        directory.begin(config, tiny_store.tokenizer(), data_fingerprint)
        return changes

    return begin


def test_the_stored_configuration_reads_back(begin, smoke_config, tmp_path):
    config = from_config_dict(smoke_config)
    directory = RunDir(tmp_path / "run")
    assert begin(directory, smoke_config) == []
    assert directory.load_config() == config
    environment = json.loads((tmp_path / "run/env.json").read_text())
    assert environment["packages"]["jax"]


def test_marks_of_an_earlier_end_are_cleared(begin, smoke_config, tmp_path):
    directory = RunDir(tmp_path)
    directory.failed("reason")
    assert (tmp_path / "FAILED").read_text() == "reason\n"
    begin(directory, smoke_config)
    assert not (tmp_path / "FAILED").exists()


def test_a_conflicting_resume_is_refused_with_the_differing_keys(begin, smoke_config, tmp_path):
    directory = RunDir(tmp_path)
    begin(directory, smoke_config)
    (tmp_path / "checkpoints/5").mkdir(parents=True)
    smoke_config.model.dim = 64
    smoke_config.model.num_heads = 4
    with pytest.raises(InputError, match=r"model\.dim: 32 -> 64; model\.num_heads: 2 -> 4.*--workdir"):
        begin(directory, smoke_config)
    assert directory.load_config().model.dim == 32


def test_a_harmless_change_is_reported(begin, smoke_config, tmp_path):
    directory = RunDir(tmp_path)
    begin(directory, smoke_config)
    (tmp_path / "checkpoints/5").mkdir(parents=True)
    smoke_config.training.num_steps = 30
    assert begin(directory, smoke_config) == ["training.num_steps: 20 -> 30"]


def test_what_changes_neither_arrays_nor_data_may_differ(begin, smoke_config, tmp_path):
    directory = RunDir(tmp_path)
    begin(directory, smoke_config)
    (tmp_path / "checkpoints/5").mkdir(parents=True)
    smoke_config.data.store = "elsewhere"
    smoke_config.model.remat = "block"
    changes = begin(directory, smoke_config)
    assert [line.partition(":")[0] for line in changes] == ["data.store", "model.remat"]


@pytest.mark.parametrize(
    ("saved", "phases", "fits"),
    [
        (10, {"steps": (15, 5)}, True),  # the first phase goes on for longer
        (10, {"steps": (12, 8), "batch_size": (8, 4)}, True),  # the second has not begun
        (12, {"steps": (12, 8), "batch_size": (8, 4)}, True),
        (13, {"steps": (12, 8), "batch_size": (8, 4)}, False),
        (10, {"steps": (12, 8), "batch_size": (4, 8)}, False),
        (10, {"steps": (9, 11)}, False),
        (10, {"steps": ()}, True),
        (13, {"steps": ()}, False),
    ],
)
def test_only_phases_that_have_not_begun_may_change(begin, smoke_config, tmp_path, saved, phases, fits):
    directory = RunDir(tmp_path)
    smoke_config.phases.steps = (12, 8)
    begin(directory, smoke_config)
    (tmp_path / f"checkpoints/{saved}").mkdir(parents=True)
    smoke_config.phases.update(phases)
    if fits:
        assert all(line.startswith("phases.") for line in begin(directory, smoke_config))
    else:
        with pytest.raises(InputError, match=r"a different configuration: phases\."):
            begin(directory, smoke_config)


@pytest.mark.parametrize(
    ("saved", "old", "new", "step"),
    [
        (10, "", "11-20", None),
        (10, "", "10-20", 10),
        (10, "3", "3,12", None),
        (10, "3", "3,11", 10),  # the tenth step took batch 11
        (10, "3", "", 3),
        (10, "3-4", "3,4", None),
        (14, "", "13", 13),  # the second phase has begun, at batch 13
        (14, "", "15", None),
    ],
)
def test_only_batches_that_were_not_taken_may_be_left_out(begin, smoke_config, tmp_path, saved, old, new, step):
    directory = RunDir(tmp_path)
    smoke_config.phases.steps = (12, 8)
    smoke_config.data.skip_batches = old
    begin(directory, smoke_config)
    (tmp_path / f"checkpoints/{saved}").mkdir(parents=True)
    smoke_config.data.skip_batches = new
    if step is None:
        assert begin(directory, smoke_config) == [f"data.skip_batches: {old!r} -> {new!r}"]
    else:
        with pytest.raises(InputError, match=rf"step {step} a batch other than .* the newest is of step {saved}"):
            begin(directory, smoke_config)


def test_a_run_from_before_there_were_phases_continues_into_one(begin, smoke_config, tmp_path):
    directory = RunDir(tmp_path)
    begin(directory, smoke_config)
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["phases"]
    (tmp_path / "config.json").write_text(json.dumps(stored))
    (tmp_path / "checkpoints/12").mkdir(parents=True)
    smoke_config.phases.update(steps=(12, 8), batch_size=(8, 4))
    assert begin(directory, smoke_config) == ["phases.batch_size: () -> (8, 4)", "phases.steps: () -> (12, 8)"]


def test_git_need_not_be_installed(begin, smoke_config, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    begin(RunDir(tmp_path / "run"), smoke_config)
    assert json.loads((tmp_path / "run/env.json").read_text())["revision"] is None


def test_without_a_checkpoint_the_configuration_may_change(begin, smoke_config, tmp_path):
    directory = RunDir(tmp_path)
    begin(directory, smoke_config)
    smoke_config.model.dim = 64
    begin(directory, smoke_config)
    assert directory.load_config().model.dim == 64


def test_other_data_is_refused_and_the_tokenizer_is_kept(begin, smoke_config, tiny_store, tmp_path):
    directory = RunDir(tmp_path)
    begin(directory, smoke_config, "a")
    assert directory.load_tokenizer().fingerprint == tiny_store.tokenizer().fingerprint
    (tmp_path / "checkpoints/5").mkdir(parents=True)
    begin(directory, smoke_config, "a")
    with pytest.raises(InputError, match="is not what"):
        begin(directory, smoke_config, "b")


@pytest.mark.parametrize("content", [None, "{", '{"seed": 0}'])
def test_what_is_no_run_directory_is_an_input_error(tmp_path, content):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError):
        RunDir(tmp_path).load_config()


def test_resuming_drops_later_records_and_a_line_cut_short(tmp_path):
    with MetricsLog(tmp_path, start_step=0) as log:
        for step in range(1, 6):
            log.write(step, "train", {"loss": 1.0 / step})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "spl')
    with MetricsLog(tmp_path, start_step=3) as log:
        log.write(4, "train", {"loss": 9.0})
    records = metrics_log.read(tmp_path)
    assert [r["step"] for r in records] == [1, 2, 3, 4]
    assert records[-1]["loss"] == 9.0
    path = tmp_path / "metrics.jsonl"
    path.write_text("?\n" + path.read_text())
    with pytest.raises(InputError, match=r"metrics\.jsonl, line 1 is damaged"):
        metrics_log.read(tmp_path)
    assert list((tmp_path / "tb").iterdir())


HOLDER = """
import sys, time
from pathlib import Path
from tx_jax.runs.run_dir import RunDir
with RunDir(Path(sys.argv[1])).lock():
    print("held", flush=True)
    time.sleep(60)
"""


def test_two_processes_never_train_in_one_directory_and_a_kill_frees_it(tmp_path):
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=rf"process {holder.pid} on .* is training in"), RunDir(tmp_path).lock():
            pass
    finally:
        holder.kill()
        holder.communicate()
    with RunDir(tmp_path).lock():
        assert (tmp_path / "LOCK").read_text().startswith(f"{os.getpid()} on ")


def test_an_address_that_path_has_changed_is_no_run_directory():
    with pytest.raises(InputError, match=r"workdir=gs:/bucket/run: write gs:// with two slashes"):
        RunDir(Path("gs://bucket/run"))

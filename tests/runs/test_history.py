"""A run directory tells what really ran; a start that trains nothing leaves it as it is."""

import json
import os

import pytest

from tests.training.test_loop import Silent, accident, train
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.files import replace_folder
from tx_jax.runs import history
from tx_jax.runs.run_dir import RunDir


@pytest.fixture
def small(smoke_config):
    smoke_config.model.num_layers = 1
    smoke_config.training.update(num_steps=4, log_every=1, eval_every=0, eval_batches=1, checkpoint_every=2)
    return smoke_config


def content(workdir):
    """Every file but the lock, which holds the number of the process."""
    return {
        path.relative_to(workdir): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in workdir.rglob("*")
        if path.is_file() and path.name != "LOCK"
    }


def ranges(workdir):
    return [(record["after_step"], record["to_step"]) for record in history.read(workdir)]


@pytest.mark.long
def test_two_rates_and_a_third_that_trains_nothing(small, tiny_store, tmp_path):
    small.optimizer.learning_rate = 1e-4
    train(small, tiny_store, tmp_path)
    small.optimizer.learning_rate, small.training.num_steps = 2e-4, 8
    train(small, tiny_store, tmp_path)
    before = content(tmp_path)
    assert (tmp_path / "DONE").read_text() == "step 8\n"
    small.optimizer.learning_rate, small.training.num_steps = 3e-4, 6
    display = Silent()
    train(small, tiny_store, tmp_path, display)
    assert display.started[0] == 8
    assert content(tmp_path) == before
    assert json.loads((tmp_path / "config.json").read_text())["optimizer"]["learning_rate"] == 2e-4
    first, second = history.read(tmp_path)
    assert ranges(tmp_path) == [(0, 4), (4, 8)]
    assert first["config"]["optimizer"]["learning_rate"] == 1e-4
    assert first["changes"] == []
    assert second["changes"] == [
        "optimizer.learning_rate: 0.0001 -> 0.0002",
        "training.num_steps: 4 -> 8",
    ]
    assert {"command", "revision", "started", "packages", "devices"} <= set(second)


def test_the_same_command_again_and_a_refused_one_change_nothing(small, tiny_store, tmp_path):
    train(small, tiny_store, tmp_path)
    before = content(tmp_path)
    train(small, tiny_store, tmp_path)
    assert content(tmp_path) == before
    small.mesh.tensor = 3
    with pytest.raises(InputError, match=r"mesh\.tensor=3"):
        train(small, tiny_store, tmp_path)
    small.mesh.tensor = 1
    small.training.num_steps, small.seed = 8, 5
    with pytest.raises(InputError, match="seed"):
        train(small, tiny_store, tmp_path)
    assert content(tmp_path) == before


def test_a_kill_before_the_mark_is_mended_by_the_same_command(small, tiny_store, tmp_path):
    train(small, tiny_store, tmp_path)
    (tmp_path / "DONE").unlink()
    train(small, tiny_store, tmp_path)
    assert (tmp_path / "DONE").read_text() == "step 4\n"


def test_steps_taken_anew_belong_to_the_later_start(small, tiny_store, tmp_path):
    small.training.update(num_steps=8, keep_last=9)
    with pytest.raises(Exception, match="power cut"):
        train(small, tiny_store, tmp_path, Silent(at=5, action=accident))
    assert ranges(tmp_path) == [(0, None)]  # up to the newest checkpoint
    small.optimizer.learning_rate = 2e-4
    train(small, tiny_store, tmp_path)
    assert ranges(tmp_path) == [(0, 4), (4, 8)]


def test_records_whose_steps_are_gone_have_none(tmp_path, smoke_config):
    from tx_jax.config import from_config_dict, to_dict

    config = to_dict(from_config_dict(smoke_config))
    for after, reached in ((0, 8), (8, 12), (3, None), (3, None)):
        history.begin(tmp_path, after, config, {"revision": "a"}, None)
        if reached:
            history.reached(tmp_path, reached)
    assert ranges(tmp_path) == [(0, 3), (8, 8), (3, 3), (3, None)]
    assert ["config" in record for record in history.read(tmp_path)] == [True, False, False, False]


def test_a_run_from_before_gets_a_history(small, tiny_store, tmp_path):
    train(small, tiny_store, tmp_path)
    (tmp_path / "history.jsonl").unlink()
    small.training.num_steps = 6
    train(small, tiny_store, tmp_path)
    before, new = history.read(tmp_path)
    assert before["before"] == "as config.json said"
    assert before["config"]["training"]["num_steps"] == 4
    assert ranges(tmp_path) == [(0, 4), (4, 6)]
    assert new["changes"] == ["training.num_steps: 4 -> 6"]


def test_a_damaged_history_is_said_before_any_step(small, tiny_store, tmp_path):
    train(small, tiny_store, tmp_path)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write("{\n")
    before = content(tmp_path)
    small.training.num_steps = 6
    with pytest.raises(InputError, match=r"history.jsonl, line 2 is damaged"):
        train(small, tiny_store, tmp_path)
    assert content(tmp_path) == before


def test_the_tokenizer_is_written_once_and_mended_where_it_is_damaged(small, tiny_store, tmp_path):
    directory, tokenizer = RunDir(tmp_path), tiny_store.tokenizer()

    def begin():
        directory.begin(from_config_dict(small), tokenizer, "a")

    begin()
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "tokenizer").iterdir()}
    begin()
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "tokenizer").iterdir()} == before
    (tmp_path / "tokenizer/vocab.txt").write_text("[PAD]\n[UN")
    begin()
    assert directory.load_tokenizer().fingerprint == tokenizer.fingerprint
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tokenizer")] == ["tokenizer"]


@pytest.mark.parametrize("killed_at", ["tokenizer.old", "tokenizer"])
def test_a_tokenizer_whose_replacing_was_killed_is_whole_after_the_next_start(
    small, tiny_store, tmp_path, monkeypatch, killed_at
):
    directory, tokenizer, replace = RunDir(tmp_path), tiny_store.tokenizer(), os.replace
    directory.begin(from_config_dict(small), tokenizer, "a")
    (tmp_path / "tokenizer/vocab.txt").write_text("[PAD]\n[UN")

    def killed(source, target):
        replace(source, target)
        if target.name == killed_at:
            raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        directory.begin(from_config_dict(small), tokenizer, "a")
    monkeypatch.undo()
    assert (tmp_path / "tokenizer.old").is_dir()
    directory.begin(from_config_dict(small), tokenizer, "a")
    assert directory.load_tokenizer().fingerprint == tokenizer.fingerprint
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tokenizer")] == ["tokenizer"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "folder"
    replace_folder(folder, lambda new: (new / "a").write_text("first"))

    def breaks(new):
        (new / "a").write_text("sec")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        replace_folder(folder, breaks)
    assert (folder / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    replace_folder(folder, lambda new: (new / "b").write_text("second"))
    assert [path.name for path in folder.iterdir()] == ["b"]
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]

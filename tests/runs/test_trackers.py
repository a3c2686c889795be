"""Trackers of experiments, with modules that stand in for the packages: none of them stops a training."""

import importlib.util
import json
import logging
import subprocess
import sys
import threading
import time
import types

import pytest

from tests import programs
from tests.training.test_loop import Silent
from tx_jax.config import from_config_dict, to_dict
from tx_jax.config.training import TRACKERS
from tx_jax.errors import InputError
from tx_jax.runs import trackers
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training import loop


class Package(types.ModuleType):
    """wandb and trackio in one: keeps what it is told by the id of the run, and may fail or hang at a call."""

    def __init__(self, name):
        super().__init__(name)
        self.runs, self.fails, self.hangs, self.summary, self.threads = {}, "", "", {}, set()

    def Settings(self, **values):
        return values

    def login(self, prompt):
        return False

    def init(self, *, name, id=None, **given):
        self._come_by("init")
        self.given = given
        self.current = self.runs.setdefault(id or name, [])
        return self

    def define_metric(self, name, step_metric):
        assert (name, step_metric) == ("*", "step")

    def log(self, values, step=None):
        self._come_by("log")
        self.current.append(values)

    def finish(self, exit_code=None):
        self._come_by("finish")
        self.code = exit_code

    def _come_by(self, call):
        self.threads.add(threading.current_thread())
        if self.fails == call:
            raise ConnectionError("no network\nhere")
        if self.hangs == call:
            time.sleep(60)


@pytest.fixture
def packages(monkeypatch):
    made = {name: Package(name) for name in trackers.TRACKERS}
    for name, package in made.items():
        monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setattr(trackers, "left_behind", False)
    return made


@pytest.fixture
def train(smoke_config, tiny_store, tmp_path):
    def run(num_steps):
        names = tuple(trackers.TRACKERS)
        smoke_config.model.num_layers = 1
        smoke_config.training.update(num_steps=num_steps, log_every=1, eval_every=0, eval_batches=1)
        smoke_config.training.update(checkpoint_every=2, keep_best=0, trackers=names)
        config = from_config_dict(smoke_config)
        with trackers.tracking(names) as tracking:
            result = loop.train(config, MaskedLM(config, tiny_store), tmp_path / "run", Silent(), tracking=tracking)
            tracking.summarize(tmp_path / "run", result)
        return config

    return run


def test_every_tracker_is_known_to_the_configuration():
    assert set(trackers.TRACKERS) == set(TRACKERS)


def test_a_run_that_goes_on_is_one_run_with_all_its_records(packages, train, tmp_path):
    train(num_steps=2)
    packages["trackio"].fails = "log"  # which must not stop the other, nor the training
    config = train(num_steps=4)
    assert (tmp_path / "run/DONE").exists()
    package, kept = packages["wandb"], json.loads((tmp_path / "run/trackers.json").read_text())
    ((id_, records),) = package.runs.items()
    assert id_ == kept["wandb"]["id"]
    assert list(packages["trackio"].runs) == [f"run-{kept['trackio']['id']}"]
    log = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    losses = [(record["step"], record["train/loss"]) for record in records if "train/loss" in record]
    assert losses == [(record["step"], record["loss"]) for record in log if record["split"] == "train"]
    assert [step for step, _ in losses] == [1, 2, 3, 4]
    assert package.given["config"] == to_dict(config)
    assert package.given["resume"] == "allow"
    assert "masked_lm_loss" in package.summary
    assert threading.main_thread() not in package.threads
    assert package.code == 0
    assert not trackers.left_behind


def track(name, folder):
    """A run of one record, without a training."""
    with trackers.tracking((name,)) as tracking:
        tracking.begin(folder, {})
        tracking.log(1, {"train/loss": 1.0})
        tracking.summarize(folder, {"validation/loss": 1.0, "none": float("nan")})


def test_results_come_last(packages, tmp_path):
    track("wandb", tmp_path)
    track("trackio", tmp_path)
    assert packages["wandb"].summary == {"validation/loss": 1.0}
    assert packages["trackio"].current == [{"step": 1, "train/loss": 1.0}, {"summary/validation/loss": 1.0}]
    with trackers.tracking(("wandb",)) as tracking:  # a run that had ended, and is evaluated only now
        tracking.summarize(tmp_path, {"test/loss": 2.0})
    assert len(packages["wandb"].runs) == 1
    assert packages["wandb"].summary == {"validation/loss": 1.0, "test/loss": 2.0}


@pytest.mark.parametrize("name", trackers.TRACKERS)
@pytest.mark.parametrize("call", ["init", "log", "finish"])
def test_one_that_raises_stops_nothing(packages, tmp_path, caplog, name, call):
    packages[name].fails = call
    with caplog.at_level(logging.INFO, "tx_jax"):
        track(name, tmp_path)
    told = [record.message for record in caplog.records if "tracker" in record.message]
    assert told == [
        f"warning: the tracker {name} fails (ConnectionError: no network here): training continues without it"
    ]


@pytest.mark.parametrize("name", trackers.TRACKERS)
@pytest.mark.parametrize("call", ["init", "finish"])
def test_one_that_hangs_is_left_behind(packages, tmp_path, caplog, monkeypatch, name, call):
    monkeypatch.setattr(trackers, "FINISH_SECONDS", 0.2)
    packages[name].hangs = call
    began = time.monotonic()
    with caplog.at_level(logging.INFO, "tx_jax"):
        track(name, tmp_path)
    assert time.monotonic() - began < 50
    assert "does not come to its end" in caplog.text
    assert trackers.left_behind


def test_a_process_that_a_package_keeps_from_ending_ends():
    program = (
        "import atexit, sys, time, types; atexit.register(time.sleep, 60)\n"
        "sys.modules['tx_jax.runs.trackers'] = types.SimpleNamespace(left_behind=True)\n"
        "from experiments import command_line; command_line.run(lambda argv: print('the end') or 75)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (75, "the end\n")


def test_other_processes_than_the_first_have_none(tmp_path):
    with trackers.tracking(()) as tracking:
        tracking.begin(tmp_path, {})
        tracking.log(1, {"loss": 1.0})
        tracking.summarize(tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_what_is_not_installed_is_told_before_any_work(tmp_path, monkeypatch):
    installed = importlib.util.find_spec("wandb") is not None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"training.trackers: wandb is not installed: pip install -e \"\.\[wandb\]\""):
        trackers.check_installed(("wandb",))
    arguments = ["--config=configs/bert_base.py:smoke", f"--workdir={tmp_path / 'run'}"]
    cases = {"('wandbb',)": "Did you mean 'wandb'?"} | ({} if installed else {"('wandb',)": "wandb is not installed"})
    for given, said in cases.items():
        done = programs.run("experiments.train", *arguments, f"--config.training.trackers={given}")
        assert done.returncode == 2
        assert said in done.stderr
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "run").exists()

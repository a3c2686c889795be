"""The loop in one process: resume, stop, failure. Kills are tested with the entry points."""

import errno
import json
import os
import shutil
import signal
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax import sharding
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.hosts.stopping import StopRequest
from tx_jax.models import registry
from tx_jax.runs import manifest, metrics_log, plots
from tx_jax.runs.checkpoint import Checkpoints, SaveFailed
from tx_jax.tasks.base import WeightedSum
from tx_jax.tasks.masked_lm import MaskedLM, MaskedLMObjective
from tx_jax.training import loop, recorder
from tx_jax.training.recorder import NonFiniteLossError


class Silent:
    """A display that remembers, and may do something at a step."""

    def __init__(self, at=None, action=None):
        self.at, self.action, self.started, self.steps = at, action, None, []

    def start(self, run, start_step, changes):
        self.started = (start_step, changes)

    def pace(self, start, step, seconds):
        self.paced = (start, step, seconds)

    def train(self, step, values):
        self.steps.append(step)
        if step == self.at:
            self.action()

    def evaluation(self, step, values):
        self.last = (step, values)


@pytest.fixture
def small(smoke_config):
    smoke_config.model.num_layers = 1
    smoke_config.training.num_steps = 8
    smoke_config.training.log_every = 1
    smoke_config.training.eval_every = 4
    smoke_config.training.checkpoint_every = 3
    return smoke_config


def train(c, store, workdir, display=None):
    config = from_config_dict(c)
    return loop.train(config, MaskedLM(config, store), workdir, display or Silent())


def losses(workdir, split="train"):
    return {
        r["step"]: r["loss" if split == "train" else "masked_lm_loss"]
        for r in metrics_log.read(workdir)
        if r["split"] == split
    }


class Accident(Exception):
    pass


def accident():
    raise Accident("power cut")


@pytest.fixture
def uninterrupted(small, tiny_store, tmp_path):
    train(small, tiny_store, tmp_path / "whole")
    return losses(tmp_path / "whole")


def test_a_whole_run_leaves_its_story(small, tiny_store, tmp_path):
    display = Silent()
    result = train(small, tiny_store, tmp_path, display)
    assert display.started == (0, [])
    assert display.last == (8, result)
    assert sorted(losses(tmp_path)) == list(range(1, 9))
    assert sorted(losses(tmp_path, "validation")) == [4, 8]
    assert (tmp_path / "DONE").read_text() == "step 8\n"
    assert json.loads((tmp_path / "config.json").read_text())["training"]["num_steps"] == 8
    assert sorted(int(p.name) for p in (tmp_path / "checkpoints").iterdir() if p.name.isdigit()) == [6, 8]
    assert {"tokens_per_second", "data_wait_share", "gradient_norm"} <= set(metrics_log.read(tmp_path)[-2])
    assert plots.draw_curves(tmp_path).stat().st_size > 10_000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_request_notes_the_first_signal_and_gives_back_the_handlers(number):
    before = signal.getsignal(number)
    with StopRequest() as stop:
        os.kill(os.getpid(), number)
        assert stop.name == number.name
        assert signal.getsignal(number) is before  # a second one acts as usual
    assert signal.getsignal(number) is before


def test_a_signal_saves_and_the_resumed_losses_are_bitwise_equal(small, tiny_store, tmp_path, uninterrupted):
    stopping = Silent(at=5, action=lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(loop.Stopped, match="SIGTERM"):
        train(small, tiny_store, tmp_path / "run", stopping)
    assert not (tmp_path / "run/DONE").exists()
    assert not (tmp_path / "run/FAILED").exists()
    resumed = Silent()
    train(small, tiny_store, tmp_path / "run", resumed)
    assert resumed.started[0] == 6  # step 5 is read while step 6 runs
    assert losses(tmp_path / "run") == uninterrupted


class StopAt(StopRequest):
    """Due when it is asked for the nth time, as by a signal at that moment."""

    def __init__(self, number):
        super().__init__()
        self.left = number

    def due(self):
        self.left -= 1
        self.name = "SIGTERM" if self.left <= 0 else None
        return self.left <= 0


def test_an_evaluation_that_is_cut_short_comes_first_after_the_resume(small, tiny_store, tmp_path, uninterrupted):
    """The loop asks at the end of each of the steps 1 to 3, and in the evaluation at step 4 before each batch."""
    config = from_config_dict(small)
    display = Silent()
    with pytest.raises(loop.Stopped, match="after step 4"):
        loop.train(config, MaskedLM(config, tiny_store), tmp_path / "run", display, stop=StopAt(5))
    assert losses(tmp_path / "run", "validation") == {}
    with pytest.raises(loop.Stopped, match="after step 4"):  # once more, before that evaluation is over
        loop.train(config, MaskedLM(config, tiny_store), tmp_path / "run", display, stop=StopAt(2))
    with pytest.raises(Accident):  # after that evaluation, and before another checkpoint
        train(small, tiny_store, tmp_path / "run", Silent(at=5, action=accident))
    train(small, tiny_store, tmp_path / "run")
    assert losses(tmp_path / "run") == uninterrupted
    for split in ("train", "validation"):
        assert losses(tmp_path / "run", split) == losses(tmp_path / "whole", split)
    steps = [record["step"] for record in metrics_log.read(tmp_path / "run") if record["split"] == "validation"]
    assert steps == [4, 8]


def test_the_log_is_on_disk_before_a_checkpoint_takes_its_name(small, tiny_store, tmp_path, monkeypatch):
    log, sync, write, synced, found = tmp_path / "metrics.jsonl", os.fsync, manifest.write, [0], {}

    def noted(descriptor):
        sync(descriptor)
        if log.exists() and os.path.samestat(os.fstat(descriptor), log.stat()):
            synced.append(len(losses(tmp_path)))

    def check(directory):
        write(directory)
        found[int(directory.name.partition(".")[0])] = synced[-1]

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(manifest, "write", check)
    train(small, tiny_store, tmp_path)
    assert list(found) == [3, 6, 8]
    assert all(steps >= step for step, steps in found.items())


def test_training_in_two_goes_equals_one(small, tiny_store, tmp_path, uninterrupted):
    """The schedule depends on num_steps, so the first go is cut by an error, not by a smaller num_steps."""
    with pytest.raises(Accident):
        train(small, tiny_store, tmp_path / "run", Silent(at=5, action=accident))
    assert (tmp_path / "run/FAILED").read_text() == "Accident: power cut\n"
    resumed = Silent()
    train(small, tiny_store, tmp_path / "run", resumed)
    assert resumed.started[0] == 3
    assert losses(tmp_path / "run") == uninterrupted
    assert (tmp_path / "run/DONE").exists()
    assert not (tmp_path / "run/FAILED").exists()


@pytest.mark.long
def test_a_replay_without_some_batches_resumes_bitwise(small, tiny_store, tmp_path, uninterrupted):
    """As after a spike at step 5: back to step 3, and on without batches 4 and 5."""
    small.training.keep_last = 9
    train(small, tiny_store, tmp_path / "run")
    small.data.skip_batches = "4-5"
    with pytest.raises(InputError, match="gives step 4 a batch other than 4"):
        train(small, tiny_store, tmp_path / "run")
    for step in (6, 8):
        shutil.rmtree(tmp_path / f"run/checkpoints/{step}")
    replay = Silent()
    train(small, tiny_store, tmp_path / "run", replay)
    assert replay.started == (3, ["data.skip_batches: '' -> '4-5'"])
    train(small, tiny_store, tmp_path / "skipping")
    assert losses(tmp_path / "run") == losses(tmp_path / "skipping")
    assert [step for step, loss in losses(tmp_path / "run").items() if loss == uninterrupted[step]] == [1, 2, 3]


def test_a_finished_run_is_only_evaluated(small, tiny_store, tmp_path):
    first = train(small, tiny_store, tmp_path)
    again = Silent()
    assert train(small, tiny_store, tmp_path, again) == first
    assert again.steps == []


def test_a_save_that_fails_ends_the_run_at_the_next_step_with_what_was_saved_intact(
    small, tiny_store, tmp_path, monkeypatch
):
    """The disk fills at the second checkpoint, at step 6 of 60; the loop waits until that is known, then goes on."""
    small.training.num_steps, small.training.eval_every = 60, 0
    display, write, save, wait = Silent(), manifest.write, Checkpoints.save, []

    def full(directory):
        if directory.name.startswith("6."):
            raise OSError(errno.ENOSPC, "No space left on device")
        write(directory)

    def save_and_linger(self, state, *arguments, **notes):
        save(self, state, *arguments, **notes)
        wait.append(int(state.step))
        while self._manager.is_saving_in_progress():
            time.sleep(0.01)

    monkeypatch.setattr(manifest, "write", full)
    monkeypatch.setattr(Checkpoints, "save", save_and_linger)
    with pytest.raises(SaveFailed, match=r"/6 could not be written: No space left.*needs [\d,]+ bytes.*intact: \[3\]"):
        train(small, tiny_store, tmp_path, display)
    assert wait == [3, 6]
    assert display.steps[-1] <= 7
    assert "No space left" in (tmp_path / "FAILED").read_text()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["3"]
    monkeypatch.setattr(manifest, "write", write)
    small.training.num_steps = 8
    resumed = Silent()
    train(small, tiny_store, tmp_path, resumed)
    assert resumed.started[0] == 3


@pytest.mark.parametrize(("what", "limit"), [("loss", 0), ("gradient", 0), ("loss", 2)])
def test_what_is_not_finite_ends_the_run_before_it_is_saved(small, tiny_store, tmp_path, what, limit):
    """The parameters move a little at every step; once they have moved past a bound, training breaks."""
    small.training.max_skipped_updates = limit
    small.training.checkpoint_every = 1
    config = from_config_dict(small)

    class Exploding(MaskedLM):
        class objective_class(MaskedLMObjective):
            def metrics(self, params, batch, *, dropout_rng):
                metrics = super().metrics(params, batch, dropout_rng=dropout_rng)
                if dropout_rng is None:
                    return metrics
                bias = params["masked_lm"]["bias"]
                moved = abs(bias).max() > 3e-5
                loss = metrics["masked_lm_loss"]
                if what == "loss":
                    total = loss.total / (1 - moved)
                else:  # the square root of zero: finite, with an infinite slope
                    total = loss.total + jnp.sqrt(jnp.where(moved, bias[0] - jax.lax.stop_gradient(bias[0]), 1.0))
                return metrics | {"masked_lm_loss": WeightedSum(total, loss.weight)}

    with pytest.raises(NonFiniteLossError, match="step"):
        loop.train(config, Exploding(config, tiny_store), tmp_path, Silent())
    assert ("as in the previous 2 steps" in (tmp_path / "FAILED").read_text()) == (limit == 2)
    target = sharding.with_sharding(sharding.make_mesh(config.mesh), registry.param_shapes(config.model))
    with Checkpoints(tmp_path / "checkpoints", read_only=True) as checkpoints:
        saved = checkpoints.steps()
        assert saved
        for step in saved:
            params = checkpoints.restore_params(step, target)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params))


@pytest.mark.long
def test_with_frozen_parameters_it_resumes_bitwise_and_only_with_the_same_ones(
    small, tiny_store, tmp_path, monkeypatch
):
    monkeypatch.setattr(recorder, "model_flops_utilization", lambda *_: 0.5)
    small.optimizer.frozen, small.optimizer.layer_decay = ("^embeddings/",), 0.5
    train(small, tiny_store, tmp_path / "whole")
    with pytest.raises(Accident):
        train(small, tiny_store, tmp_path / "run", Silent(at=5, action=accident))
    small.optimizer.frozen = ("^embeddings/token/",)
    with pytest.raises(InputError, match=r"a different configuration: optimizer.frozen: \('\^embeddings/',\) -> "):
        train(small, tiny_store, tmp_path / "run")
    small.optimizer.frozen = ("^embeddings/",)
    resumed = Silent()
    train(small, tiny_store, tmp_path / "run", resumed)
    assert resumed.started == (3, [])
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
    # The utilization would count work that was not done.
    assert not [record for record in metrics_log.read(tmp_path / "run") if "mfu" in record]


@pytest.mark.parametrize(
    ("group", "key", "value", "said"),
    [
        ("optimizer", "rate_scale", ("^poolr/=2",), "Did you mean 'pooler'"),
        ("training", "best_metric", "masked_lm_los", "Did you mean 'masked_lm_loss'"),
        ("mesh", "tensor", 3, "mesh.tensor=3"),
    ],
)
def test_bad_input_leaves_a_finished_run_as_it_is(small, tiny_store, tmp_path, group, key, value, said):
    train(small, tiny_store, tmp_path)
    before = (tmp_path / "config.json").read_text()
    small[group][key] = value
    with pytest.raises(InputError, match=said):
        train(small, tiny_store, tmp_path)
    assert (tmp_path / "config.json").read_text() == before
    assert (tmp_path / "DONE").exists()
    assert not (tmp_path / "FAILED").exists()

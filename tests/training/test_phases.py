"""Training in phases: one schedule, one chain of checkpoints, and the same numbers after any interruption."""

import types

import numpy as np
import pytest

from tests.training.test_loop import Silent, losses, train
from tx_jax import sharding
from tx_jax.config import from_config_dict
from tx_jax.data.loader import phase_seed
from tx_jax.errors import InputError
from tx_jax.runs import metrics_log
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.tasks.masked_lm import MaskedLM, MaskedLMObjective
from tx_jax.training import loop, recorder
from tx_jax.training import run as run_module
from tx_jax.training import step as step_module
from tx_jax.training.optimizer import make_schedule


@pytest.fixture
def phased(smoke_config):
    """Five steps of 8 x 16 and five of 4 x 32."""
    c = smoke_config
    c.model.num_layers = 1
    c.training.update(num_steps=10, log_every=1, eval_every=0, checkpoint_every=4)
    c.phases.update(steps=(5, 5), sequence_length=(16, 32), max_predictions=(3, 5), batch_size=(8, 4))
    return c


@pytest.fixture
def whole(phased, tiny_store, tmp_path):
    train(phased, tiny_store, tmp_path / "whole")
    return losses(tmp_path / "whole")


def build(c, store, path):
    config = from_config_dict(c)
    with Checkpoints(path) as checkpoints:
        return loop.build(config, MaskedLM(config, store), checkpoints)


class Accident(Exception):
    pass


def accident():
    raise Accident


@pytest.mark.parametrize("at", [pytest.param(3, marks=pytest.mark.long), 7, pytest.param(9, marks=pytest.mark.long)])
def test_resuming_in_any_phase_gives_bitwise_the_same_losses(phased, tiny_store, tmp_path, whole, at):
    """Checkpoints at 4 and 8: from the start, from the first phase into the second, and inside the second."""
    with pytest.raises(Accident):
        train(phased, tiny_store, tmp_path / "run", Silent(at=at, action=accident))
    resumed = Silent()
    train(phased, tiny_store, tmp_path / "run", resumed)
    assert resumed.started[0] == {3: 0, 7: 4, 9: 8}[at]
    assert losses(tmp_path / "run") == whole


@pytest.mark.long
def test_a_checkpoint_may_lie_on_the_boundary(phased, tiny_store, tmp_path, whole):
    phased.training.checkpoint_every = 5
    with pytest.raises(Accident):
        train(phased, tiny_store, tmp_path / "run", Silent(at=7, action=accident))
    resumed = Silent()
    train(phased, tiny_store, tmp_path / "run", resumed)
    assert resumed.started[0] == 5
    assert losses(tmp_path / "run") == whole


def test_one_schedule_runs_through_all_phases(phased, tiny_store, tmp_path, whole):
    config = from_config_dict(phased)
    schedule = make_schedule(config.optimizer, 10)
    rates = [r["learning_rate"] for r in metrics_log.read(tmp_path / "whole") if r["split"] == "train"]
    np.testing.assert_allclose(rates, [float(schedule(step)) for step in range(10)], rtol=1e-6)


@pytest.mark.long
def test_one_phase_of_all_the_steps_is_no_phases(phased, tiny_store, tmp_path):
    phased.phases.steps = ()
    train(phased, tiny_store, tmp_path / "none")
    phased.phases.update(steps=(10,), sequence_length=(), max_predictions=(), batch_size=())
    train(phased, tiny_store, tmp_path / "one")
    assert losses(tmp_path / "one") == losses(tmp_path / "none")


def test_the_step_is_compiled_once_a_shape(phased, tiny_store, tmp_path):
    phased.phases.update(steps=(3, 4, 3), sequence_length=(16, 32, 16), max_predictions=(), batch_size=(8, 4, 8))
    config, shapes = from_config_dict(phased), []

    class Counting(MaskedLM):
        class objective_class(MaskedLMObjective):
            def metrics(self, params, batch, *, dropout_rng):
                shapes.append((batch["tokens"].shape, dropout_rng is not None))
                return super().metrics(params, batch, dropout_rng=dropout_rng)

    loop.train(config, Counting(config, tiny_store), tmp_path, Silent())
    assert [shape for shape, training in shapes if training] == [(8, 16), (4, 32)]


@pytest.mark.long
def test_the_batch_size_warms_up_by_phases(phased, tiny_store, tmp_path):
    phased.phases.update(steps=(2, 3, 5), sequence_length=(), max_predictions=(), batch_size=(2, 4, 8))
    run = build(phased, tiny_store, tmp_path)
    sizes = [len(run.train_batches.batch_at(step)["tokens"]) for step in range(10)]
    assert sizes == [2] * 2 + [4] * 3 + [8] * 5
    assert run.tokens(0, 10) == 32 * sum(sizes)
    assert run.tokens(1, 6) == 32 * sum(sizes[1:6])
    assert np.isfinite(train(phased, tiny_store, tmp_path / "run")["masked_lm_loss"])


def test_each_phase_has_an_order_of_its_own_from_its_first_step_on(phased, tiny_store, tmp_path):
    first, second = build(phased, tiny_store, tmp_path).train_batches.parts
    assert (first.first_step, first.seed) == (0, 0)
    assert (second.first_step, second.seed) == (5, phase_seed(0, 1))


def test_each_phase_has_as_many_parts_of_a_batch_as_it_needs(phased, tiny_store, tmp_path, monkeypatch):
    phased.model.update(dropout=0.0, attention_dropout=0.0)
    train(phased, tiny_store, tmp_path / "whole")
    seen = {}

    def telling(state, batch, rng, *, accumulation_steps, **options):
        seen[batch["tokens"].shape] = accumulation_steps
        return train_step(state, batch, rng, accumulation_steps=accumulation_steps, **options)

    train_step = step_module.train_step
    monkeypatch.setattr(step_module, "train_step", telling)
    phased.phases.accumulation_steps = (1, 2)
    train(phased, tiny_store, tmp_path / "parts")
    assert seen == {(8, 16): 1, (4, 32): 2}
    parts, whole = losses(tmp_path / "parts"), losses(tmp_path / "whole")
    assert parts == pytest.approx(whole, rel=1e-5)


def test_held_out_data_keeps_the_lengths_of_data(phased, tiny_store, tmp_path):
    run = build(phased, tiny_store, tmp_path)
    assert run.validation_batches.batch_at(0)["tokens"].shape == (8, 32)
    assert [run.train_batches.batch_at(step)["tokens"].shape for step in (4, 5)] == [(8, 16), (4, 32)]
    assert run.task.objective.flops_per_token(run.phase_of(5)) != run.task.objective.flops_per_token(run.phase_of(6))


def test_speed_counts_the_tokens_of_the_phase_and_no_compilation(phased, tiny_store, tmp_path, monkeypatch):
    """With a clock that is 1 s on at every look, and 1000 s at every compilation: a step of 8 x 16 tokens takes as many
    looks as one of 8 x 32."""
    phased.phases.batch_size = (8, 8)
    phased.training.checkpoint_every = 0
    now, shapes, jit_train_step = [0.0], set(), run_module.jit_train_step

    def look():
        now[0] += 1
        return now[0]

    def slow_to_compile(*arguments):
        step = jit_train_step(*arguments)

        def run(state, batch, rng):
            now[0] += 0 if batch["tokens"].shape in shapes else 1000
            shapes.add(batch["tokens"].shape)
            return step(state, batch, rng)

        return run

    for module in (loop, recorder):
        monkeypatch.setattr(module, "time", types.SimpleNamespace(perf_counter=look))
    monkeypatch.setattr(run_module, "jit_train_step", slow_to_compile)
    seen = []
    monkeypatch.setattr(recorder, "model_flops_utilization", lambda speed, flops, *devices: seen.append(flops))
    train(phased, tiny_store, tmp_path)
    task, phases = MaskedLM(from_config_dict(phased), tiny_store), from_config_dict(phased).training_phases
    assert seen == [task.objective.flops_per_token(phase) for phase in phases for _ in range(4)]
    records = {r["step"]: r for r in metrics_log.read(tmp_path) if r["split"] == "train"}
    assert [step for step, r in records.items() if "tokens_per_second" not in r] == [1, 6]
    assert records[8]["tokens_per_second"] == 2 * records[3]["tokens_per_second"]
    assert all(r["tokens_per_second"] > 10 for r in records.values() if "tokens_per_second" in r)
    assert all(0 < records[step]["data_wait_share"] < 1 for step in (2, 3, 4, 7, 8, 9))


def test_every_phase_must_fit_the_mesh_and_the_data_before_any_begins(phased, tiny_store, tmp_path, monkeypatch):
    def check(mesh, name, size):
        if size % 4:
            raise InputError(f"{name}={size}")

    monkeypatch.setattr(sharding, "check_batch_size", check)
    phased.phases.batch_size = (8, 6)
    with pytest.raises(InputError, match=r"phases.batch_size / training.accumulation_steps=6"):
        train(phased, tiny_store, tmp_path / "run")
    assert not (tmp_path / "run/config.json").exists()

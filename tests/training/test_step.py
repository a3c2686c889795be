import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax.config import from_config_dict
from tx_jax.tasks.base import Mean
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training.loop import jit_train_step
from tx_jax.training.optimizer import make_optimizer
from tx_jax.training.state import TrainState
from tx_jax.training.step import dropout_key


def run_steps(config, store, steps, accumulation_steps):
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, accumulation_steps=accumulation_steps)
    )
    task = MaskedLM(config, store)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    params = task.init(jax.random.key(0))
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    step = jit_train_step(config, task, optimizer)
    batches = task.batches("train", batch_size=8, repeat=True)
    losses = []
    for i in range(steps):
        state, metrics = step(state, batches.batch_at(i), dropout_key(config.seed))
        losses.append({k: v.value() for k, v in metrics.items()})
    return state, losses


@pytest.fixture
def no_dropout(smoke_config):
    smoke_config.model.dropout = smoke_config.model.attention_dropout = 0.0
    return from_config_dict(smoke_config)


@pytest.mark.parametrize("parts", [2, 8])
def test_accumulation_changes_nothing(no_dropout, tiny_store, parts):
    """Microbatches hold unequal numbers of predictions; dividing per microbatch would differ."""
    whole_state, whole = run_steps(no_dropout, tiny_store, 4, 1)
    parts_state, accumulated = run_steps(no_dropout, tiny_store, 4, parts)
    for a, b in zip(whole, accumulated, strict=True):
        for name, value in a.items():
            np.testing.assert_allclose(b[name], value, rtol=1e-5, err_msg=name)
    for a, b in zip(jax.tree.leaves(whole_state.params), jax.tree.leaves(parts_state.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_microbatches_have_unequal_weights(no_dropout, tiny_store):
    """Else the test above could not fail."""
    batch = MaskedLM(no_dropout, tiny_store).batches("train", batch_size=8, repeat=True).batch_at(0)
    assert len(np.unique(batch["masked_weights"].sum(axis=1))) > 1


def test_dropout_differs_between_steps_and_repeats_for_a_step(smoke_config, tiny_store):
    config = from_config_dict(smoke_config)
    _, first = run_steps(config, tiny_store, 2, 1)
    _, second = run_steps(config, tiny_store, 2, 1)
    assert first == second
    task = MaskedLM(config, tiny_store)
    params = task.init(jax.random.key(0))
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    keys = [jax.random.fold_in(dropout_key(0), step) for step in range(2)]
    losses = [task.metrics(params, batch, dropout_rng=key)["masked_lm_loss"].value() for key in keys]
    assert losses[0] != losses[1]


def test_training_learns(smoke_config, tiny_store):
    smoke_config.optimizer.learning_rate = 3e-3
    _, losses = run_steps(from_config_dict(smoke_config), tiny_store, 20, 1)
    assert losses[-1]["masked_lm_loss"] < losses[0]["masked_lm_loss"] - 0.3
    assert [entry["learning_rate"] for entry in losses[:2]] == pytest.approx([3e-3 / 5, 3e-3 * 2 / 5])


def test_float32_parameters_under_bfloat16_compute(smoke_config, tiny_store):
    smoke_config.model.dtype = "bfloat16"
    state, losses = run_steps(from_config_dict(smoke_config), tiny_store, 2, 1)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert np.isfinite(losses[-1]["loss"])


def test_an_update_that_is_not_finite_changes_nothing_but_the_step(smoke_config, tiny_store):
    """The gradient is infinite at the second step, by its embedding; the state is as if that step had not been."""
    config = from_config_dict(smoke_config)

    class Breaking(MaskedLM):
        def metrics(self, params, batch, *, dropout_rng):
            metrics = super().metrics(params, batch, dropout_rng=dropout_rng)
            loss = metrics["masked_lm_loss"]
            return metrics | {"masked_lm_loss": Mean(loss.total / batch["fine"][0], loss.weight)}

        def loss_weights(self, batch):
            return super().loss_weights({name: value for name, value in batch.items() if name != "fine"})

    task = Breaking(config, tiny_store)
    optimizer = make_optimizer(config.optimizer, config.training.num_steps)
    params = task.init(jax.random.key(0))
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    step, batches = jit_train_step(config, task, optimizer), task.batches("train", batch_size=8, repeat=True)
    seen = []
    for i in range(3):
        before = jax.device_get(state)
        fine = np.full(8, i != 1, np.float32)
        state, metrics = step(state, batches.batch_at(i) | {"fine": fine}, dropout_key(0))
        pairs = zip(*(jax.tree.leaves((s.params, s.opt_state)) for s in (before, state)), strict=True)
        same = [np.array_equal(a, b) for a, b in pairs]
        seen.append((int(state.step), all(same), any(same), metrics["skipped_updates"].value()))
        rate = metrics["learning_rate"].value()
    assert seen == [(1, False, False, 0), (2, True, True, 1), (3, False, False, 1)]
    assert rate == pytest.approx(config.optimizer.learning_rate * 2 / 5)

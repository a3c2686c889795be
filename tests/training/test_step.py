import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tx_jax import tree
from tx_jax.config import from_config_dict
from tx_jax.config.training import SCHEDULING
from tx_jax.nn.dropout import dropout_key
from tx_jax.tasks.base import WeightedSum, total_loss
from tx_jax.tasks.masked_lm import MaskedLM, MaskedLMObjective
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import TrainState, _fresh, abstract_params
from tx_jax.training.step import jit_train_step, train_step


def start(task):
    """A fresh state and the step."""
    optimizer = Optimizer(task.config)
    params = jax.jit(task.objective.init)(jax.random.key(0))
    state = TrainState(jnp.zeros((), jnp.int32), params, optimizer.init(params))
    return state, jit_train_step(task.config, task.objective, optimizer)


def run_steps(config, store, steps, accumulation_steps):
    config = dataclasses.replace(
        config, training=dataclasses.replace(config.training, accumulation_steps=accumulation_steps)
    )
    task = MaskedLM(config, store)
    state, step = start(task)
    batches = task.batches("train", batch_size=8, repeat=True)
    losses = []
    for i in range(steps):
        state, metrics = step(state, batches.batch_at(i), dropout_key(config.seed))
        losses.append({k: v.mean() for k, v in metrics.items()})
    return state, losses


@pytest.fixture
def no_dropout(smoke_config):
    smoke_config.model.dropout = smoke_config.model.attention_dropout = 0.0
    return from_config_dict(smoke_config)


@pytest.mark.parametrize("parts", [2, pytest.param(8, marks=pytest.mark.long)])
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
    params = task.objective.init(jax.random.key(0))
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    keys = [jax.random.fold_in(dropout_key(0), step) for step in range(2)]
    metrics = jax.jit(task.objective.metrics)
    losses = [metrics(params, batch, dropout_rng=key)["masked_lm_loss"].mean() for key in keys]
    assert losses[0] != losses[1]


def test_training_learns(smoke_config, tiny_store):
    smoke_config.optimizer.learning_rate = 3e-3
    _, losses = run_steps(from_config_dict(smoke_config), tiny_store, 20, 1)
    assert losses[-1]["masked_lm_loss"] < losses[0]["masked_lm_loss"] - 0.3
    assert [entry["learning_rate"] for entry in losses[:2]] == pytest.approx([3e-3 / 5, 3e-3 * 2 / 5])


def test_runs_that_compute_the_same_share_what_is_compiled(smoke_config, tiny_store):
    """They differ in all that decides when something happens; then in what is computed."""
    config = from_config_dict(smoke_config)
    other = {"best_metric": "masked_lm_loss", "keep_last": 7, "final_eval_batches": 3, "num_epochs": 0.0}
    changes = {name: other.get(name, 5) for name in SCHEDULING}
    later = dataclasses.replace(config, seed=3, training=dataclasses.replace(config.training, **changes))
    assert later != config
    programs = []
    for each in (config, later):
        objective, optimizer = MaskedLMObjective(each), Optimizer(each)
        programs.append((objective, optimizer, jit_train_step(each, objective, optimizer)))
    (objective, optimizer, step), (later_objective, _, same_step) = programs
    assert objective == later_objective
    assert step is same_step
    batch = MaskedLM(config, tiny_store).batches("train", batch_size=8, repeat=True).batch_at(0)
    state = jax.eval_shape(lambda key: _fresh(objective, optimizer, key), jax.random.key(0))
    of_each = [
        str(
            jax.make_jaxpr(functools.partial(train_step, objective=o, optimizer=a, accumulation_steps=1))(
                state, batch, dropout_key(0)
            )
        )
        for o, a, _ in programs
    ]
    assert of_each[0] == of_each[1]

    longer = dataclasses.replace(config, training=dataclasses.replace(config.training, num_steps=99))
    assert jit_train_step(longer, MaskedLMObjective(longer), Optimizer(longer)) is not step


def test_a_state_can_be_made_on_one_mesh_after_another(smoke_config):
    """What was traced on the first belongs to it: on the second it would be refused."""
    objective = MaskedLMObjective(from_config_dict(smoke_config))
    for axis in ("one", "other"):
        auto = (jax.sharding.AxisType.Auto,)
        with jax.set_mesh(jax.make_mesh((1,), (axis,), axis_types=auto, devices=jax.devices()[:1])):
            assert abstract_params(objective)["embeddings"]


def test_float32_parameters_under_bfloat16_compute(smoke_config, tiny_store):
    smoke_config.model.dtype = "bfloat16"
    state, losses = run_steps(from_config_dict(smoke_config), tiny_store, 2, 1)
    assert {leaf.dtype for leaf in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
    assert np.isfinite(losses[-1]["loss"])


@pytest.mark.parametrize("frozen", [(), ("^embeddings/",)])
def test_an_update_that_is_not_finite_changes_nothing_but_the_step(smoke_config, tiny_store, frozen):
    """The gradient is infinite at the second step, by its embedding; the state is as if that step had not been."""
    smoke_config.optimizer.frozen = frozen
    config = from_config_dict(smoke_config)

    class Breaking(MaskedLM):
        class objective_class(MaskedLMObjective):
            def metrics(self, params, batch, *, dropout_rng):
                metrics = super().metrics(params, batch, dropout_rng=dropout_rng)
                loss = metrics["masked_lm_loss"]
                return metrics | {"masked_lm_loss": WeightedSum(loss.total / batch["fine"][0], loss.weight)}

            def loss_weights(self, batch):
                return super().loss_weights({name: value for name, value in batch.items() if name != "fine"})

    task = Breaking(config, tiny_store)
    (state, step), batches = start(task), task.batches("train", batch_size=8, repeat=True)
    seen = []
    for i in range(3):
        before = jax.device_get(state)
        fine = np.full(8, i != 1, np.float32)
        state, metrics = step(state, batches.batch_at(i) | {"fine": fine}, dropout_key(0))
        pairs = zip(*(tree.flatten((s.params, s.opt_state)).items() for s in (before, state)), strict=True)
        same = [np.array_equal(a, b) for (path, a), (_, b) in pairs if not (frozen and "embeddings/" in path)]
        seen.append((int(state.step), all(same), any(same), metrics["skipped_updates"].mean()))
        rate = metrics["learning_rate"].mean()
    assert seen == [(1, False, False, 0), (2, True, True, 1), (3, False, False, 1)]
    assert rate == pytest.approx(config.optimizer.learning_rate * 2 / 5)


FROZEN = ("^embeddings/", "layer_0/")


@pytest.mark.parametrize("parts", [1, 2])
def test_what_is_frozen_stays_and_the_rest_learns(smoke_config, tiny_store, parts):
    smoke_config.optimizer.frozen = FROZEN
    config = from_config_dict(smoke_config)
    before = tree.flatten(MaskedLM(config, tiny_store).objective.init(jax.random.key(0)))
    state, _ = run_steps(config, tiny_store, 2, parts)
    for path, leaf in tree.flatten(state.params).items():
        assert np.array_equal(leaf, before[path]) == tree.matches(path, FROZEN), path


def test_the_norm_of_the_gradient_counts_what_trains(no_dropout, tiny_store):
    """By hand, from the gradient of all parameters."""
    frozen = dataclasses.replace(no_dropout, optimizer=dataclasses.replace(no_dropout.optimizer, frozen=FROZEN))
    task = MaskedLM(frozen, tiny_store)
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    params, weights = task.objective.init(jax.random.key(0)), task.objective.loss_weights(batch)
    grads = jax.jit(
        jax.grad(lambda params: total_loss(task.objective.metrics(params, batch, dropout_rng=None), weights))
    )(params)
    squares = {path: float((g**2).sum()) for path, g in tree.flatten(grads).items()}
    trained = sum(square for path, square in squares.items() if not tree.matches(path, FROZEN))
    assert trained < 0.9 * sum(squares.values())
    _, (metrics,) = run_steps(frozen, tiny_store, 1, 1)
    assert metrics["gradient_norm"] == pytest.approx(trained**0.5, rel=1e-5)


def test_frozen_lower_layers_cost_no_backward_pass(smoke_config, tiny_store):
    """By XLA's own count. The backward pass through a layer takes two products for each of the forward pass."""
    flops = {}
    for frozen in ((), FROZEN[:1], FROZEN):
        smoke_config.optimizer.frozen = frozen
        task = MaskedLM(from_config_dict(smoke_config), tiny_store)
        batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
        state, step = start(task)
        flops[frozen] = step.lower(state, batch, dropout_key(0)).compile().cost_analysis()["flops"]
    model, (rows, length) = task.config.model, batch["tokens"].shape
    layer = 4 * (4 * model.dim**2 + 2 * model.dim * model.mlp_dim) + 8 * length * model.dim
    everything, without_embeddings, upper = flops.values()
    assert everything > without_embeddings > upper
    assert without_embeddings - upper > rows * length * layer

"""The task: what its sums, weights and baselines mean."""

import jax
import numpy as np
import pytest

from tests.tasks.batch_shapes import assert_shapes_agree
from tx_jax.config import from_config_dict
from tx_jax.config.data import MASKED, PAIRED
from tx_jax.errors import InputError
from tx_jax.tasks.base import WeightedSum, total_loss
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.tasks.registry import objective_of


@pytest.fixture
def task(smoke_config, tiny_store):
    return MaskedLM(from_config_dict(smoke_config), tiny_store)


def metrics_of(task, params, batch):
    """Jitted: eagerly, every small operation compiles by itself."""
    return jax.jit(lambda p, b: task.objective.metrics(p, b, dropout_rng=None))(params, batch)


def rows(batch, offset):
    return {k: v[offset::2] for k, v in batch.items()}


def test_metrics_are_sums_that_add_over_parts_of_a_batch(task):
    params = task.objective.init(jax.random.key(0))
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    whole, *parts = (metrics_of(task, params, part) for part in (batch, rows(batch, 0), rows(batch, 1)))
    for name, value in whole.items():
        joined = parts[0][name] + parts[1][name]
        np.testing.assert_allclose(joined.total, value.total, rtol=1e-5)
        assert joined.weight == value.weight
    weights = task.objective.loss_weights(batch)
    assert weights["masked_lm_loss"] == batch["masked_weights"].sum()
    np.testing.assert_allclose(
        total_loss(whole, weights),
        whole["masked_lm_loss"].mean() + whole["next_sentence_loss"].mean(),
        rtol=1e-6,
    )


def test_losses_match_numpy_from_the_logits(task):
    from tx_jax.models import registry

    params = task.objective.init(jax.random.key(0))
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    output = registry.build(task.config.model).apply(
        {"params": params},
        batch["tokens"],
        segments_BT=batch["segments"],
        valid_BT=batch["valid"],
        masked_positions_BP=batch["masked_positions"],
        deterministic=True,
    )
    metrics = metrics_of(task, params, batch)
    for name, targets, weights in (
        ("masked_lm", batch["masked_targets"], batch["masked_weights"]),
        ("next_sentence", batch["next_sentence_labels"], batch["example_weights"]),
    ):
        logits = np.asarray(output.logits[name], np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        picked = np.take_along_axis(log_p, targets[..., None], -1)[..., 0]
        np.testing.assert_allclose(metrics[f"{name}_loss"].total, -(picked * weights).sum(), rtol=1e-5)
        hits = (logits.argmax(-1) == targets) * weights
        assert metrics[f"{name}_accuracy"].total == hits.sum()


def test_rows_of_weight_zero_count_for_nothing(task):
    params = task.objective.init(jax.random.key(0))
    once = task.batches("validation", batch_size=16, repeat=False)
    last = once.batch_at(len(once) - 1)
    real = last["example_weights"] == 1
    assert 0 < real.sum() < 16
    cut = {k: v[real] for k, v in last.items()}
    padded, exact = metrics_of(task, params, last), metrics_of(task, params, cut)
    for name, value in exact.items():
        np.testing.assert_allclose(padded[name].total, value.total, rtol=1e-5)
        assert padded[name].weight == value.weight


def test_baselines_are_those_of_the_masked_tokens(task):
    once = task.batches("validation", batch_size=16, repeat=False)
    rows = [once.batch_at(i) for i in range(len(once))]
    targets = np.concatenate([r["masked_targets"][r["masked_weights"] == 1] for r in rows])
    shares = np.unique(targets, return_counts=True)[1] / len(targets)
    baselines = {name: value for name, (value, _) in task.baselines(rows, "validation").items()}
    assert baselines["masked_lm_loss"] == pytest.approx(-(shares * np.log(shares)).sum())
    assert baselines["masked_lm_accuracy"] == pytest.approx(shares.max())
    assert 0.5 <= baselines["next_sentence_accuracy"] < 0.7


def test_without_next_sentence_only_the_masked_lm_is_trained(smoke_config, tiny_store):
    smoke_config.model.heads = ("masked_lm",)
    smoke_config.data.packing = "doc_sentences"
    task = MaskedLM(from_config_dict(smoke_config), tiny_store)
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    metrics = metrics_of(task, task.objective.init(jax.random.key(0)), batch)
    assert set(metrics) == {"masked_lm_loss", "masked_lm_accuracy", "masked_dropped"}
    assert metrics["masked_dropped"].mean() == 0
    assert set(task.objective.loss_weights(batch)) == {"masked_lm_loss"}


def test_a_vocabulary_larger_than_the_models_is_refused(smoke_config, tiny_store):
    smoke_config.model.vocab_size = 199
    with pytest.raises(InputError, match=r"200 tokens.*vocab_size=199.*--config.model.vocab_size=200"):
        MaskedLM(from_config_dict(smoke_config), tiny_store)


def test_mean_of_nothing_is_nan():
    assert np.isnan(WeightedSum(np.zeros(()), np.zeros(())).mean())


def test_a_batch_without_anything_to_predict_has_no_loss(task):
    batch = task.batches("train", batch_size=8, repeat=True).batch_at(0)
    batch["masked_weights"] = 0 * batch["masked_weights"]
    batch["example_weights"] = 0 * batch["example_weights"]

    def loss(params):
        return total_loss(task.objective.metrics(params, batch, dropout_rng=None), task.objective.loss_weights(batch))

    value, gradients = jax.jit(jax.value_and_grad(loss))(task.objective.init(jax.random.key(0)))
    assert value == 0
    assert all((np.asarray(g) == 0).all() for g in jax.tree.leaves(gradients))


@pytest.mark.parametrize("packing", MASKED)
def test_shapes_from_the_configuration_are_those_of_a_batch(smoke_config, tiny_store, packing):
    smoke_config.data.packing = packing
    if packing not in PAIRED:
        smoke_config.model.heads = ("masked_lm",)
    smoke_config.phases.update(steps=(18, 2), sequence_length=(32, 64), max_predictions=(5, 10), batch_size=(8, 4))
    config = from_config_dict(smoke_config)
    assert_shapes_agree(MaskedLM(config, tiny_store), objective_of(config))

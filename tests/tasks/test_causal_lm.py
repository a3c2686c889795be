"""The causal task: its sums from the logits, its baselines by counting."""

import math

import jax
import numpy as np
import pytest

from tests.conftest import write_corpus
from tests.tasks.batch_shapes import assert_shapes_agree
from tx_jax.config import from_config_dict
from tx_jax.data.corpus.prepare import PrepareConfig, prepare
from tx_jax.data.corpus.sources import SourceConfig
from tx_jax.tasks.causal_lm import CausalLM
from tx_jax.tasks.registry import objective_of, open_task


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    write_corpus(folder / "text.txt", documents=80)
    source = SourceConfig(specs=(str(folder / "text.txt"),))
    prepare(
        PrepareConfig(
            store=folder / "store", source=source, tokenizer_kind="gpt2_bpe", vocab_size=300, workers=1
        )
    )  # fmt: skip
    return folder / "store"


def make_task(store, **data):
    from configs import gpt2_small

    c = gpt2_small.get_config("smoke")
    c.model.vocab_size = 300
    c.data.store = str(store)
    c.data.update(data)
    return open_task(from_config_dict(c))


@pytest.mark.parametrize("packing", ["chunks", "packed_documents"])
def test_metrics_match_numpy_from_the_logits(store, packing):
    task = make_task(store, packing=packing)
    assert isinstance(task, CausalLM)
    params = jax.jit(task.objective.init)(jax.random.key(0))
    batch = task.batches("train", batch_size=6, repeat=True).batch_at(0)
    logits = np.float64(jax.jit(lambda p: task.objective.apply(p, batch, dropout_rng=None).logits["causal_lm"])(params))
    log_z = np.log(np.exp(logits).sum(-1))
    nats = log_z - np.take_along_axis(logits, batch["targets"][..., None], axis=-1)[..., 0]
    weights = batch["target_weights"]
    values = {name: m.mean() for name, m in jax.jit(task.objective.metrics)(params, batch, dropout_rng=None).items()}
    loss = (nats * weights).sum() / weights.sum()
    np.testing.assert_allclose(values["causal_lm_loss"], loss, rtol=1e-5)
    hits = (logits.argmax(-1) == batch["targets"]) * weights
    np.testing.assert_allclose(values["causal_lm_accuracy"], hits.sum() / weights.sum(), rtol=1e-6)
    bits = loss * weights.sum() / math.log(2) / batch["target_bytes"].sum()
    np.testing.assert_allclose(values["bits_per_byte"], bits, rtol=1e-5)
    np.testing.assert_allclose(values["word_loss"], (nats * weights).sum() / batch["target_words"].sum(), rtol=1e-5)


def test_a_token_does_not_see_its_target(store):
    """A change of the last input token changes no logits before it."""
    task = make_task(store)
    params = jax.jit(task.objective.init)(jax.random.key(0))
    batch = task.batches("train", batch_size=2, repeat=True).batch_at(0)
    run = jax.jit(
        lambda tokens: task.objective.apply(params, {**batch, "tokens": tokens}, dropout_rng=None).logits["causal_lm"]
    )
    changed = batch["tokens"].copy()
    changed[:, -1] = (changed[:, -1] + 1) % 300
    before, after = np.asarray(run(batch["tokens"])), np.asarray(run(changed))
    np.testing.assert_array_equal(before[:, :-1], after[:, :-1])
    assert (before[:, -1] != after[:, -1]).any()


def test_baselines_count_the_targets(store):
    task = make_task(store)
    batches = [task.batches("validation", batch_size=4, repeat=False).batch_at(i) for i in range(2)]
    targets = np.concatenate([b["targets"][b["target_weights"] > 0] for b in batches])
    shares = np.unique(targets, return_counts=True)[1] / len(targets)
    entropy = -(shares * np.log(shares)).sum()
    baselines = task.baselines(iter(batches), "validation")
    assert baselines["causal_lm_loss"][0] == pytest.approx(entropy)
    assert baselines["causal_lm_accuracy"][0] == pytest.approx(shares.max())
    num_bytes = sum(b["target_bytes"].sum() for b in batches)
    assert baselines["bits_per_byte"][0] == pytest.approx(entropy * len(targets) / math.log(2) / num_bytes)
    num_words = sum(b["target_words"].sum() for b in batches)
    assert baselines["word_loss"][0] == pytest.approx(entropy * len(targets) / num_words)


@pytest.mark.parametrize("packing", ["chunks", "packed_documents"])
def test_shapes_from_the_configuration_are_those_of_a_batch(store, packing):
    task = make_task(store, packing=packing)
    assert_shapes_agree(task, objective_of(task.config))

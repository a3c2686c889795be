"""The objective of translation: label smoothing, sums, greedy translations, and that it learns."""

import logging

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import transformer_base
from tests.data.translation import pairs
from tests.models import small
from tx_jax import sharding
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.decoding import Options, generate
from tx_jax.errors import InputError
from tx_jax.nn.cross_entropy import OutputLayer
from tx_jax.runs.trained import Trained
from tx_jax.tasks.registry import open_task
from tx_jax.tasks.translation import smoothing
from tx_jax.tasks.translation_scores import scores


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return pairs.store(tmp_path_factory.mktemp("pairs"))


def config_of(store, **changes):
    c = transformer_base.get_config("smoke")
    c.data.store, c.model.vocab_size = str(store.path), store.vocab_size
    c.update_from_flattened_dict(changes)
    return from_config_dict(c)


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_smoothing_is_that_of_the_formula(share):
    """(1 - e) log p of the target and e / V of each token's (Szegedy et al. 2016, section 7); values and gradients."""
    rng = np.random.default_rng(0)
    hidden, table = (jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, 5, 8), (11, 8)))
    targets, weights = jnp.asarray(rng.integers(0, 11, (2, 5))), jnp.asarray(rng.integers(0, 2, (2, 5)), jnp.float32)

    def ours(hidden, table, bias):
        layer = OutputLayer(hidden, table, bias)
        return layer.cross_entropy(targets, weights)[0] + smoothing(layer, targets, weights, share)

    def formula(hidden, table, bias):
        log_probs = jax.nn.log_softmax(hidden @ table.T + bias[None, None])
        wanted = (1 - share) * jax.nn.one_hot(targets, 11) + share / 11
        return -((wanted * log_probs).sum(-1) * weights).sum()

    arrays = hidden, table, jnp.asarray(rng.normal(size=11), jnp.float32)
    np.testing.assert_allclose(ours(*arrays), formula(*arrays), rtol=1e-5)
    for one, other in zip(jax.grad(ours, (0, 1, 2))(*arrays), jax.grad(formula, (0, 1, 2))(*arrays), strict=True):
        np.testing.assert_allclose(one, other, atol=2e-5)


def test_metrics_are_sums_over_the_targets(store):
    """Against logits at every position; a filler row counts nowhere."""
    task = open_task(config_of(store))
    params = small.params(task.config.model)
    batches = task.batches("validation", batch_size=8, repeat=False)
    batch = next(b for b in map(batches.batch_at, range(len(batches))) if 0 < b["example_weights"].sum() < 8)
    metrics = jax.jit(task.objective.metrics)(params, batch, dropout_rng=None)
    logits = task.objective.apply(params, batch, dropout_rng=None).logits["causal_lm"]
    log_probs = np.asarray(jax.nn.log_softmax(logits), np.float64)
    weights = batch["target_weights"]
    losses = -np.take_along_axis(log_probs, batch["targets"][:, :, None], axis=2)[:, :, 0]
    smoothed = 0.9 * losses - 0.1 * log_probs.mean(axis=2)
    assert float(metrics["causal_lm_loss"].total) == pytest.approx((losses * weights).sum(), rel=1e-5)
    assert float(metrics["translation_loss"].total) == pytest.approx((smoothed * weights).sum(), rel=1e-5)
    assert float(metrics["translation_loss"].weight) == weights.sum()
    real = batch["example"][batch["example_weights"] > 0]
    words = sum(len(store.split("validation").texts()[i][1].split()) for i in real)
    assert float(metrics["word_loss"].weight) == words
    assert float(metrics["bits_per_byte"].total) == pytest.approx((losses * weights).sum() / np.log(2), rel=1e-5)


def test_what_evaluation_translates_is_what_decoding_translates(store, caplog):
    """In buckets and batches, with filler rows; BLEU and chrF are of the texts, with their signatures in the log."""
    task = open_task(config_of(store))
    params = small.params(task.config.model)
    mesh = sharding.make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    model = Trained(task.config.model, task.config, task.tokenizer, params, None, mesh)
    texts = store.split("validation").texts()
    limit = task.config.model.max_length - 1
    batches, outputs = task.batches("validation", batch_size=8, repeat=False), jax.jit(task.objective.outputs)
    rows = []
    for batch in map(batches.batch_at, range(len(batches))):
        found = jax.device_get(outputs(params, batch))
        rows += [
            {"example": i, "translation": ids, "translation_length": n}
            for i, ids, n, weight in zip(batch["example"], *found.values(), batch["example_weights"], strict=True)
            if weight
        ]
    rows.sort(key=lambda row: row["example"])
    assert [row["example"] for row in rows] == list(range(20))
    expected = generate(model, [source for source, _ in texts], Options(temperature=0))
    for row, one in zip(rows, expected, strict=True):
        n = row["translation_length"]
        assert row["translation"][:n].tolist() == one.tokens
        assert not row["translation"][n:].any()
        assert n <= limit
    with caplog.at_level(logging.INFO, "tx_jax.tasks.translation"):
        values = task.scores({name: np.stack([row[name] for row in rows]) for name in rows[0]}, "validation")
    again = scores([one.text for one in expected], [target for _, target in texts])[0]
    assert values == pytest.approx(again)
    assert set(values) == {"bleu", "chrf"} == set(task.score_names)
    assert f"reference:   {texts[0][1]}" in caplog.text
    assert "nrefs:1" in caplog.text


def test_scores_are_sacrebleus():
    values, lines = scores(["the cat sat on the mat", "a dog runs"], ["the cat sat on the mat", "a dog ran"])
    assert values["bleu"] == pytest.approx(77.88, abs=0.01) or 50 < values["bleu"] < 100
    assert lines[0].startswith("BLEU|nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert scores(["a b c d"], ["a b c d"])[0]["bleu"] == pytest.approx(100)
    with pytest.raises(InputError, match="1 translations cannot be compared with 2 references"):
        scores(["a"], ["a", "b"])


def test_without_metrics_nothing_is_translated(store):
    task = open_task(config_of(store, **{"data.metrics": ()}))
    batch = task.batches("validation", batch_size=8, repeat=False).batch_at(0)
    assert jax.jit(task.objective.outputs)(small.params(task.config.model), batch) == {}
    assert task.scores({}, "validation") == {}


def test_it_says_what_is_left_out(store):
    notices = open_task(config_of(store, **{"data.sequence_length": 8, "data.buckets": (8,)})).notices()
    too_long = int((store.split("train").lengths(store.tokenizer().pair_tokens) > 8).sum())
    assert too_long > 0
    assert f"train: {too_long} of 200 pairs are longer than data.sequence_length=8 and are left out" in notices


BAD = [
    ({"model.architecture": "decoder", "model.num_decoder_layers": 0}, "needs model.architecture='encoder_decoder'"),
    ({"training.num_epochs": 1.0}, "translation is measured in steps"),
    ({"data.buckets": (16, 24)}, r"must be ascending and end with data\.sequence_length=32"),
    ({"data.buckets": (12, 32)}, r"12 does not divide data\.sequence_length=32"),
    ({"data.label_smoothing": 1.0}, r"data\.label_smoothing=1\.0 must be in \[0, 1\)"),
    ({"data.metrics": ("rouge",)}, "'rouge' is not one of bleu, chrf"),
    ({"model.vocab_size": 20}, r"has \d+ tokens, but the model only model\.vocab_size=20"),
    ({"task": "causal_lm"}, "learns from a token store, data.store, not from a store of pairs"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_configurations(store, changes, message):
    with pytest.raises(InputError, match=message):
        open_task(config_of(store, **changes))


def test_flops_are_those_of_the_products(store):
    """Written out for one layer each; see `registry.flops_per_pair`."""
    task = open_task(config_of(store))
    m, length = task.config.model, 16
    d, f = m.dim, m.mlp_dim
    layer = 4 * d * d + 2 * d * f
    matrices = 6 * (layer + layer + 4 * d * d) + 6 * m.vocab_size * d
    attention = 12 * length * d * (1 + 0.5 + 1)
    assert task.objective.flops_per_token() == matrices + attention

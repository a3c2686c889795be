import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import bert_base
from tx_jax import tree
from tx_jax.config import from_config_dict
from tx_jax.models import registry
from tx_jax.training.optimizer import decay_mask, make_optimizer, make_schedule

CONFIG = from_config_dict(bert_base.get_config())


def config(**changes):
    c = bert_base.get_config()
    c.optimizer.update(changes)
    return from_config_dict(c).optimizer


def test_schedule_warms_up_and_falls_linearly_to_zero():
    rate = make_schedule(config(learning_rate=1e-3, warmup_steps=10), 100)
    np.testing.assert_allclose([rate(s) for s in range(10)], 1e-3 * np.arange(1, 11) / 10, rtol=1e-5)
    np.testing.assert_allclose([rate(10), rate(55), rate(100)], [1e-3, 0.5e-3, 0], rtol=1e-5, atol=1e-12)


def test_schedule_without_warmup_and_constant():
    assert make_schedule(config(warmup_steps=0, learning_rate=1e-3), 10)(0) == pytest.approx(1e-3)
    rate = make_schedule(config(warmup_steps=2, learning_rate=1e-3, schedule="constant"), 10)
    assert rate(9) == pytest.approx(1e-3)


def test_decay_spares_biases_and_layer_norm_as_the_paper_does():
    mask = tree.flatten(decay_mask(registry.param_shapes(CONFIG.model), CONFIG.optimizer.no_decay))
    for path, decays in mask.items():
        assert decays == path.endswith(("kernel", "embedding")), path


def numpy_adamw(params, grads, steps, c, rates):
    """AdamW with clipping, written out (Loshchilov & Hutter 2019, algorithm 2, without the schedule multiplier)."""
    m = {k: np.zeros_like(v) for k, v in params.items()}
    v = {k: np.zeros_like(p) for k, p in params.items()}
    for t in range(1, steps + 1):
        norm = np.sqrt(sum((g**2).sum() for g in grads.values()))
        scale = min(1.0, c.clip_norm / norm)
        for k in params:
            g = grads[k] * scale
            m[k] = c.beta1 * m[k] + (1 - c.beta1) * g
            v[k] = c.beta2 * v[k] + (1 - c.beta2) * g**2
            update = (m[k] / (1 - c.beta1**t)) / (np.sqrt(v[k] / (1 - c.beta2**t)) + c.eps)
            if k == "kernel":
                update = update + c.weight_decay * params[k]
            params[k] = params[k] - rates[t - 1] * update
    return params


def test_the_optimizer_is_adamw():
    rng = np.random.default_rng(0)
    params = {"kernel": rng.normal(size=(4, 3)), "bias": rng.normal(size=3)}
    grads = {"kernel": rng.normal(size=(4, 3)) * 3, "bias": rng.normal(size=3)}
    c = config(learning_rate=0.05, warmup_steps=2, weight_decay=0.1)
    schedule = make_schedule(c, 10)
    expected = numpy_adamw(dict(params), grads, 5, c, [float(schedule(i)) for i in range(5)])
    with jax.enable_x64(True):
        optimizer = make_optimizer(c, 10)
        ours = jax.tree.map(jnp.asarray, params)
        state = optimizer.init(ours)
        for _ in range(5):
            updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
            ours = {k: ours[k] + updates[k] for k in ours}
    for k, value in expected.items():
        np.testing.assert_allclose(ours[k], value, rtol=1e-6)

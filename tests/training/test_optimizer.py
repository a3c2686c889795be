import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from configs import bert_base
from tests.models import small
from tx_jax import tree
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.training.optimizer import Optimizer, adamw, clip_by_global_norm, decay_mask, make_schedule, rate_table

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
        optimizer = adamw(c, 10)
        ours = jax.tree.map(jnp.asarray, params)
        state = optimizer.init(ours)
        for _ in range(5):
            updates, state = optimizer.update(jax.tree.map(jnp.asarray, grads), state, ours)
            ours = {k: ours[k] + updates[k] for k in ours}
    for k, value in expected.items():
        np.testing.assert_allclose(ours[k], value, rtol=1e-6)


def optimizer(**changes):
    """That of a model of two layers."""
    c = bert_base.get_config("smoke")
    c.optimizer.update(changes)
    return Optimizer(from_config_dict(c))


SHAPES = registry.param_shapes(optimizer().config.model)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3, np.inf, np.nan])
def test_clipping_is_that_of_optax(size):
    grads = {"a": jnp.arange(1.0, 7).reshape(2, 3) * size, "b": jnp.ones(4, jnp.bfloat16)}
    clip, expected = clip_by_global_norm(2.0), optax.clip_by_global_norm(2.0)
    state = clip.init(grads)
    assert jax.tree.structure(state) == jax.tree.structure(expected.init(grads))  # checkpoints are as before
    clipped, wanted = clip.update(grads, state)[0], expected.update(grads, state)[0]
    assert jax.tree.map(lambda x: x.dtype, clipped) == jax.tree.map(lambda x: x.dtype, grads)
    if np.isfinite(size):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(np.float32(a), np.float32(b), rtol=1e-2), clipped, wanted)
        np.testing.assert_allclose(clipped["a"], wanted["a"], rtol=1e-6)
    else:  # such a step is skipped
        assert not np.isfinite(optax.tree.norm(clipped))


def test_layers_learn_the_slower_the_lower_they_are():
    """BEiT's exponents: of two layers, 0 for heads and pooler, 1 and 2 for the layers, 3 for the embeddings."""
    rates = optimizer(layer_decay=0.5).rates(SHAPES)
    assert rates.keys() == tree.flatten(SHAPES).keys()
    for path, rate in rates.items():
        room = "/".join(path.split("/")[: 2 if path.startswith("encoder/") else 1])
        expected = {"embeddings": 1 / 8, "encoder/layer_0": 1 / 4, "encoder/layer_1": 1 / 2}
        assert rate == expected.get(room, 1), path


DEPTHS = {
    "DeBERTa": (
        {"relative_attention": ("c2p", "p2c"), "relative_distance": 8, "relative_norm": True, "conv_kernel": 3}
        | {"heads": ("masked_lm",), "enhanced_mask_decoder": True},
        {"encoder/relative/embedding": 3, "encoder/convolution/kernel": 2, "mask_decoder_position/embedding": 3},
    ),
    "decoder": (
        {"architecture": "decoder", "heads": ("causal_lm",), "norm_position": "pre", "tie_embeddings": False},
        {"decoder/layer_1/mlp/wi/bias": 1, "decoder/final_norm/scale": 0, "causal_lm/output/embedding": 0},
    ),
    "encoder-decoder": (
        {"architecture": "encoder_decoder", "heads": ("causal_lm",), "num_decoder_layers": 3},
        {"encoder/layer_1/mlp/wi/bias": 1, "decoder/layer_0/mlp/wi/bias": 3, "embeddings/token/embedding": 4},
    ),
}


@pytest.mark.parametrize("family", DEPTHS)
def test_what_lies_outside_of_layers_learns_as_they_do(family):
    changes, expected = DEPTHS[family]
    experiment = optimizer(layer_decay=0.5).config
    object.__setattr__(experiment, "model", small.config(**changes))  # the data of the experiment does not matter here
    paths = tree.flatten(registry.param_shapes(experiment.model))
    for path, depth in expected.items():
        assert path in paths
        assert tree.lookup(path, rate_table(experiment)) == 0.5**depth, path


def test_rows_come_before_the_decay_and_the_first_counts():
    rates = optimizer(layer_decay=0.5, rate_scale=("layer_1/.*bias$=7", "layer_1/mlp=3", "^pooler/=10")).rates(SHAPES)
    assert rates["encoder/layer_1/mlp/wi/bias"] == 7
    assert rates["encoder/layer_1/mlp/wi/kernel"] == 3
    assert rates["encoder/layer_1/attention/query/kernel"] == 0.5
    assert rates["pooler/kernel"] == 10


def test_a_rate_scales_the_update_decay_and_all():
    params = tree.nest({"pooler/kernel": jnp.full((2, 2), 3.0), "masked_lm/bias": jnp.ones(2)})
    grads = jax.tree.map(lambda x: x * 0.1, params)
    updates = {}
    for rate_scale in ((), ("^pooler/=10",)):
        scaled = optimizer(rate_scale=rate_scale, weight_decay=0.1)
        updates[rate_scale], _ = scaled.update(grads, scaled.init(params), params)
    plain, faster = updates.values()
    np.testing.assert_allclose(faster["pooler"]["kernel"], plain["pooler"]["kernel"] * 10, rtol=1e-6)
    np.testing.assert_array_equal(faster["masked_lm"]["bias"], plain["masked_lm"]["bias"])


def test_frozen_parameters_have_no_part_in_it():
    frozen = optimizer(frozen=("^embeddings/", "layer_0/"), rate_scale=("layer_=2",))
    trained, others = frozen.split(SHAPES)
    assert set(trained) == {"encoder", "masked_lm", "next_sentence", "pooler"}
    assert (set(trained["encoder"]), set(others["encoder"]), set(others)) == (
        {"layer_1"},
        {"layer_0"},
        {"embeddings", "encoder"},
    )
    assert frozen.rates(SHAPES).keys() == tree.flatten(trained).keys()
    kept = tree.flatten(jax.eval_shape(frozen.init, SHAPES))
    moments = [path for path, leaf in kept.items() if leaf.ndim]
    assert len(moments) == 2 * len(tree.flatten(trained))
    assert not [path for path in moments if "embeddings/" in path or "layer_0/" in path]


WRONG = {
    "a typo": ({"frozen": ("^embedings/",)}, "optimizer.frozen: '^embedings/' matches no parameter. Did you mean 'emb"),
    "a layer too many": ({"frozen": ("/layer_2/",)}, "'/layer_2/' matches no parameter. Did you mean 'layer_"),
    "nothing near": ({"frozen": ("xyz",)}, "They lie in embeddings, encoder, masked_lm, next_sentence, pooler"),
    "all": ({"frozen": ("",)}, "freezes every parameter: nothing would train"),
    "a rate": ({"rate_scale": ("^poler/=2",)}, "optimizer.rate_scale: '^poler/' matches no parameter that trains. Did"),
    "a frozen one's rate": (
        {"frozen": ("^pooler/",), "rate_scale": ("^pooler/=2",)},
        "'^pooler/' matches no parameter that trains. They lie in embeddings, encoder, masked_lm, next_sentence",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_patterns_that_do_nothing_are_refused(name):
    changes, said = WRONG[name]
    with pytest.raises(InputError) as error:
        jax.eval_shape(optimizer(**changes).init, SHAPES)
    assert said in str(error.value)

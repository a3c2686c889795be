import functools
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs import gpt2_small
from tests import golden
from tests.golden import compute, weights
from tests.models import small
from tx_jax import tree
from tx_jax.config import from_config_dict
from tx_jax.models import registry

BASE = compute.bert_config(weights.Sizes(30522, 768, 12, 12, 3072, 512, "gelu", 1e-12))
LARGE = compute.bert_config(weights.Sizes(30522, 1024, 24, 16, 4096, 512, "gelu", 1e-12))

GPT2 = from_config_dict(gpt2_small.get_config()).model


def test_paths_and_shapes_of_bert_base():
    """The golden list: a path is an interface (sharding, decay masks, conversion, checkpoints), not a detail."""
    text = (pathlib.Path(golden.__file__).parent / "bert_base_parameters.txt").read_text()
    actual = [f"{path} {list(leaf.shape)}" for path, leaf in tree.flatten(registry.param_shapes(BASE)).items()]
    assert sorted(actual) == text.splitlines()


def test_shapes_that_the_golden_weights_are_drawn_for():
    for golden_sizes in weights.GOLDEN.values():
        flat = tree.flatten(registry.param_shapes(compute.bert_config(golden_sizes)))
        assert {path: leaf.shape for path, leaf in flat.items()} == weights.parameter_shapes(golden_sizes)


@pytest.mark.parametrize(
    ("cfg", "length", "predictions", "mflop"),
    [
        (BASE, 128, 20, 546),
        (BASE, 512, 77, 588),
        (LARGE, 128, 20, 1880),
        (LARGE, 512, 77, 1992),
        (GPT2, 1024, 1024, 798),
    ],
)
def test_flops_per_token(cfg, length, predictions, mflop):
    assert round(registry.flops_per_token(cfg, length, predictions) / 1e6) == mflop


NO_DROPOUT = {"dim": 64, "mlp_dim": 256, "num_layers": 3, "dropout": 0.0, "attention_dropout": 0.0}
DECODER = {"architecture": "decoder", "num_segments": 0, "norm_position": "pre", "embedding_norm": False}


@pytest.mark.parametrize(
    "changes",
    [
        {"heads": ("masked_lm",)},
        {"heads": ("masked_lm",), "gated_mlp": True, "position_embedding": "rotary", "local_window": 4},
        {"heads": ("masked_lm",), "gated_mlp": True, "use_bias": False, "norm_position": "pre"},
        {"heads": ("causal_lm",), **DECODER},
        {"heads": ("causal_lm",), **DECODER, "gated_mlp": True, "tie_embeddings": False},
    ],
    ids=["encoder", "gated, rotary, local", "gated, pre-LN", "decoder", "gated decoder, untied"],
)
def test_flops_against_the_products_in_the_traced_step(changes):
    """Every multiply-add of the matrix products in forward and backward, counted in the jaxpr: exactly the formula, but
    for the half of the scores that causal attention computes in vain, and for what its backward pass computes again."""
    cfg = small.config(**NO_DROPOUT | changes)
    inputs = small.batch(rows=4, length=20)
    predictions = inputs["masked_positions_BP"].shape[1]
    if cfg.architecture == "decoder":
        inputs, predictions = {name: inputs[name] for name in ("tokens_BT", "valid_BT")}, 20

    def loss(variables):
        return small.apply(cfg, variables, inputs).logits[cfg.heads[0]].sum()

    jaxpr = jax.make_jaxpr(jax.grad(loss))(registry.param_shapes(cfg))
    expected = registry.flops_per_token(cfg, 20, predictions) + in_vain(cfg, 20) + again(cfg, 20)
    assert product_flops(jaxpr.jaxpr) == 80 * expected


def in_vain(cfg, length):
    """FLOPs per token of scores that may not be attended to."""
    return 6 * cfg.num_layers * length * cfg.dim if cfg.architecture == "decoder" else 0


def again(cfg, length):
    """FLOPs per token of scores in the backward pass, where they are traced twice (of the second only the derivative is
    used), and of the sums of output and gradient."""
    return cfg.num_layers * (2 * 2 * length + 2) * cfg.dim


def test_flops_against_the_compiler():
    """XLA's own count of a compiled step has the elementwise work besides, which is little."""
    cfg = small.config(**NO_DROPOUT | DECODER | {"heads": ("causal_lm",), "dim": 128, "mlp_dim": 512})
    inputs = {name: small.batch(rows=2, length=24)[name] for name in ("tokens_BT", "valid_BT")}

    def loss(variables):
        return small.apply(cfg, variables, inputs).logits["causal_lm"].sum()

    compiled = jax.jit(jax.grad(loss)).lower(registry.param_shapes(cfg)).compile()
    ours = 48 * (registry.flops_per_token(cfg, 24, 24) + in_vain(cfg, 24))
    assert 1 <= compiled.cost_analysis()["flops"] / ours < 1.15


def test_an_encoder_decoder_has_two_kinds_of_tokens():
    cfg = small.config(architecture="encoder_decoder", num_decoder_layers=1, heads=("causal_lm",))
    with pytest.raises(ValueError, match="count them apart"):
        registry.flops_per_token(cfg, 20, 20)


def product_flops(jaxpr) -> int:
    total = 0
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            left = equation.invars[0].aval.shape
            total += 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[i] for i in contracted)
        for value in equation.params.values():
            # Of a choice between branches, which differ only in how they compute, one is run.
            inner = getattr(value[0] if isinstance(value, tuple) and value else value, "jaxpr", value)
            if hasattr(inner, "eqns"):
                total += product_flops(inner)
    return total


@functools.cache
def initial(seed=0, **changes):
    return jax.jit(registry.init_params, static_argnums=0)(small.config(**changes), jax.random.key(seed, impl="rbg"))


def test_initial_values():
    """google-research/bert: truncated normals for matrices and tables, ones and zeros elsewhere."""
    flat = tree.flatten(initial())
    for path, value in flat.items():
        kind = path.rpartition("/")[2]
        assert value.dtype == jnp.float32, path
        if kind in ("kernel", "embedding"):
            assert 0.01 < np.abs(value).max() <= 2 * small.CONFIG.init_stddev, path
        else:
            assert (np.asarray(value) == (1 if kind == "scale" else 0)).all(), path
    other = tree.flatten(initial(1))
    drawn = [path for path in flat if path.endswith(("kernel", "embedding"))]
    assert all((np.asarray(flat[path]) != np.asarray(other[path])).any() for path in drawn)
    # No two matrices of the same shape are drawn alike.
    assert len({np.asarray(flat[path]).tobytes() for path in drawn}) == len(drawn)


def test_initialisation_does_not_depend_on_dtype_or_rematerialisation():
    for changes in ({"dtype": "bfloat16"}, {"remat": "block"}):
        jax.tree.map(np.testing.assert_array_equal, initial(**changes), initial())

"""Properties of the whole encoder: padding, batch rows, gradients, dropout, rematerialization, dtypes."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tx_jax.models import registry
from tx_jax.nn.dropout import dropout_key

BOTH_NORMS = pytest.mark.parametrize("norm_position", ["post", "pre"])


@functools.cache
def params(**changes):
    return small.params(small.config(**changes))


@functools.partial(jax.jit, static_argnames=("cfg", "deterministic"))
def run(cfg, variables, inputs, key=None, *, deterministic=True):
    rngs = None if key is None else {"dropout": key}
    return small.apply(cfg, variables, inputs, deterministic=deterministic, rngs=rngs)


def scalar(cfg, variables, inputs, key=None, *, deterministic=True):
    """A function of every valid output with uneven weights."""
    output = run(cfg, variables, inputs, key, deterministic=deterministic)
    weights = jnp.sin(jnp.arange(output.logits["masked_lm"].size)).reshape(output.logits["masked_lm"].shape)
    return (output.logits["masked_lm"] * weights).sum() + (output.logits["next_sentence"][:, 0] ** 2).sum()


gradient = jax.jit(jax.grad(scalar, argnums=1), static_argnums=0, static_argnames="deterministic")


def assert_close(actual, expected, rtol=1e-6):
    """To rounding, relative to the largest value.

    Not bitwise: another length is another program, whose sums may run in another order.
    """
    for name, a, b in zip(("hidden", "pooled", "mlm", "nsp"), jax.tree.leaves(actual), jax.tree.leaves(expected)):  # noqa: B905
        np.testing.assert_allclose(a, b, atol=rtol * np.abs(b).max(), rtol=0, err_msg=name)


def valid_outputs(output, valid):
    return output.replace(hidden=np.asarray(output.hidden)[np.asarray(valid)])


def pad(inputs, extra):
    rows = inputs["tokens_BT"].shape[0]

    def longer(x, value):
        return jnp.concatenate([x, jnp.full((rows, extra), value, x.dtype)], axis=1)

    return inputs | {
        "tokens_BT": longer(inputs["tokens_BT"], 7),
        "segments_BT": longer(inputs["segments_BT"], 1),
        "valid_BT": longer(inputs["valid_BT"], False),
    }


def test_longer_padding_changes_nothing():
    inputs = small.batch()
    valid = inputs["valid_BT"]
    expected = run(small.CONFIG, params(), inputs)
    padded = run(small.CONFIG, params(), pad(inputs, 9))
    padded = padded.replace(hidden=padded.hidden[:, : valid.shape[1]])
    assert_close(valid_outputs(padded, valid), valid_outputs(expected, valid))


@BOTH_NORMS
def test_ids_under_padding_change_nothing(norm_position):
    """Bitwise: the same program, and a masked probability is exactly zero."""
    cfg, inputs = small.config(norm_position=norm_position), small.batch()
    valid = inputs["valid_BT"]
    assert not valid.all()
    other = inputs | {
        "tokens_BT": jnp.where(valid, inputs["tokens_BT"], 50 - inputs["tokens_BT"] // 2),
        "segments_BT": jnp.where(valid, inputs["segments_BT"], 1 - inputs["segments_BT"]),
    }
    variables = params(norm_position=norm_position)
    a = valid_outputs(run(cfg, variables, inputs), valid)
    b = valid_outputs(run(cfg, variables, other), valid)
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_valid_tokens_do_change_the_outputs():
    """The counterpart of the tests above: each valid token reaches each position of its row, and no other row."""
    inputs = small.batch()
    base = run(small.CONFIG, params(), inputs).hidden
    changed = inputs | {"tokens_BT": inputs["tokens_BT"].at[1, 0].add(1) % small.CONFIG.vocab_size}
    moved = np.asarray(jnp.abs(run(small.CONFIG, params(), changed).hidden - base).max(-1))
    assert (moved[1] > 1e-4).all()
    assert (np.delete(moved, 1, axis=0) == 0).all()


def test_rows_are_independent_of_their_order():
    inputs = small.batch(rows=5)
    order = np.array([3, 0, 4, 2, 1])
    permuted = {name: x[order] for name, x in inputs.items()}
    expected = jax.tree.map(lambda x: x[order], run(small.CONFIG, params(), inputs))
    assert_close(run(small.CONFIG, params(), permuted), expected)


def test_no_gradient_reaches_padding():
    """Ids used only under padding, and positions that are padding in every row, have a gradient of exactly zero."""
    cfg, inputs = small.CONFIG, small.batch()
    inputs["valid_BT"] = inputs["valid_BT"].at[:, 9:].set(False)
    inputs["masked_positions_BP"] = inputs["masked_positions_BP"] % 6
    assert inputs["valid_BT"][:, :6].all()
    tokens = jnp.where(inputs["valid_BT"], inputs["tokens_BT"] % 40, 45)
    embeddings = gradient(cfg, params(), inputs | {"tokens_BT": tokens})["embeddings"]
    position = np.asarray(embeddings["position"]["embedding"])
    assert (position[9:] == 0).all()
    assert (np.abs(position[:9]).max(-1) > 0).all()

    # The token table is also the output layer, so the path through the input is taken alone: to the hidden states.
    def through_the_input(table):
        variables = params()
        embedded = variables | {"embeddings": variables["embeddings"] | {"token": {"embedding": table}}}
        hidden = run(cfg, embedded, inputs | {"tokens_BT": tokens}).hidden
        return jnp.where(inputs["valid_BT"][..., None], hidden * jnp.cos(jnp.arange(cfg.dim))[None, None], 0).sum()

    table = np.asarray(jax.jit(jax.grad(through_the_input))(params()["embeddings"]["token"]["embedding"]))
    assert (table[45] == 0).all()
    seen = np.unique(np.asarray(tokens)[np.asarray(inputs["valid_BT"])])
    assert (np.abs(table[seen]).max(-1) > 0).all()


def test_gathered_logits_are_the_full_logits_at_those_positions():
    inputs = small.batch()
    gathered = run(small.CONFIG, params(), inputs).logits["masked_lm"]
    full = run(small.CONFIG, params(), inputs | {"masked_positions_BP": None}).logits["masked_lm"]
    assert full.shape == (*inputs["tokens_BT"].shape, small.CONFIG.vocab_size)
    expected = np.take_along_axis(np.asarray(full), np.asarray(inputs["masked_positions_BP"])[:, :, None], axis=1)
    np.testing.assert_allclose(gathered, expected, atol=1e-6 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("heads", [(), ("masked_lm",), ("next_sentence",), ("masked_lm", "next_sentence")])
def test_heads_are_those_of_the_configuration(heads):
    cfg = small.config(heads=heads)
    variables = registry.param_shapes(cfg)
    output = jax.eval_shape(functools.partial(run, cfg), variables, small.batch())
    assert ("masked_lm" in output.logits) == ("masked_lm" in variables) == ("masked_lm" in heads)
    assert ("next_sentence" in output.logits) == ("next_sentence" in variables) == ("next_sentence" in heads)
    assert (output.pooled is not None) == ("pooler" in variables) == ("next_sentence" in heads)


@pytest.mark.parametrize("rates", [{"dropout": 0.0}, {"attention_dropout": 0.0}])
def test_dropout_follows_its_key(rates):
    """Each kind of dropout alone: different by key, equal by equal key, absent where deterministic."""
    cfg, inputs = small.config(**rates), small.batch()
    one, again, two = (run(cfg, params(), inputs, dropout_key(seed), deterministic=False).hidden for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (np.asarray(one) != np.asarray(two)).mean() > 0.9
    plain = run(cfg, params(), inputs).hidden
    np.testing.assert_array_equal(plain, run(cfg, params(), inputs, jax.random.key(1)).hidden)
    assert (np.asarray(one) != np.asarray(plain)).mean() > 0.9


def test_no_dropout_needs_no_key():
    cfg, inputs = small.config(dropout=0.0, attention_dropout=0.0), small.batch()
    a = run(cfg, params(), inputs, deterministic=False)
    jax.tree.map(np.testing.assert_array_equal, a, run(cfg, params(), inputs))


def test_dropout_differs_between_layers():
    """Pre-LN blocks that add only their constant biases: what a layer adds is its dropout mask."""
    cfg = small.config(norm_position="pre", dropout=0.5, attention_dropout=0.0, num_layers=3)
    variables = jax.tree.map(lambda x: jnp.zeros(x.shape), registry.param_shapes(cfg))
    for i in range(3):
        variables["encoder"][f"layer_{i}"]["attention"]["out"]["bias"] += 1.0
    sown = jax.jit(
        lambda key: small.apply(
            cfg, variables, small.batch(), deterministic=False, rngs={"dropout": key}, mutable=["intermediates"]
        )[1]
    )(dropout_key(0))
    first, second, third = np.diff(np.stack(sown["intermediates"]["encoder"]["hidden"]), axis=0)
    assert set(np.unique(first)) == {0.0, 2.0}
    for a, b in ((first, second), (first, third), (second, third)):
        assert abs((a == b).mean() - 0.5) < 0.1


@pytest.mark.parametrize("policy", ["block", "dots"])
def test_rematerialisation_changes_no_gradient(policy):
    """To rounding, as the compiler fuses the two programs differently; the dropout masks must be the same."""
    cfg, inputs = small.config(num_layers=1), small.batch()
    remat = dataclasses.replace(cfg, remat=policy)
    key = dropout_key(3)
    a = gradient(cfg, params(num_layers=1), inputs, key, deterministic=False)
    b = gradient(remat, params(num_layers=1), inputs, key, deterministic=False)
    scale = max(float(jnp.abs(x).max()) for x in jax.tree.leaves(a))
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-6 * scale, rtol=0), a, b)
    # And no path: a checkpoint of one reads into the other.
    assert jax.tree.structure(registry.param_shapes(remat)) == jax.tree.structure(registry.param_shapes(cfg))


def test_rematerialisation_computes_again_what_it_does_not_keep():
    products = {}
    for policy in ("none", "dots", "block"):
        cfg = small.config(remat=policy)
        text = gradient.lower(cfg, registry.param_shapes(cfg), small.batch()).as_text()
        products[policy] = len(re.findall("= stablehlo.dot_general", text)) - products.get("none", 0)
    # In each layer the scores and the values that they weigh; with "block" also the six dense layers.
    assert (products["dots"], products["block"]) == (2 * cfg.num_layers, 8 * cfg.num_layers)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"activation": "relu"}, 0),
        ({"activation": "relu", "remat": "block"}, small.CONFIG.num_layers),
        ({"activation": "gelu"}, small.CONFIG.num_layers + 1),  # and one in the masked LM head
        ({"activation": "gelu_tanh"}, small.CONFIG.num_layers + 1),
    ],
)
def test_recomputation_is_kept_behind_a_barrier(changes, expected):
    """Without it the compiler merges the recomputation with the forward pass, and nothing is saved."""
    cfg = small.config(dropout=0.0, attention_dropout=0.0, **changes)
    text = gradient.lower(cfg, registry.param_shapes(cfg), small.batch()).as_text()
    always = 3 * cfg.num_layers + 2  # of each attention, of each norm: a layer's two, the embeddings' and the head's
    always += 2 * (cfg.num_layers + 1)  # of kernels with more inputs than outputs: wo, the next sentence's
    always += 5 * cfg.num_layers + 2  # of the others: attention's four and wi, the transforms of both heads
    assert len(re.findall("= stablehlo.optimization_barrier", text)) == always + expected


def test_bfloat16_keeps_parameters_logits_and_probabilities_in_float32():
    cfg, inputs = small.config(dtype="bfloat16"), small.batch()
    variables = params()
    assert {x.dtype for x in jax.tree.leaves(registry.param_shapes(cfg))} == {jnp.dtype("float32")}
    output, sown = jax.jit(lambda p: small.apply(cfg, p, inputs, mutable=["intermediates"]))(variables)
    assert output.hidden.dtype == output.pooled.dtype == jnp.bfloat16
    assert output.logits["masked_lm"].dtype == output.logits["next_sentence"].dtype == jnp.float32
    layers = sown["intermediates"]["encoder"]
    assert {x.dtype for x in layers["hidden"]} == {jnp.dtype("bfloat16")}
    for i in range(cfg.num_layers):
        assert layers[f"layer_{i}"]["attention"]["probabilities"][0].dtype == jnp.float32
    exact = run(small.CONFIG, variables, inputs)
    for a, b in zip(jax.tree.leaves(output), jax.tree.leaves(exact), strict=True):
        a, b = np.float32(a), np.float32(b)
        assert np.linalg.norm(a - b) < 0.03 * np.linalg.norm(b)
    gradients = gradient(cfg, variables, inputs)
    assert {x.dtype for x in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_a_row_without_valid_tokens_is_finite():
    inputs = small.batch()
    inputs["valid_BT"] = inputs["valid_BT"].at[1].set(False)
    for value in jax.tree.leaves((run(small.CONFIG, params(), inputs), gradient(small.CONFIG, params(), inputs))):
        assert np.isfinite(value).all()


def test_rank_promotion_is_an_error_here():
    with pytest.raises(ValueError, match="rank_promotion"):
        jnp.ones((2, 3)) + jnp.ones(3)

"""What single fields of the configuration do to a model: biases, tied tables, initial sizes, heads."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.models.test_causality import GPT
from tests.nn import reference
from tx_jax import tree
from tx_jax.config.heads import heads_of
from tx_jax.models import registry

LABELS = 5
ROWS, LENGTH, PREDICTIONS = 3, 12, 3


def decoder(**changes):
    return small.config(**(vars(GPT) | changes))


def paths(cfg):
    return set(tree.flatten(registry.param_shapes(cfg)))


def test_without_biases_there_are_none_but_the_outputs():
    """ModernBERT: neither in dense layers nor in norms; the output layer keeps its own."""
    cfg = small.config(norm_position="pre", use_bias=False, heads=("masked_lm",), gated_mlp=True)
    assert [path for path in paths(cfg) if path.endswith("bias")] == ["masked_lm/bias"]
    with_biases = paths(small.config(norm_position="pre", heads=("masked_lm",), gated_mlp=True))
    # Per layer four projections, three dense layers of the MLP, a norm (two from the second on); three norms, a head's.
    assert len([path for path in with_biases if path.endswith("bias")]) == 2 * 7 + 3 + 2 + 1 + 2
    assert {path for path in with_biases if not path.endswith("bias")} | {"masked_lm/bias"} == paths(cfg)


def test_key_bias():
    """DeBERTa's first version has queries and values with a bias, and keys without."""
    missing = paths(small.config()) - paths(small.config(key_bias=False))
    assert missing == {f"encoder/layer_{i}/attention/key/bias" for i in range(2)}


@pytest.mark.parametrize("head", ["masked_lm", "causal_lm"])
@pytest.mark.parametrize("tied", [True, False])
def test_the_output_layers_table(head, tied):
    """Tied, the token table gets the gradient of both its uses: rows of tokens that are not read get one from here."""
    make = decoder if head == "causal_lm" else small.config
    cfg = make(heads=(head,), tie_embeddings=tied, num_layers=1)
    assert (f"{head}/output/embedding" in paths(cfg)) == (not tied)
    inputs = {name: small.batch()[name] % 40 for name in ("tokens_BT",)} | {"valid_BT": small.batch()["valid_BT"]}

    @jax.jit
    def gradient(variables):
        def loss(p):
            return (small.apply(cfg, p, inputs).logits[head] ** 2).sum()

        return jax.grad(loss)(variables)

    found = tree.flatten(gradient(small.params(cfg)))
    unread = np.abs(found["embeddings/token/embedding"])[40:].max(-1)
    if tied:
        assert (unread > 0).all()
    else:
        assert (unread == 0).all()
        assert (np.abs(found[f"{head}/output/embedding"]).max(-1) > 0).all()


def test_an_untied_output_layer_is_that_table():
    cfg = decoder(tie_embeddings=False, num_layers=1)
    variables = small.params(cfg)
    output = small.apply(cfg, variables, {name: small.batch()[name] for name in ("tokens_BT", "valid_BT")})
    expected = np.float64(output.hidden) @ np.float64(variables["causal_lm"]["output"]["embedding"]).T
    np.testing.assert_allclose(output.logits["causal_lm"], expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_what_is_added_to_the_residual_starts_smaller():
    """GPT-2: by sqrt(2 layers), and nothing else does (Radford et al. 2019, section 2.3)."""
    layers = 3
    cfg = decoder(dim=64, mlp_dim=64, num_layers=layers, scale_residual_init=True)
    flat = tree.flatten(jax.jit(registry.init_params, static_argnums=0)(cfg, jax.random.key(0, impl="rbg")))
    for path, value in flat.items():
        if not path.endswith(("kernel", "embedding")):
            continue
        scaled = path.endswith(("attention/out/kernel", "mlp/wo/kernel"))
        expected = cfg.init_stddev / (math.sqrt(2 * layers) if scaled else 1)
        # Cut at two of its standard deviations, a normal's own is 0.88; 1536 values or more give it to 2%.
        assert abs(np.std(value) / expected - 0.8796) < 0.06, path
        assert np.abs(value).max() <= 2.001 * expected, path


SHAPES = {
    "masked_lm": (ROWS, PREDICTIONS, small.CONFIG.vocab_size),
    "next_sentence": (ROWS, 2),
    "replaced_token": (ROWS, LENGTH),
    "causal_lm": (ROWS, LENGTH, small.CONFIG.vocab_size),
    "pooled": (ROWS, small.CONFIG.dim),
    "sequence_classification": (ROWS, LABELS),
    "token_classification": (ROWS, LENGTH, LABELS),
    "question_answering": (ROWS, LENGTH, 2),
    "multiple_choice": (ROWS,),
}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("architecture", ["encoder", "decoder"])
def test_shapes_and_dtypes_of_the_heads(architecture, dtype):
    """Logits are float32 whatever is computed in; hidden states and the pooler's output are not. Parameters are."""
    heads = heads_of(architecture)
    make = decoder if architecture == "decoder" else small.config
    cfg = make(heads=heads, dtype=dtype, num_labels=LABELS)
    inputs = {name: x for name, x in small.batch(ROWS, LENGTH).items() if name in ("tokens_BT", "valid_BT")}
    if architecture == "encoder":
        inputs["masked_positions_BP"] = small.batch(ROWS, LENGTH)["masked_positions_BP"]
    shapes = registry.param_shapes(cfg)
    output = jax.eval_shape(functools.partial(small.apply, cfg), shapes, inputs)
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    assert (output.hidden.shape, output.hidden.dtype) == ((ROWS, LENGTH, cfg.dim), jnp.dtype(dtype))
    pooled = {} if output.pooled is None else {"pooled": output.pooled}
    assert {*output.logits, *pooled} == {*heads} <= {*SHAPES}
    for head, found in {**output.logits, **pooled}.items():
        assert (found.shape, found.dtype) == (SHAPES[head], jnp.dtype(dtype if head == "pooled" else "float32"))


@functools.partial(jax.jit, static_argnums=0)
def run(cfg, variables, inputs):
    return small.apply(cfg, variables, inputs)


def test_what_the_encoders_heads_read():
    """Sequences and choices the pooler's output, tokens and answers the last layer's."""
    heads = tuple(head for head in heads_of("encoder") if head != "masked_lm")
    cfg = small.config(heads=heads, num_labels=LABELS, pooler="gelu")
    variables = small.params(cfg)
    output = run(cfg, variables, {name: small.batch()[name] for name in ("tokens_BT", "valid_BT")})
    p, hidden = jax.tree.map(np.float64, variables), np.float64(output.hidden)
    gelu = reference.ACTIVATIONS["gelu"]
    pooled = gelu(reference.dense(p["pooler"], hidden[:, 0]))
    transformed = gelu(reference.dense(p["replaced_token"]["transform"], hidden))
    expected = {
        "pooled": pooled,
        "next_sentence": reference.dense(p["next_sentence"], pooled),
        "sequence_classification": reference.dense(p["sequence_classification"], pooled),
        "multiple_choice": reference.dense(p["multiple_choice"], pooled)[:, 0],
        "token_classification": reference.dense(p["token_classification"], hidden),
        "question_answering": reference.dense(p["question_answering"], hidden),
        "replaced_token": reference.dense(p["replaced_token"]["out"], transformed)[..., 0],
    }
    assert set(expected) == set(heads)
    for head, value in expected.items():
        found = output.pooled if head == "pooled" else output.logits[head]
        np.testing.assert_allclose(found, value, atol=2e-5, rtol=0, err_msg=head)


@pytest.mark.parametrize("side", ["right", "left"])
def test_a_decoder_classifies_by_its_last_token(side):
    cfg = decoder(heads=("sequence_classification", "token_classification"), num_labels=LABELS)
    variables, batch = small.params(cfg), small.batch()
    valid = batch["valid_BT"] if side == "right" else batch["valid_BT"][:, ::-1]
    output = run(cfg, variables, {"tokens_BT": batch["tokens_BT"], "valid_BT": valid})
    last = [np.flatnonzero(row)[-1] for row in np.asarray(valid)]
    assert (set(last) == {LENGTH - 1}) == (side == "left")
    p, hidden = jax.tree.map(np.float64, variables), np.float64(output.hidden)
    expected = reference.dense(p["sequence_classification"], hidden[np.arange(ROWS), last])
    np.testing.assert_allclose(output.logits["sequence_classification"], expected, atol=2e-5)
    assert set(variables["sequence_classification"]) == {"kernel"}  # as in transformers
    expected = reference.dense(p["token_classification"], hidden)
    np.testing.assert_allclose(output.logits["token_classification"], expected, atol=2e-5)

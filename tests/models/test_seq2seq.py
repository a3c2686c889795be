"""The encoder-decoder: against NumPy in float64, its padding, its two entrances, the sizes of the paper's models."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.nn import reference
from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.models import registry

CONFIG = small.config(
    architecture="encoder_decoder",
    num_decoder_layers=3,
    num_segments=0,
    activation="relu",
    embedding_norm=False,
    embedding_scale=True,
    position_embedding="sinusoidal",
    layer_norm_eps=1e-5,
    heads=("causal_lm",),
)


def batch():
    """Source of 9, target of 7 tokens; each row of either but the first is padded."""
    rng = np.random.default_rng(5)

    def side(length, lengths):
        tokens = jnp.asarray(rng.integers(0, CONFIG.vocab_size, (3, length)))
        return tokens, jnp.asarray(np.arange(length)[None] < np.array(lengths)[:, None])

    source, source_valid = side(9, [9, 4, 7])
    target, target_valid = side(7, [7, 6, 3])
    return {
        "tokens_BS": source,
        "valid_BS": source_valid,
        "target_tokens_BT": target,
        "target_valid_BT": target_valid,
    }


@functools.partial(jax.jit, static_argnums=0, static_argnames="method")
def run(cfg, variables, *args, method=None, **inputs):
    return registry.build(cfg).apply({"params": variables}, *args, **inputs, deterministic=True, method=method)


@pytest.mark.parametrize("norm_position", ["post", "pre"])
def test_against_numpy(norm_position):
    cfg, inputs = small.config(**(vars(CONFIG) | {"norm_position": norm_position})), batch()
    variables = small.params(cfg)
    memory, logits = reference.encoder_decoder(
        jax.tree.map(np.float64, variables), cfg, *(np.asarray(x) for x in inputs.values())
    )
    actual = run(cfg, variables, **inputs)
    assert actual.logits["causal_lm"].dtype == jnp.float32
    valid = np.asarray(inputs["target_valid_BT"])
    np.testing.assert_allclose(
        actual.logits["causal_lm"][valid], logits[valid], atol=5e-6 * np.abs(logits).max(), rtol=0
    )
    encoded = run(cfg, variables, inputs["tokens_BS"], valid_BS=inputs["valid_BS"], method="encode")
    valid = np.asarray(inputs["valid_BS"])
    np.testing.assert_allclose(encoded[valid], memory[valid], atol=5e-6 * np.abs(memory).max(), rtol=0)


def test_encode_and_decode_are_the_whole():
    inputs, variables = batch(), small.params(CONFIG)
    memory = run(CONFIG, variables, inputs["tokens_BS"], valid_BS=inputs["valid_BS"], method="encode")
    decoded = run(
        CONFIG,
        variables,
        inputs["target_tokens_BT"],
        valid_BT=inputs["target_valid_BT"],
        memory_BSD=memory,
        memory_valid_BS=inputs["valid_BS"],
        method="decode",
    )
    whole = run(CONFIG, variables, **inputs)
    np.testing.assert_allclose(
        decoded.logits["causal_lm"],
        whole.logits["causal_lm"],
        atol=1e-5 * np.abs(whole.logits["causal_lm"]).max(),
        rtol=0,
    )


def test_ids_under_padding_change_nothing():
    """Bitwise, of source and target; the tokens that are valid do change the logits of their own row alone."""
    inputs, variables = batch(), small.params(CONFIG)
    valid = np.asarray(inputs["target_valid_BT"])
    expected = np.asarray(run(CONFIG, variables, **inputs).logits["causal_lm"])
    other = dict(inputs)
    for tokens, mask in (("tokens_BS", "valid_BS"), ("target_tokens_BT", "target_valid_BT")):
        assert not inputs[mask].all()
        other[tokens] = jnp.where(inputs[mask], inputs[tokens], 50 - inputs[tokens] // 2)
    np.testing.assert_array_equal(
        np.asarray(run(CONFIG, variables, **other).logits["causal_lm"])[valid], expected[valid]
    )

    changed = inputs | {"tokens_BS": inputs["tokens_BS"].at[1, 3].set(inputs["tokens_BS"][1, 3] ^ 1)}
    moved = np.abs(np.asarray(run(CONFIG, variables, **changed).logits["causal_lm"]) - expected).max(-1)
    assert (moved[1] > 1e-4).all()
    assert (moved[[0, 2]] == 0).all()


def test_longer_padding_changes_nothing():
    inputs, variables = batch(), small.params(CONFIG)
    longer = {name: jnp.pad(x, ((0, 0), (0, 4))) for name, x in inputs.items()}
    valid = np.asarray(inputs["target_valid_BT"])
    expected = np.asarray(run(CONFIG, variables, **inputs).logits["causal_lm"])[valid]
    actual = np.asarray(run(CONFIG, variables, **longer).logits["causal_lm"])[:, :7][valid]
    np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_one_table_serves_source_target_and_output():
    tables = [path for path in tree.flatten(registry.param_shapes(CONFIG)) if path.endswith("embedding")]
    assert tables == ["embeddings/token/embedding"]


@pytest.mark.parametrize(
    ("dim", "mlp_dim", "heads", "millions"),
    [(512, 2048, 8, 63.1), (1024, 4096, 16, 214.2)],
    ids=["base", "big"],
)
def test_parameters_of_the_papers_models(dim, mlp_dim, heads, millions):
    """Table 3 says 65 and 213 million, with a vocabulary of about 37000 (section 5.1)."""
    cfg = TransformerConfig(
        **vars(CONFIG)
        | {
            "vocab_size": 37_000,
            "dim": dim,
            "mlp_dim": mlp_dim,
            "num_heads": heads,
            "num_layers": 6,
            "num_decoder_layers": 6,
            "max_length": 512,
        }
    )
    attention = 4 * (dim**2 + dim)
    mlp = 2 * dim * mlp_dim + mlp_dim + dim
    norm = 2 * dim
    expected = 37_000 * dim + 6 * (attention + mlp + 2 * norm) + 6 * (2 * attention + mlp + 3 * norm)
    assert registry.num_params(cfg) == expected
    assert round(expected / 1e6, 1) == millions

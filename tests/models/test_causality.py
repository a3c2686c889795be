"""No token sees what follows it, by gradient: of the decoder and of the encoder-decoder's decoder."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.models.test_seq2seq import CONFIG as SEQ2SEQ
from tx_jax.models import registry

T = 6
GPT = small.config(
    architecture="decoder",
    num_segments=0,
    norm_position="pre",
    activation="gelu_tanh",
    embedding_norm=False,
    layer_norm_eps=1e-5,
    heads=("causal_lm",),
)
# Every choice that gives attention more to see.
ROTARY = small.config(
    **(vars(GPT) | {"position_embedding": "rotary", "local_window": 4, "global_every": 2, "gated_mlp": True})
)


def influence(cfg, **inputs):
    """[T, T]: the largest |d logits[t] / d embedding of target token s|, where each token has an id of its own."""
    variables = small.params(cfg)

    @jax.jit
    def jacobian(rows):
        def logits(rows):
            # The table is also the output layer, so the path through the input is taken alone.
            token = {"embedding": variables["embeddings"]["token"]["embedding"].at[:T].set(rows)}
            changed = variables | {"embeddings": variables["embeddings"] | {"token": token}}
            hidden = registry.build(cfg).apply({"params": changed}, **inputs, deterministic=True).hidden[0]
            return hidden @ variables["embeddings"]["token"]["embedding"].T

        return jax.jacrev(logits)(rows)

    rows = variables["embeddings"]["token"]["embedding"][:T]
    return np.abs(np.asarray(jacobian(rows))).max(axis=(1, 3))


def assert_causal(found):
    later = np.triu(np.ones((T, T), bool), 1)
    assert (found[later] == 0).all()
    assert (found[~later] > 1e-4).all()


TOKENS, VALID = jnp.arange(T)[None], jnp.ones((1, T), bool)


@pytest.mark.parametrize("cfg", [GPT, ROTARY], ids=["GPT-2", "rotary, local, gated"])
def test_decoder(cfg):
    # Two layers: through the local one and the global one everything earlier arrives.
    assert_causal(influence(cfg, tokens_BT=TOKENS, valid_BT=VALID))


def test_decoder_of_an_encoder_decoder():
    source = 20 + jnp.arange(5)[None]
    assert_causal(
        influence(
            SEQ2SEQ,
            tokens_BS=source,
            valid_BS=jnp.ones_like(source, bool),
            target_tokens_BT=TOKENS,
            target_valid_BT=VALID,
        )
    )


def test_the_encoder_is_not_causal():
    """The counterpart: the measure does see a later token."""
    found = influence(small.CONFIG, tokens_BT=TOKENS, valid_BT=VALID)
    assert (found > 1e-4).all()


@functools.partial(jax.jit, static_argnums=0)
def run(cfg, variables, inputs):
    return small.apply(cfg, variables, inputs)


def test_ids_under_padding_change_nothing_in_the_decoder():
    """Also where the padding is on the left, where no causal mask hides it."""
    inputs = {name: small.batch()[name] for name in ("tokens_BT", "valid_BT")}
    for flip in (False, True):
        valid = inputs["valid_BT"][:, ::-1] if flip else inputs["valid_BT"]
        other = jnp.where(valid, inputs["tokens_BT"], 50 - inputs["tokens_BT"] // 2)
        rows = ({"tokens_BT": x, "valid_BT": valid} for x in (inputs["tokens_BT"], other))
        a, b = (run(GPT, small.params(GPT), x).logits["causal_lm"] for x in rows)
        np.testing.assert_array_equal(np.asarray(a)[np.asarray(valid)], np.asarray(b)[np.asarray(valid)])

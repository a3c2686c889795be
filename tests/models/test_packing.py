"""Several documents in one row: none sees another, and each comes out as if it were alone."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import small
from tests.models.test_causality import GPT, ROTARY

DEBERTA = small.config(
    num_segments=0,
    position_embedding="none",
    relative_attention=("c2p", "p2c"),
    relative_distance=12,
    relative_buckets=6,
    relative_norm=True,
    conv_kernel=3,
    enhanced_mask_decoder=True,
    heads=("masked_lm",),
)
CONFIGS = {
    "RoBERTa": small.config(heads=("masked_lm",), num_segments=0, position_offset=2),
    "sinusoids": small.config(heads=("masked_lm",), num_segments=0, position_embedding="sinusoidal"),
    "DeBERTa-v2": DEBERTA,
    "ModernBERT": small.config(heads=("masked_lm",), num_layers=3, **small.MODERNBERT),
    "GPT-2": GPT,
    "rotary decoder": ROTARY,
}
LENGTHS, PADDING = (5, 7, 3), 3
STARTS = np.cumsum((0, *LENGTHS))
LENGTH = sum(LENGTHS) + PADDING
ORDER = np.random.default_rng(3).permutation(small.CONFIG.vocab_size)
UNUSED = ORDER[LENGTH]  # a token in no document: its logit does not depend on their rows of the output layer


def packed():
    """One row of three documents and padding, which has the number 0."""
    documents = np.concatenate([np.full(n, i + 1) for i, n in enumerate(LENGTHS)] + [np.zeros(PADDING, int)])
    positions = np.concatenate([np.arange(n) for n in (*LENGTHS, PADDING)])
    return {
        "tokens_BT": jnp.asarray(ORDER[None, :LENGTH]),
        "valid_BT": jnp.asarray(documents > 0)[None],
        "documents_BT": jnp.asarray(documents)[None],
        "positions_BT": jnp.asarray(positions)[None],
    }


def run(cfg, inputs):
    return outputs(cfg, small.params(cfg), inputs)


@functools.partial(jax.jit, static_argnums=0)
def outputs(cfg, variables, inputs):
    """The hidden states, and the logits of the language model, which in DeBERTa take another path."""
    output = small.apply(cfg, variables, inputs)
    return output.hidden, output.logits[cfg.heads[0]]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_document_comes_out_as_if_it_were_alone(name):
    cfg, row = CONFIGS[name], packed()
    together = run(cfg, row)
    # One batch of the documents, padded, without a word about packing: positions are counted along the row.
    alone = {
        "tokens_BT": jnp.stack([jnp.roll(row["tokens_BT"][0], -start)[:9] for start in STARTS[:-1]]),
        "valid_BT": jnp.asarray(np.arange(9)[None] < np.array(LENGTHS)[:, None]),
    }
    for a, b in zip(together, run(cfg, alone), strict=True):
        for i, (start, length) in enumerate(zip(STARTS[:-1], LENGTHS, strict=True)):
            expected = b[i, :length]
            np.testing.assert_allclose(
                a[0, start : start + length], expected, atol=1e-5 * np.abs(expected).max(), rtol=0
            )


@pytest.mark.parametrize("name", ["RoBERTa", "DeBERTa-v2", "ModernBERT", "rotary decoder"])
def test_no_gradient_crosses_a_border(name):
    """From a document's outputs to the embeddings of the others: exactly zero. Every token has an id of its own."""
    cfg, row = CONFIGS[name], packed()
    variables = small.params(cfg)
    table = variables["embeddings"]["token"]["embedding"]

    @jax.jit
    def gradients(rows):
        def sums(rows):
            token = {"embedding": table.at[row["tokens_BT"][0]].set(rows)}
            changed = variables | {"embeddings": variables["embeddings"] | {"token": token}}
            hidden, logits = outputs(cfg, changed, row)
            tokens = (hidden[0] * jnp.cos(jnp.arange(cfg.dim))[None]).sum(-1) + logits[0, :, UNUSED]
            return jnp.stack([tokens[a:b].sum() for a, b in itertools.pairwise(STARTS)])

        return jax.jacrev(sums)(rows)

    found = np.abs(np.asarray(gradients(table[row["tokens_BT"][0]]))).max(-1)
    own = np.asarray(row["documents_BT"]) == np.arange(1, len(LENGTHS) + 1)[:, None]
    assert (found[~own] == 0).all()
    assert (found[own] > 1e-4).all()


def test_positions_given_are_positions_counted():
    """RoBERTa's, which are offset and padding apart, whatever side it is on; the model then sees no difference."""
    cfg, right = CONFIGS["RoBERTa"], {name: small.batch()[name] for name in ("tokens_BT", "valid_BT")}
    length = right["tokens_BT"].shape[1]
    counted = jnp.broadcast_to(jnp.arange(length)[None], right["tokens_BT"].shape)
    valid = np.asarray(right["valid_BT"])
    expected = run(cfg, right)[1][valid]
    given = run(cfg, right | {"positions_BT": counted})[1][valid]
    np.testing.assert_allclose(given, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
    # Reversed, so that the padding stands on the left, and with positions that say what came first.
    left = {name: x[:, ::-1] for name, x in (right | {"positions_BT": counted}).items()}
    mirrored = run(cfg, left)[1][:, ::-1][valid]
    np.testing.assert_allclose(mirrored, expected, atol=1e-5 * np.abs(expected).max(), rtol=0)


def test_positions_matter():
    """The counterpart: without positions of their own, or documents, the packed ones come out otherwise."""
    cfg = CONFIGS["RoBERTa"]
    expected = run(cfg, packed())[0][0, 5:12]
    for missing in ("positions_BT", "documents_BT"):
        other = run(cfg, {key: x for key, x in packed().items() if key != missing})[0][0, 5:12]
        assert np.abs(expected - other).max() > 1e-2, missing

"""Marian, BART and mBART against transformers, by the logits in tests/golden/seq2seq.npz (tests/parity/seq2seq.py)."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.golden import weights
from tests.parity import cases, seq2seq_cases
from tx_jax.convert.heads import shapes_of
from tx_jax.nn.embed import sinusoids
from tx_jax.nn.mlp import ACTIVATIONS, silu_derivative

TOLERANCE = 2e-5  # both sides' rounding, of logits up to 10


@functools.cache
def golden():
    with np.load(seq2seq_cases.GOLDEN) as file:
        return dict(file)


@pytest.mark.parametrize("name", cases.SEQ2SEQ)
def test_against_transformers(name):
    params, batch = seq2seq_cases.drawn(name)
    assert weights.fingerprint(params | batch) == str(golden()[f"{name}/drawn"])
    found = seq2seq_cases.logits(cases.SEQ2SEQ[name][1], params, batch)
    valid = batch["target_valid"]
    assert not valid.all()
    np.testing.assert_allclose(found[valid], golden()[f"{name}/logits"][valid], atol=TOLERANCE, rtol=0)


# A change to each choice that tells these families apart -> a case that must then differ.
CHOICES = [
    ("Marian", {"position_embedding": "sinusoidal"}),
    ("Marian", {"activation": "gelu"}),
    ("Marian", {"embedding_scale": False}),
    ("Marian", {"output_bias": False}),
    ("BART", {"position_offset": 1}),
    ("BART", {"norm_position": "pre"}),
    ("BART", {"decoder_embeddings": False}),
    ("mBART", {"first_norm": False}),
]


@pytest.mark.parametrize(("name", "change"), CHOICES, ids=[f"{name}: {change}" for name, change in CHOICES])
def test_the_comparison_sees_every_choice(name, change):
    config = dataclasses.replace(cases.SEQ2SEQ[name][1], **change)
    params, batch = seq2seq_cases.drawn(name)
    shapes = shapes_of(config)
    # Parameters that only the changed model has are trivial; tables may have other sizes.
    trivial = {path: np.full(shape, float(path.endswith("scale")), np.float32) for path, shape in shapes.items()}
    params = {path: np.resize(params.get(path, trivial[path]), shape) for path, shape in shapes.items()}
    found = seq2seq_cases.logits(config, params, batch)
    assert np.abs(found - golden()[f"{name}/logits"])[batch["target_valid"]].max() > 10 * TOLERANCE


def test_halves_of_sinusoids_are_a_permutation():
    positions = jnp.arange(40)[None]
    alternating, halves = sinusoids(positions, 12), sinusoids(positions, 12, halves=True)
    np.testing.assert_array_equal(halves, jnp.concatenate([alternating[..., 0::2], alternating[..., 1::2]], axis=-1))


def test_the_derivative_of_silu():
    x = jnp.linspace(-9, 9, 101)
    np.testing.assert_allclose(jax.vmap(jax.grad(jax.nn.silu))(x), silu_derivative(x), atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(ACTIVATIONS["silu"]))(x), silu_derivative(x), atol=1e-6)

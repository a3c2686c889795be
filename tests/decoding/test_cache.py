"""With the cache, logits are what they are without it, in every form of a model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding import models
from tx_jax.decoding import steps

LENGTHS = (3, 11, 7)  # of the prompts: rows of one batch continue at different places
NEW = 6


def rows_of(form, rng):
    sizes = [1, 1, 1] if form.startswith("seq2seq") else LENGTHS
    ids = [rng.integers(0, 53, n).tolist() for n in sizes]
    sources = [rng.integers(0, 53, n).tolist() for n in LENGTHS] if form.startswith("seq2seq") else []
    return ids, sources


SHORT = ("gpt2", "rotary_window", "seq2seq_post", "seq2seq_pre")


@pytest.mark.parametrize(
    "form", [form if form in SHORT else pytest.param(form, marks=pytest.mark.long) for form in models.FORMS]
)
def test_logits_are_those_without_a_cache(form):
    """Token by token behind right-padded prompts, whatever the padding is; the window is shorter than the rows."""
    model, rng = models.toy(form, 53, num_layers=2), np.random.default_rng(3)
    model_logits = functools.partial(models.logits, model)
    ids, sources = rows_of(form, rng)
    more = rng.integers(0, 53, (len(LENGTHS), NEW))
    prompts = models.prompts(*ids, sources=sources, filler=51)
    prefill = jax.jit(steps.prefill, static_argnums=(0, 3, 4))
    step = jax.jit(steps.step, static_argnums=(0, 5))
    logits, kept = prefill(model.model, model.params, prompts, 20, steps.Writable(53))
    for count in range(NEW + 1):
        for row, prompt in enumerate(ids):
            expected = model_logits([*prompt, *more[row, :count]], sources[row] if sources else None)[-1]
            np.testing.assert_allclose(logits[row], expected, atol=1e-5 * np.abs(expected).max(), rtol=0)
        if count < NEW:
            first = prompts.lengths_B + count
            logits, kept = step(model.model, model.params, jnp.asarray(more[:, count]), first, kept, steps.Writable(53))


def test_ids_beyond_the_vocabulary_have_no_probability():
    model = models.toy("gpt2", 53)
    logits, _ = steps.prefill(model.model, model.params, models.prompts([1, 2]), 4, steps.Writable(50))
    assert np.isneginf(logits[:, 50:]).all()
    assert np.isfinite(logits[:, :50]).all()


def test_several_rows_of_a_prompt_share_its_memory():
    """Of a source, keys and values are kept once; rows of one prompt may have different tokens."""
    model = models.toy("seq2seq_post", 53)
    sources = [[5, 6, 7], [8, 9, 10]]
    prompts = models.prompts([1], [1], sources=sources)
    _, kept = steps.prefill(model.model, model.params, prompts, 4, steps.Writable(53))
    assert all(len(x) == 2 for x in jax.tree.leaves(kept.memory))
    tokens = jnp.asarray([3, 4, 5, 6, 7, 8])
    logits, _ = steps.step(
        model.model, model.params, tokens, jnp.ones(6, jnp.int32), kept.repeated(3), steps.Writable(53)
    )
    for row, token in enumerate(tokens.tolist()):
        expected = models.logits(model, [1, token], sources[row // 3])[-1]
        np.testing.assert_allclose(logits[row], expected, atol=1e-5 * np.abs(expected).max(), rtol=0)

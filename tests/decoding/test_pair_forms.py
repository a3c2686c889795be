"""What a form of pairs does to translations: tokens around a source, one that comes first, those never written."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding import models
from tx_jax.decoding import Options, generate
from tx_jax.decoding.prompts import encode
from tx_jax.decoding.steps import Writable
from tx_jax.text.pair_forms import PairForm

TEXTS = ["the cat", "one two three"]


def model(form):
    """A translation model whose tokenizer has this form."""
    plain = models.model("seq2seq_marian", "byte_bpe", num_layers=1, num_decoder_layers=1)
    return dataclasses.replace(plain, tokenizer=plain.tokenizer.with_pair_form(PairForm(form)))


def favouring(plain, token, by):
    params = jax.tree.map(lambda x: x, plain.params)
    params["causal_lm"]["bias"] = params["causal_lm"]["bias"].at[token].add(by)
    return dataclasses.replace(plain, params=params)


def test_only_what_is_writable_has_a_probability():
    logits = jnp.arange(6.0)[None].repeat(2, axis=0)
    writable = Writable(5, first=(3,), never=(1, 4))
    np.testing.assert_array_equal(np.isfinite(writable.only(logits, first=False)), [[1, 0, 1, 1, 0, 0]] * 2)
    np.testing.assert_array_equal(np.isfinite(writable.only(logits, first=True)), [[0, 0, 0, 1, 0, 0]] * 2)


@pytest.mark.parametrize(
    "options",
    [Options(temperature=0, max_new_tokens=6), Options(num_beams=3, num_return_sequences=2, max_new_tokens=6)],
)
def test_bart_writes_its_start_first_and_marian_never_its_padding(options):
    bart = model("bart")
    bos, pad, eos = bart.tokenizer.bos_id, bart.tokenizer.pad_id, bart.tokenizer.eos_id
    (row, *_) = encode(bart.model, bart.tokenizer, TEXTS, [0, 1], options)
    assert (row.source[0], row.source[-1], row.ids) == (bos, eos, (eos,))
    for one in generate(favouring(bart, bos, -30.0), TEXTS, options):
        assert (one.tokens[0], one.log_probs[0]) == (bos, 0.0)
        assert bos not in one.tokens[1:]
        assert not one.text.startswith("<s>")

    marian = favouring(model("marian"), pad, 30.0)
    (row, *_) = encode(marian.model, marian.tokenizer, TEXTS, [0, 1], options)
    assert (row.source[-1], row.ids) == (eos, (pad,))
    found = generate(marian, TEXTS, options)
    assert not any(pad in one.tokens for one in found)
    without = generate(model("marian"), TEXTS, options)
    assert [one.tokens for one in found] == [one.tokens for one in without]
    np.testing.assert_allclose([one.score for one in found], [one.score for one in without], rtol=1e-5)

"""Beam search against every sequence there is, and against the search in plain lists."""

import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding import models
from tx_jax.decoding import beam
from tx_jax.decoding.steps import Writable, for_decoding

END = 2


def run(model, prompts, limits, *, beams, exponent=0.0, normalization="length", early_stopping=False, end=END, **more):
    """For each prompt [(score, ids)], the best first."""
    vocabulary = model.model.vocab_size
    program = beam.Search(
        for_decoding(model.model), Writable(vocabulary), max(limits), beams, 1, normalization, early_stopping, **more
    )
    knobs = beam.SearchKnobs(
        jnp.float32(exponent), jnp.float32(1.3), jnp.asarray(limits, jnp.int32), jnp.asarray([end], jnp.int32)
    )
    size = prompts.tokens_BP.shape[1] + max(limits)
    found = beam.search(program, model.params, prompts, knobs, cache_size=size)
    rows = zip(*(np.asarray(x) for x in (found.scores_BK, found.tokens_BKL, found.counts_BK)), strict=True)
    return [[(float(score), tuple(ids[:n].tolist())) for score, ids, n in zip(*row, strict=True) if n] for row in rows]


def agree(found, expected):
    assert [ids for _, ids in found] == [ids for _, ids in expected]
    np.testing.assert_allclose([s for s, _ in found], [s for s, _ in expected], atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize(("exponent", "normalization"), [(0.0, "length"), (1.0, "length"), (0.6, "gnmt")])
def test_wide_enough_it_finds_the_best_of_all_sequences(exponent, normalization):
    """5 tokens, at most 2: with 5 beams no hypothesis is dropped, so the n best are those of all sequences."""
    model = models.toy("gpt2", 5)
    prompts = [[3, 1, 4], [1], [0, 2]]
    found = run(
        model,
        models.prompts(*prompts),
        [2, 2, 2],
        beams=5,
        exponent=exponent,
        normalization=normalization,
        early_stopping="never",
    )
    for prompt, best in zip(prompts, found, strict=True):
        every = models.every_sequence(models.next_of(model, prompt), 5, END, 2)
        size = (lambda n: n) if normalization == "length" else (lambda n: (5 + n) / 6)
        expected = sorted(((s / size(len(ids)) ** exponent, ids) for s, ids in every), key=lambda pair: -pair[0])
        agree(best, expected[:5])


@pytest.mark.parametrize(
    ("form", "early_stopping"),
    [
        ("gpt2", False),
        ("gpt2", True),
        ("gpt2", "never"),
        ("seq2seq_post", "never"),
        pytest.param("seq2seq_post", False, marks=pytest.mark.long),
        pytest.param("seq2seq_post", True, marks=pytest.mark.long),
    ],
)
def test_it_is_the_search_in_lists(form, early_stopping):
    """Prompts of several lengths and limits in one batch: each is searched by itself, and its penalty counts generated
    tokens alone (transformers#20901, #21368, #26624, #27816)."""
    model = models.toy(form, 7)
    seq2seq = form.startswith("seq2seq")
    texts, limits = [[3, 1, 4, 1, 5], [6], [0, 2, 6], [5, 5]], [6, 3, 6, 1]
    prompts = models.prompts(*[[1]] * 4, sources=texts) if seq2seq else models.prompts(*texts)
    for exponent in (0.0, 1.0, -0.5):
        found = run(model, prompts, limits, beams=3, exponent=exponent, early_stopping=early_stopping)
        for text, limit, best in zip(texts, limits, found, strict=True):
            after = models.next_of(model, [1], text) if seq2seq else models.next_of(model, text)
            expected = models.beam_search(
                after, END, limit, 3, lambda n, e=exponent: n**e, early_stopping, rising=exponent > 0
            )
            agree(best, expected)


def test_one_beam_is_greedy():
    model = models.toy("gpt2", 23)
    prompts = [[3, 1, 4], [1]]
    for row, best in zip(prompts, run(model, models.prompts(*prompts), [7, 7], beams=1, exponent=1.0), strict=True):
        assert list(best[0][1]) == models.greedy(models.next_of(model, row), END, 7)


def test_the_repetition_penalty_follows_its_hypothesis():
    """What a beam has had is that beam's: reordered with it."""
    model = models.toy("gpt2", 7)

    def penalized(ids):
        log_probs = models.next_of(model, [3, 1])(ids).copy()
        log_probs[[*{3, 1, *ids}]] *= 1.3
        return log_probs

    found = run(model, models.prompts([3, 1]), [6], beams=3, penalizes=True)
    agree(found[0], models.beam_search(penalized, END, 6, 3, lambda n: 1.0, False, rising=False))
    assert found != run(model, models.prompts([3, 1]), [6], beams=3)


def test_fewer_sequences_than_beams():
    """What does not exist is not returned: of one token of two there are two sequences."""
    model = models.toy("gpt2", 2)
    found = run(model, models.prompts([0]), [1], beams=2, end=1, early_stopping="never")
    assert sorted(ids for _, ids in found[0]) == [(0,), (1,)]
    model = models.toy("gpt2", 3)
    found = run(model, models.prompts([0]), [1], beams=3, end=1)
    assert len(found[0]) == 3

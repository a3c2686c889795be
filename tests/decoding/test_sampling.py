"""Greedy decoding and sampling: a batch is its rows, and each row is what the definition says."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.decoding import models, sharded
from tests.multidevice import processes
from tx_jax.decoding import Options, generate, sampling
from tx_jax.decoding.steps import Writable, for_decoding

TEXTS = ["the cat", "a größe, naïve café", "one two three four five one two", "o"]


@pytest.fixture(scope="module")
def model():
    return models.model("gpt2")


@pytest.mark.parametrize("form", ["gpt2", pytest.param("seq2seq_pre", marks=pytest.mark.long)])
def test_greedy_is_the_most_probable_token_each_time(form):
    """Prompts of different lengths in one batch; nothing is padded where it is written out."""
    model = models.model(form)
    tokenizer = model.tokenizer
    found = generate(model, TEXTS, Options(temperature=0, max_new_tokens=10))
    for text, one in zip(TEXTS, found, strict=True):
        ids = tokenizer.encode(text)
        seq2seq = form.startswith("seq2seq")
        after = models.next_of(model, *(([tokenizer.bos_id], [*ids, tokenizer.eos_id]) if seq2seq else (ids,)))
        assert one.tokens == models.greedy(after, tokenizer.eos_id, 10)
        log_probs = [after(tuple(one.tokens[:i]))[token] for i, token in enumerate(one.tokens)]
        np.testing.assert_allclose(one.log_probs, log_probs, atol=1e-4)
        assert one.score == pytest.approx(sum(log_probs), abs=1e-3)


def sampled(model, texts, **changes):
    options = Options(**{"max_new_tokens": 8, "top_p": 0.9, "temperature": 1.5, "seed": 5} | changes)
    return options, lambda numbers, **more: [
        (one.number, one.sample, one.tokens) for one in generate(model, texts, options, numbers=numbers, **more)
    ]


def test_a_batch_gives_what_single_calls_give(model):
    options, run = sampled(model, TEXTS, num_return_sequences=2)
    together = run([3, 1, 4, 9])
    assert [(number, sample) for number, sample, _ in together] == [(n, s) for n in (3, 1, 4, 9) for s in (0, 1)]
    assert len({tuple(tokens) for *_, tokens in together}) > 4
    for text, number in zip(TEXTS, (3, 1, 4, 9), strict=True):
        alone = generate(model, [text], options, numbers=[number])
        assert [(one.number, one.sample, one.tokens) for one in alone] == [one for one in together if one[0] == number]
    assert run([3, 1, 4, 9], batch_size=3) == together
    _, other = sampled(model, TEXTS, num_return_sequences=2, seed=6)
    assert other([3, 1, 4, 9]) != together


def test_what_is_drawn_has_the_filtered_distribution():
    """10,000 rows of one prompt: frequencies of the first token, within 5 standard deviations."""
    model, rows = models.toy("gpt2", 9), 10_000
    program = sampling.Program(model.model, Writable(9), 1, rows, True, top_k=6, filters=("top_p",))
    knobs = knobs_of(rows, temperature=jnp.float32(2.0), top_p=jnp.float32(0.8))
    found = sampling.start(program, model.params, models.prompts([1, 2]), knobs, cache_size=3)
    after = models.next_of(model, [1, 2])(()) / 2.0
    probabilities = np.exp(models.log_softmax(after))
    order = np.argsort(-probabilities)
    probabilities[order[6:]] = 0
    probabilities /= probabilities.sum()
    probabilities[[i for n, i in enumerate(order) if probabilities[order[:n]].sum() >= 0.8]] = 0
    probabilities /= probabilities.sum()
    assert 2 <= (probabilities > 0).sum() < 6
    frequencies = np.bincount(np.asarray(found.tokens_NL)[:, 0], minlength=9) / rows
    assert (frequencies[probabilities == 0] == 0).all()
    assert (np.abs(frequencies - probabilities) <= 5 * np.sqrt(probabilities * (1 - probabilities) / rows)).all()


def knobs_of(rows, stop_ids=(-1,), limits=None, **changes):
    ones = dict.fromkeys(("temperature", "top_p", "penalty"), jnp.float32(1))
    values = ones | {"min_p": jnp.float32(0), "key": jax.random.key(0)} | changes
    return sampling.Knobs(
        **values,
        numbers_N=jnp.zeros(rows, jnp.int32),
        samples_N=jnp.arange(rows),
        limits_N=jnp.asarray([8] * rows if limits is None else limits, jnp.int32),
        stop_ids=jnp.asarray(stop_ids, jnp.int32),
    )


def run_greedy(model, prompts, knobs, longest=8, **changes):
    program = sampling.Program(
        for_decoding(model.model), Writable(model.model.vocab_size), longest, 1, False, **changes
    )
    size = prompts.tokens_BP.shape[1] + longest
    rows = sampling.start(program, model.params, prompts, knobs, cache_size=size)
    rows = sampling.proceed(program, model.params, rows, knobs, jnp.int32(longest))
    return [row[:n].tolist() for row, n in zip(np.asarray(rows.tokens_NL), np.asarray(rows.counts_N), strict=True)]


def test_a_row_that_has_ended_ends_no_other():
    """(transformers#20901.) Each row ends by itself, at an end token or at its limit, and is what it is alone."""
    model, ids = models.toy("sinusoidal", 23), [[1, 2], [3, 4, 5, 6, 7], [8], [9, 10, 11]]
    free = run_greedy(model, models.prompts(*ids), knobs_of(4))
    end = free[0][2]
    together = run_greedy(model, models.prompts(*ids), knobs_of(4, [end], [8, 8, 3, 8]))
    assert together[0] == free[0][: free[0].index(end) + 1]
    assert len({len(row) for row in together}) > 1
    for row, limit, one in zip(ids, [8, 8, 3, 8], together, strict=True):
        assert one == models.greedy(models.next_of(model, row), end, limit)


def test_no_id_is_special_by_its_number():
    """(t5x.) The id 0 is a token like any other, in a prompt and among what follows, where it is not the end token."""
    model = models.toy("sinusoidal", 23)
    first = run_greedy(model, models.prompts([1, 2]), knobs_of(1))[0]
    order = np.arange(23)
    order[[0, first[0]]] = order[[first[0], 0]]  # what was the first token is now 0
    model.params["embeddings"]["token"]["embedding"] = model.params["embeddings"]["token"]["embedding"][order]
    prompt = order[[1, 2]].tolist()
    assert run_greedy(model, models.prompts(prompt), knobs_of(1, [22]))[0] == order[first].tolist()
    assert run_greedy(model, models.prompts(prompt), knobs_of(1, [0]))[0] == [0]


def test_the_repetition_penalty_does_not_see_padding():
    """A penalty that forbids what was there. The padding of the shorter prompt is a token that it would choose."""
    model = models.toy("gpt2", 23)
    ids = [[3, 4], [5, 6, 7, 8, 9, 10]]
    knobs = knobs_of(2, penalty=jnp.float32(1e6))
    wanted = run_greedy(model, models.prompts(ids[0]), knobs_of(1, penalty=knobs.penalty), penalizes=True)[0]
    assert len({*ids[0], *wanted}) == len(ids[0]) + len(wanted)
    together = run_greedy(model, models.prompts(*ids, filler=wanted[0]), knobs, penalizes=True)
    assert together[0] == wanted
    assert (
        together[1] == run_greedy(model, models.prompts(ids[1]), knobs_of(1, penalty=knobs.penalty), penalizes=True)[0]
    )


def test_programs_are_compiled_for_few_lengths(model, monkeypatch):
    """Prompts of 1 to 16 tokens and outputs of 1 to 16 are one shape."""
    shapes = set()
    original = sampling.start
    monkeypatch.setattr(
        sampling,
        "start",
        lambda program, params, prompts, knobs, **sizes: (
            shapes.add((program, prompts.tokens_BP.shape, sizes["cache_size"])),
            original(program, params, prompts, knobs, **sizes),
        )[1],
    )
    for text, count in (("o", 1), ("the cat", 4), ("one two", 9)):
        generate(model, [text], Options(temperature=0, max_new_tokens=count))
    assert len(shapes) == 1


@pytest.fixture(scope="module")
def on_meshes():
    return processes.run("tests.decoding.sharded")


@pytest.mark.long
@pytest.mark.parametrize("name", sharded.RUNS)
def test_on_a_mesh(on_meshes, name):
    """Rows over the data axes, heads over tensor: the same sequences as on one device."""
    found = on_meshes[name]
    assert found["tokens"] == found["expected"]
    assert found["difference"] < 1e-4
    assert found["cache"] == sharded.CACHE

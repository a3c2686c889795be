"""The report on a domain: where words stand, how likely a model finds them, what lies near them."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from configs import bert_base
from tests.models import small
from tx_jax import sharding, text
from tx_jax.config import MeshConfig, from_config_dict, to_dict
from tx_jax.errors import InputError
from tx_jax.evaluation import domain
from tx_jax.evaluation.domain import Occurrence
from tx_jax.models import registry
from tx_jax.runs.trained import Trained


@pytest.fixture(scope="module")
def model():
    texts = iter(["the red cat sleeps under the old tree", "a cat and a dog see the tree"] * 20)
    tokenizer = text.train("wordpiece", texts, vocab_size=60).with_tokens(["covid"])
    config = small.config(vocab_size=tokenizer.vocab_size + 3, heads=("masked_lm",), max_length=24)
    mesh = sharding.make_mesh(MeshConfig(1, 1, 1), jax.devices()[:1])
    return Trained(config, None, tokenizer, small.params(config), None, mesh)


def one_by_one(model, occurrence):
    """The probability of the word's pieces, all of them masked, from the logits at every position."""
    tokenizer = model.tokenizer
    before, after = tokenizer.encode(occurrence.before), tokenizer.encode(occurrence.after)
    (pieces,) = tokenizer.encode_words([occurrence.word])
    ids = [tokenizer.cls_id, *before, *[tokenizer.mask_id] * len(pieces), *after, tokenizer.sep_id]
    tokens = np.full((1, model.model.max_length), tokenizer.pad_id, np.int32)
    tokens[0, : len(ids)] = ids
    logits = (
        jax.jit(registry.build(model.model).apply, static_argnames="deterministic")(
            {"params": model.params}, tokens, valid_BT=np.arange(tokens.size)[None] < len(ids), deterministic=True
        )
    ).logits["masked_lm"][0, 1 + len(before) : 1 + len(before) + len(pieces), : tokenizer.vocab_size]
    odds = np.exp(np.asarray(logits, np.float64))
    return np.prod([row[piece] / row.sum() for row, piece in zip(odds, pieces, strict=True)])


def test_a_word_of_several_pieces_has_the_product_of_their_probabilities(model):
    found = [
        Occurrence("covid", "the red cat", "under the tree"),
        Occurrence("sleeper", "a", ""),
        Occurrence("cat", "", "sleeps"),
    ]
    assert len(model.tokenizer.encode("sleeper")) > 1
    expected = [one_by_one(model, occurrence) for occurrence in found]
    np.testing.assert_allclose(domain.word_probabilities(model, found), expected, rtol=1e-4)


@pytest.mark.long
def test_more_occurrences_than_a_batch_and_none(model):
    found = [Occurrence("cat", "the " * number, "sleeps") for number in range(18)]
    expected = [one_by_one(model, occurrence) for occurrence in found]
    np.testing.assert_allclose(domain.word_probabilities(model, found), expected, rtol=1e-4)
    assert domain.word_probabilities(model, []).shape == (0,)


def test_what_exceeds_the_model_is_cut_around_the_word(model):
    long = Occurrence("cat", "the dog " * 30, "sleeps " * 30)
    assert 0 < domain.word_probabilities(model, [long])[0] < 1


def test_occurrences_are_found_in_held_out_documents(tiny_store):
    tokenizer, split = tiny_store.tokenizer(), tiny_store.split("validation")
    words = [w for w in tokenizer.tokens(range(tokenizer.vocab_size)) if len(w) > 1 and w.isalpha()]
    (word,) = sorted(words, key=lambda w: -split.unigram[tokenizer.encode(w)[0]])[:1]
    (token,) = tokenizer.encode_words([word])[0]
    found = domain.occurrences(split, [word], tokenizer, 10**6)
    assert len(found) == split.unigram[token]
    assert {occurrence.word for occurrence in found} == {word}
    assert len(domain.occurrences(split, [word], tokenizer, 3)) == min(3, len(found))


def test_neighbours_are_nearest_by_cosine(model):
    table = np.array(model.params["embeddings"]["token"]["embedding"])
    (covid,), (tree,) = model.tokenizer.encode_words(["covid", "tree"])
    table[tree] = 7 * table[covid]
    params = {**model.params, "embeddings": {**model.params["embeddings"], "token": {"embedding": table}}}
    near = domain.neighbours(dataclasses.replace(model, params=params), ["covid"], top=3)["covid"]
    assert near[0] == ("tree", pytest.approx(1))
    assert len(near) == 3
    assert not {"covid", "[MASK]", "[PAD]"} & {token for token, _ in near}


@pytest.mark.parametrize(("word", "pieces"), [("sleeper", "sl ##ee ##p ##er"), ("中", r"\[UNK\]")])
def test_a_word_that_is_no_token_is_refused(model, tiny_store, word, pieces):
    with pytest.raises(InputError, match=f"'{word}' is not a token of the model: its pieces are {pieces}"):
        domain.neighbours(model, ["covid", word])
    with pytest.raises(InputError, match=f"'{word}' is not a token of the model"):
        domain.occurrences(tiny_store.split("validation"), [word], model.tokenizer, 5)


def fine_tuning(folder, seeds=(0, 1), **changes):
    """The files of a fine-tuning with several seeds that a report reads."""
    c = bert_base.get_config("smoke")
    c.update(seed=seeds[0], start_from=folder.name)
    c.update(changes)
    (folder / f"seed_{seeds[0]}").mkdir(parents=True)
    (folder / f"seed_{seeds[0]}/config.json").write_text(json.dumps(to_dict(from_config_dict(c))))
    scores = {"seeds": list(seeds), "validation": {"accuracy": {"mean": 0.5, "deviation": 0.1, "values": [0.4, 0.6]}}}
    (folder / "seeds.json").write_text(json.dumps(scores))
    return scores


def test_fine_tunings_of_each_model_there_is(tmp_path):
    with pytest.raises(InputError, match=r"has no fine-tuning results: original/seeds.json, after/seeds.json"):
        domain.fine_tunings(tmp_path, ["original", "after"])
    scores = {name: fine_tuning(tmp_path / name) for name in ("original", "after")}
    assert domain.fine_tunings(tmp_path, ["original", "before", "after"]) == scores


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seeds": (0, 2)}, r"seeds: \[0, 1\] -> \[0, 2\]"),
        ({"optimizer": {"learning_rate": 1e-3}}, "optimizer.learning_rate: 0.0001 -> 0.001"),
    ],
)
def test_fine_tunings_that_do_not_compare(tmp_path, changes, said):
    fine_tuning(tmp_path / "original")
    fine_tuning(tmp_path / "after", **changes)
    with pytest.raises(InputError, match=f"original and after cannot be compared: {said}. Remove"):
        domain.fine_tunings(tmp_path, ["original", "after"])

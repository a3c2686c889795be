"""Filling masks with every kind of tokenizer, and what cannot be filled."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.interpret import models
from tx_jax import sharding, text
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.errors import InputError
from tx_jax.evaluation import fill_mask
from tx_jax.models import registry
from tx_jax.runs import trained

WORDS = ["The niño reads a red book.", "A red cat sleeps under the tree, and the niño reads."] * 20


@pytest.fixture(scope="module")
def tokenizers():
    sizes = {"wordpiece": 120, "byte_bpe": 330, "gpt2_bpe": 330, "sentencepiece_bpe": 75}
    return {kind: text.train(kind, iter(WORDS), vocab_size=size) for kind, size in sizes.items()}


@pytest.fixture
def model_of(smoke_config):
    config = from_config_dict(smoke_config).model

    def model_of(tokenizer):
        size = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
        return trained.Trained(
            size, None, tokenizer, params={}, step=None, mesh=sharding.make_mesh(MeshConfig(1, 1, 1))
        )

    return model_of


@pytest.fixture
def seen(monkeypatch):
    """Token ids that reach a model which always predicts token 7."""
    seen = []

    def compiled(config):
        def logits(params, tokens, valid, places):
            seen.append(tokens[valid].tolist())
            return np.eye(1000, dtype=np.float32)[[7] * len(places)] * 5

        return logits

    monkeypatch.setattr(fill_mask, "_compiled", compiled)
    return seen


@pytest.mark.parametrize("kind", ["wordpiece", "byte_bpe", "sentencepiece_bpe"])
def test_the_mask_stands_where_the_word_stood(tokenizers, model_of, seen, kind):
    """So the model sees the same ids as where training masks a word of one token."""
    tokenizer = tokenizers[kind]
    mask = tokenizer.token(tokenizer.mask_id)
    ids, place = tokenizer.encode("a red book"), len(tokenizer.encode("a"))
    assert len(ids) == len(tokenizer.encode("a book")) + 1, "the word should be one token"
    ids[place] = tokenizer.mask_id
    (candidates,) = fill_mask.fill_mask(model_of(tokenizer), f"a {mask} book", top=2)
    assert seen == [[tokenizer.cls_id, *ids, tokenizer.sep_id]]
    assert len(candidates) == 2
    assert candidates[0][1] > candidates[1][1]


def test_texts_of_similar_lengths_share_a_program_that_padding_does_not_change():
    model = models.model("BERT")
    texts = ["the [MASK] sits", "the old [MASK] sits by the [MASK] river and [MASK]"]
    fill_mask._compiled.cache_clear()
    found = [fill_mask.fill_mask(model, text, top=3) for text in texts]
    assert list(map(len, found)) == [1, 3]
    tokenizer = model.tokenizer
    ids = np.array([[tokenizer.cls_id, *tokenizer.encode_masked(texts[1]), tokenizer.sep_id]])
    apply = jax.jit(functools.partial(registry.build(model.model).apply, deterministic=True))
    output = apply({"params": model.params}, ids, valid_BT=np.ones(ids.shape, bool))
    expected = jax.nn.softmax(output.logits["masked_lm"])[ids == tokenizer.mask_id]
    best = np.sort(expected, axis=-1)[:, :-4:-1]
    np.testing.assert_allclose([[p for _, p in mask] for mask in found[1]], best, rtol=1e-5)
    compiled = fill_mask._compiled(model.model)
    assert compiled._cache_size() == 2  # one mask, and three filled up to four


def test_candidates_are_readable(tokenizers):
    tokenizer = tokenizers["byte_bpe"]
    wanted = tokenizer.encode("the niño")[-1]
    assert tokenizer.token(wanted) == "Ġni\u00c3\u00b1o"
    assert fill_mask._text(tokenizer, wanted) == "niño"
    part = next(i for i in range(tokenizer.vocab_size) if tokenizer.token(i) == "\u00c3")
    assert fill_mask._text(tokenizer, part) == "\u00c3"
    assert fill_mask._text(tokenizers["wordpiece"], 2) == "[CLS]"


def test_what_cannot_be_filled_is_said(tokenizers, model_of, seen):
    with pytest.raises(InputError, match="no <mask> in 'a red book'"):
        fill_mask.fill_mask(model_of(tokenizers["byte_bpe"]), "a red book", top=1)
    with pytest.raises(InputError, match="no cls and no sep and no mask token"):
        fill_mask.fill_mask(model_of(tokenizers["gpt2_bpe"]), "a <mask> book", top=1)
    with pytest.raises(InputError, match="tokens, but the model takes at most"):
        fill_mask.fill_mask(model_of(tokenizers["wordpiece"]), "[MASK] book " * 2000, top=1)
    assert seen == []

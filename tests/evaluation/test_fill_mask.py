"""Filling masks with every kind of tokenizer, and what cannot be filled."""

import dataclasses

import numpy as np
import pytest

from tx_jax import sharding, text
from tx_jax.config import MeshConfig, from_config_dict
from tx_jax.errors import InputError
from tx_jax.evaluation import fill_mask
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

    class Model:
        def apply(self, variables, tokens, **inputs):
            seen.append(tokens[0].tolist())
            logits = np.zeros((*tokens.shape, 1000), np.float32)
            logits[..., 7] = 5.0
            return dataclasses.make_dataclass("Output", ["logits"])({"masked_lm": logits})

    monkeypatch.setattr(fill_mask.registry, "build", lambda config: Model())
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

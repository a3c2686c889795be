"""Words added to a model: the tokenizer reads them as one, and their rows begin as the mean of similar words."""

import numpy as np
import pytest

from tests.models import small
from tx_jax import text, tree
from tx_jax.convert.model_dir import Model
from tx_jax.convert.new_tokens import add_tokens, pieces_of
from tx_jax.errors import InputError, InputWarning

TEXT = ["The virus spreads fast in a pandemic.", "Nobody expected such a pandemic of the virus."] * 20


@pytest.fixture(scope="module", params=["wordpiece", "byte_bpe"])
def model(request):
    sizes = {"wordpiece": 80, "byte_bpe": 320}
    tokenizer = text.train(request.param, iter(TEXT), vocab_size=sizes[request.param])
    config = small.config(vocab_size=tokenizer.vocab_size, heads=("masked_lm",))
    params = {path: np.asarray(x) for path, x in tree.flatten(small.params(config)).items()}
    return Model(config, params, tokenizer, None)


def mean_of(model, words, path):
    return np.mean([model.params[path][pieces_of(word, model.tokenizer)].mean(axis=0) for word in words], axis=0)


PATHS = ("embeddings/token/embedding", "masked_lm/bias")


def test_new_rows_are_means_of_similar_words_and_all_others_stay(model):
    larger = add_tokens(model, ["covid", "corona"], {"covid": ["virus", "pandemic"]})
    size = model.tokenizer.vocab_size
    assert larger.tokenizer.vocab_size == larger.config.vocab_size == size + 2
    (covid,), (corona,) = larger.tokenizer.encode_words(["covid", "corona"])
    assert {covid, corona} == {size, size + 1}
    assert any(len(pieces_of(word, model.tokenizer)) > 1 for word in ("virus", "pandemic", "corona"))
    for path, x in larger.params.items():
        np.testing.assert_array_equal(x[:size] if path in PATHS else x, model.params[path], err_msg=path)
    for path in PATHS:
        np.testing.assert_allclose(larger.params[path][covid], mean_of(model, ["virus", "pandemic"], path), rtol=1e-6)
        np.testing.assert_allclose(larger.params[path][corona], mean_of(model, ["corona"], path), rtol=1e-6)


def roomy(model, rows):
    """The model with 8 rows more than its tokenizer has tokens; `rows` changes them in place."""
    size = model.tokenizer.vocab_size
    config = small.config(vocab_size=size + 8, heads=("masked_lm",))
    params = {path: np.array(x) for path, x in tree.flatten(small.params(config)).items()}
    for path in PATHS:
        rows(params[path][size:])
    return Model(config, params, model.tokenizer, None)


def test_a_table_with_rows_of_zeros_does_not_grow(model):
    size = model.tokenizer.vocab_size
    before = roomy(model, lambda rows: rows.fill(0))
    larger, params = add_tokens(before, ["covid"], {"covid": ["virus"]}), before.params
    assert larger.config.vocab_size == size + 8
    table = larger.params["embeddings/token/embedding"]
    np.testing.assert_allclose(
        table[size], params["embeddings/token/embedding"][pieces_of("virus", model.tokenizer)].mean(axis=0), rtol=1e-6
    )
    np.testing.assert_array_equal(table[size + 1 :], params["embeddings/token/embedding"][size + 1 :])


def test_rows_that_hold_something_are_never_overwritten(model, tmp_path):
    """They may belong to words whose names were lost, as where only vocab.txt was copied."""
    size = model.tokenizer.vocab_size
    before = roomy(model, lambda rows: rows.fill(0.5))
    with pytest.warns(InputWarning, match=rf"rows {size} to {size + 7} may belong to tokens.*begin at {size + 8}"):
        larger = add_tokens(before, ["covid", "corona"], {})
    assert larger.config.vocab_size == larger.tokenizer.vocab_size == size + 10
    assert larger.tokenizer.encode_words(["covid", "corona"]) == [[size + 8], [size + 9]]
    for path in PATHS:
        np.testing.assert_array_equal(larger.params[path][: size + 8], before.params[path], err_msg=path)
    line = f"the virus [row {size}] spreads"
    assert larger.tokenizer.encode(line) == model.tokenizer.encode(line)
    larger.tokenizer.save(tmp_path)
    assert text.load(tmp_path).fingerprint == larger.tokenizer.fingerprint
    assert add_tokens(larger, ["corvid"], {}).tokenizer.encode_words(["corvid"]) == [[size + 10]]


def test_what_cannot_be_added(model):
    with pytest.raises(InputError, match="similar words for flu, not among the new tokens: covid"):
        add_tokens(model, ["covid"], {"flu": ["virus"]})
    with pytest.raises(InputError, match="without a tokenizer"):
        add_tokens(Model(model.config, model.params, None, None), ["covid"], {})
    with pytest.raises(InputError, match="without a tokenizer, so no words can be added: it is in Python"):
        add_tokens(Model(model.config, model.params, None, None, tokenizer_problem="it is in Python"), ["covid"], {})


def test_a_similar_word_that_the_tokenizer_does_not_know():
    tokenizer = text.train("wordpiece", iter(TEXT), vocab_size=80)
    with pytest.raises(InputError, match="does not know '中'"):
        pieces_of("中", tokenizer)

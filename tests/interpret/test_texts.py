import numpy as np
import pytest

from tests.interpret import models
from tx_jax.errors import InputError, InputWarning
from tx_jax.interpret import capture, contexts, probes, texts


def test_texts_and_pairs_have_the_layout_of_their_model():
    model = models.model("BERT")
    (row,) = texts.rows_of_texts(model, ["the cat"])
    assert row.tokens == ("[CLS]", "the", "cat", "[SEP]")
    assert row.special == (True, False, False, True)
    assert row.spans[1:3] == ((0, 3), (4, 7))
    (row,) = texts.rows_of_texts(model, ["the cat"], ["a dog"])
    assert row.tokens == ("[CLS]", "the", "cat", "[SEP]", "a", "dog", "[SEP]")
    assert row.segments == (0, 0, 0, 0, 1, 1, 1)
    (row,) = texts.rows_of_texts(model, ["the [MASK] sits"], masks=True)
    assert row.tokens == ("[CLS]", "the", "[MASK]", "sits", "[SEP]")
    (row,) = texts.rows_of_texts(model, ["the cat " * 30], cut=True)
    assert (len(row.ids), row.tokens[-1]) == (24, "[SEP]")
    (row,) = texts.rows_of_texts(models.model("GPT"), ["the cat"])  # a decoder would go on
    assert (row.tokens, row.special) == (("the", "cat"), (False, False))
    translator = models.model("Transformer")
    (row,) = texts.rows_of_texts(translator, ["the cat"], ["a dog"])
    assert (row.tokens, row.target_tokens) == (("the", "cat", "[SEP]"), ("[CLS]", "a", "dog"))


def test_rows_of_words():
    (row,) = texts.rows_of_words(models.model("BERT"), [["the", "catdog", "sits"]])
    assert row.words[:2] == (-1, 0)
    assert row.first_pieces().tolist() == [1, 2, row.words.index(2)]


def test_of_a_word_that_occurs_twice_the_first_is_taken_and_said():
    model = models.model("BERT")
    text = "the cat on the cats by the cat"
    (row,) = texts.rows_of_texts(model, [text])
    with pytest.warns(InputWarning, match=r"text 1 has 'cat' more than once: the first is looked at, at character 4"):
        found = texts.tokens_of(row, text, "cat", "text 1")
    assert [row.spans[place] for place in found] == [(4, 7)]


def test_a_word_in_a_text_is_found_as_a_whole_word():
    model = models.model("BERT")
    text = "the rivers bank by the river"
    (row,) = texts.rows_of_texts(model, [text])
    places = texts.tokens_of(row, text, "river", "text 1")
    assert [row.tokens[place] for place in places] == ["river"]
    assert places[0] == len(row.ids) - 2


BAD = {
    "empty": (lambda m: texts.rows_of_texts(m, ["the cat", " "]), "text 2 is empty"),
    "too long": (
        lambda m: texts.rows_of_texts(m, ["cat " * 30]),
        "text 1 has 32 tokens, but the model takes at most 24",
    ),
    "a word that is not there": (
        lambda m: texts.tokens_of(texts.rows_of_texts(m, ["the cat"])[0], "the cat", "dog", "text 1"),
        "text 1: 'dog' is not in the text: 'the cat'",
    ),
    "a part of a word": (
        lambda m: texts.tokens_of(texts.rows_of_texts(m, ["the cats"])[0], "the cats", "cat", "text 1"),
        "'cat' is not in the text as a whole word, only within 'the cats'",
    ),
    "no second texts": (lambda m: texts.rows_of_texts(m, ["a", "the"], ["a"]), "2 texts and 1 second texts"),
    "no words": (lambda m: texts.rows_of_words(m, [[]]), "sentence 1 is empty"),
    "a word without tokens": (
        lambda m: texts.rows_of_words(m, [["the", " "]]),
        "sentence 1: the tokenizer makes nothing",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    act, said = BAD[name]
    with pytest.raises(InputError, match=said):
        act(models.model("BERT"))


def test_an_encoder_decoder_needs_a_target():
    with pytest.raises(InputError, match="give the target as the second text"):
        texts.rows_of_texts(models.model("Transformer"), ["the cat"])


def test_of_an_encoder_decoder_the_encoder_alone_may_be_looked_at():
    model, given = models.model("Transformer", num_layers=1), ["the cat sits", "a cat stands"]
    rows = texts.rows_to_encode(model, given)
    names = ["encoder/input", "encoder/output"]
    expected = capture.collect(model, texts.rows_of_texts(model, given, ["a dog", "the"]), names)
    (states,) = probes.states_of_texts(model, rows[:1])[-1:]
    np.testing.assert_allclose(states[0], expected[0]["encoder/output"].mean(0), atol=1e-6)
    of_word = contexts.look(model, given, ["cat"]).vectors
    np.testing.assert_allclose(of_word[-1, 1], expected[1]["encoder/output"][1], atol=1e-6)


def test_every_row_is_in_one_batch_of_few_shapes():
    model = models.model("BERT", max_length=64)
    rows = texts.rows_of_texts(model, ["the cat " * n for n in (1, 20, 2, 9, 1, 12)])
    seen, shapes = [], []
    for indices, inputs in texts.batches(rows, model.model, batch_size=1, multiple=2):
        seen += indices
        shapes.append(inputs["tokens"].shape)
        for place, index in enumerate(indices):
            assert inputs["valid"][place].sum() == len(rows[index].ids)
    assert sorted(seen) == list(range(6))
    assert shapes == [(2, 32), (2, 32), (2, 64)]

"""What cannot be asked for, and what cannot generate: one sentence each."""

import dataclasses

import pytest

from tests.decoding import models
from tests.models import small
from tx_jax.decoding import Options, generate, stream
from tx_jax.errors import InputError

BAD = [
    ({"top_p": 0.0}, "top_p=0.0 must be above 0"),
    ({"temperature": -0.5}, "temperature=-0.5 must not be negative"),
    ({"temperature": float("nan")}, "temperature=nan must not be negative"),
    ({"top_k": -1}, "top_k=-1 must be at least 1"),
    ({"min_p": 1.5}, "min_p=1.5 must be from 0"),
    ({"repetition_penalty": 0.0}, "repetition_penalty=0.0 must be positive"),
    ({"num_beams": 0}, "num_beams=0 must be at least 1"),
    ({"max_new_tokens": 0}, "max_new_tokens=0 must be at least 1"),
    ({"num_beams": 2, "num_return_sequences": 3}, "num_return_sequences=3 exceeds num_beams=2"),
    ({"num_beams": 2, "early_stopping": "always"}, "early_stopping='always' must be True, False or 'never'"),
    ({"num_beams": 2, "length_normalization": "wu"}, "length_normalization='wu' is not one of length, gnmt"),
    ({"stop": ("",)}, "stop: an empty text"),
    ({"stop": "END"}, "stop='END' must be a list of texts"),
    ({"stop": [3]}, r"stop=\[3\] must be a list of texts"),
    ({"max_new_tokens": "3"}, "max_new_tokens='3' must be a whole number"),
    ({"top_k": 2.5}, "top_k=2.5 must be a whole number"),
    ({"temperature": "hot"}, "temperature='hot' must be a number"),
    ({"num_beams": None}, "num_beams=None must be a whole number"),
    # What would do nothing.
    ({"temperature": 0.0, "top_k": 5}, "top_k=5 does nothing with temperature=0"),
    ({"temperature": 0.0, "seed": 5}, "seed=5 does nothing with temperature=0"),
    ({"temperature": 0.0, "num_return_sequences": 2}, "would return the same sequence"),
    ({"num_beams": 2, "temperature": 0.7}, "temperature=0.7 does nothing with num_beams=2"),
    ({"num_beams": 2, "top_p": 0.7}, "top_p=0.7 does nothing with num_beams=2"),
    ({"length_penalty": 0.6}, "length_penalty=0.6 does nothing with num_beams=1"),
    ({"early_stopping": True}, "early_stopping=True does nothing with num_beams=1"),
]


@pytest.mark.parametrize(("values", "message"), BAD)
def test_bad_options(values, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        Options(**values)


@pytest.fixture(scope="module")
def model():
    return models.model("gpt2")


def test_bad_prompts(model):
    words = "the cat sat on the mat " * 40
    with pytest.raises(InputError, match=r"prompt 1 has \d+ tokens, but the model takes at most 63: shorten it"):
        generate(model, ["one", words])
    with pytest.raises(InputError, match="prompt 7 is empty: give at least one word"):
        generate(model, [""], numbers=[7])
    with pytest.raises(InputError, match=r"max_new_tokens=64 does not fit behind prompt 0 of \d+ tokens"):
        generate(model, ["the cat"], Options(max_new_tokens=64))
    with pytest.raises(InputError, match="prompt 0 has the id 300, but the vocabulary has"):
        generate(model, [[1, 300]])
    with pytest.raises(InputError, match="num_beams=400 exceeds the vocabulary of"):
        generate(model, ["one"], Options(num_beams=400))
    with pytest.raises(InputError, match="stop='on' is no special token, and beam search ends only at tokens"):
        generate(model, ["one"], Options(num_beams=2, stop=("on",)))
    with pytest.raises(InputError, match="only one sequence can be shown as it comes, not num_beams=2"):
        next(stream(model, "one", Options(num_beams=2)))


def test_models_that_cannot_generate(model):
    encoder = dataclasses.replace(model, model=small.config(vocab_size=model.model.vocab_size))
    with pytest.raises(InputError, match=r"an encoder, .* cannot generate: fill in masks with experiments\.fill_mask"):
        generate(encoder, ["one"])
    classifier = dataclasses.replace(model, model=dataclasses.replace(model.model, heads=("sequence_classification",)))
    with pytest.raises(InputError, match=r"no trained causal_lm head .*model\.heads=\('sequence_classification',\)"):
        generate(classifier, ["one"])
    with pytest.raises(InputError, match="no trained causal_lm head"):
        generate(dataclasses.replace(model, untrained=("causal_lm",)), ["one"])
    with pytest.raises(InputError, match="cannot read text"):
        generate(dataclasses.replace(model, tokenizer=None), ["one"])


def test_a_tokenizer_without_an_end_token(model):
    class NoEnd:
        vocab_size, eos_id = 10, None
        require = type(model.tokenizer).require

    with pytest.raises(InputError, match="has no eos token"):
        generate(dataclasses.replace(model, tokenizer=NoEnd()), ["one"])


def test_without_a_limit_a_prompt_gets_what_fits(model):
    ids = model.tokenizer.encode("the cat sat on the mat " * 3)
    (found,) = generate(model, [ids], Options(temperature=0, stop=()))
    assert len(found.tokens) + len(ids) == model.model.max_length or found.finish == "end"

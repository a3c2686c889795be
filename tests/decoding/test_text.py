"""Ids as text: whole characters, stop texts, the space behind a prompt."""

import pytest

from tests.decoding import models
from tx_jax.decoding import Options, generate, stream
from tx_jax.decoding.text import Stops, continuation, pieces, without_part
from tx_jax.text.tokenizer import Tokenizer

TEXT = "a größe, naïve café über straße 日本 😀 ok"


def streamed(tokenizer: Tokenizer, ids, stops=()):
    """The pieces as `stream` makes them, if the model gave these ids."""
    stops = Stops(tokenizer, stops)
    texts = []
    for count in range(1, len(ids) + 1):
        if (place := stops.place([], ids[:count])) is not None:
            texts.append(place[1])
            break
        texts.append(stops.safe(without_part(continuation(tokenizer, [], ids[:count]))))
    return list(pieces(iter(texts)))


@pytest.mark.parametrize("kind", ["gpt2_bpe", "byte_bpe"])
def test_no_character_is_cut_in_two(kind):
    tokenizer = models.tokenizer(kind)
    ids = tokenizer.encode(TEXT)
    parts = [tokenizer.decode([i]) for i in ids]
    assert any("\N{REPLACEMENT CHARACTER}" in part for part in parts), "some tokens should be parts of characters"
    found = streamed(tokenizer, ids)
    assert "".join(found) == continuation(tokenizer, [], ids)
    assert "\N{REPLACEMENT CHARACTER}" not in "".join(found)
    assert len(found) > 20


@pytest.mark.parametrize("kind", ["gpt2_bpe", "unigram", "wordpiece"])
def test_a_continuation_keeps_the_space_behind_the_prompt(kind):
    tokenizer = models.tokenizer(kind, 90 if kind == "unigram" else 300)
    prompt, whole = tokenizer.encode("the cat"), tokenizer.encode("the cat sat on")
    assert whole[: len(prompt)] == prompt
    added = whole[len(prompt) :]
    assert continuation(tokenizer, prompt, added) == " sat on"
    assert continuation(tokenizer, prompt, [*added, tokenizer.eos_id]) == " sat on"
    assert continuation(tokenizer, [], added).strip() == "sat on"


def test_a_stop_text_may_begin_and_end_inside_tokens():
    tokenizer = models.tokenizer()
    ids = tokenizer.encode("the cat sat on the mat")
    assert "".join(streamed(tokenizer, ids, ["t s"])) == "the ca"
    count, text = Stops(tokenizer, ["n t", "mat"]).place([], ids)
    assert text == "the cat sat o"
    assert "n t" in tokenizer.decode(ids[:count])
    assert "n t" not in tokenizer.decode(ids[: count - 1])
    assert Stops(tokenizer, ["dog"]).place([], ids) is None
    # What might be its beginning is shown once it is not.
    assert "".join(streamed(tokenizer, ids, ["on them"])).startswith("the cat sat ")


def test_what_is_streamed_is_what_is_generated():
    model = models.model("gpt2")
    for seed in range(3):
        options = Options(max_new_tokens=12, seed=seed)
        (whole,) = generate(model, ["the cat"], options)
        assert "".join(stream(model, "the cat", options)) == whole.text
        assert len(whole.tokens) == len(whole.log_probs) <= 12


def test_generation_ends_at_a_stop_text():
    """Looked for every few tokens: what came after it is dropped, and the rows beside it go on."""
    model = models.model("gpt2")
    plain = generate(model, ["the cat", "one"], Options(temperature=0, max_new_tokens=12))
    text = plain[0].text
    stop = text[3:5]
    assert stop not in plain[1].text
    found = generate(model, ["the cat", "one"], Options(temperature=0, max_new_tokens=12, stop=(stop,)))
    assert found[0].text == text[: text.index(stop)]
    assert found[0].finish == "stop"
    assert found[0].tokens == plain[0].tokens[: len(found[0].tokens)] != plain[0].tokens
    assert found[1] == plain[1]
    shown = "".join(stream(model, "the cat", Options(temperature=0, max_new_tokens=12, stop=(stop,))))
    assert shown == found[0].text


def test_the_name_of_a_special_token_is_that_token():
    tokenizer = models.tokenizer("byte_bpe")
    stops = Stops(tokenizer, ["<mask>", "cat"])
    assert stops.ids == sorted({tokenizer.eos_id, tokenizer.mask_id})
    assert stops.texts == ("cat",)


def test_a_changed_beginning_is_not_shown_twice():
    assert list(pieces(iter(["a", "ab", "ax", "abc"]))) == ["a", "b", "c"]
    assert without_part("caf\N{REPLACEMENT CHARACTER}") == "caf"

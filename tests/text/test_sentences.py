import time

import pytest

from tx_jax.errors import InputError
from tx_jax.text.sentences import cut, split


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It ends. It begins again! Does it? Yes.", ["It ends.", "It begins again!", "Does it?", "Yes."]),
        ("Dr. Smith met J. K. Rowling on Dec. 24. He left.", ["Dr. Smith met J. K. Rowling on Dec. 24.", "He left."]),
        (
            "It has, e.g. Python, 3.14 of them. The U.S. Army too.",
            ["It has, e.g. Python, 3.14 of them.", "The U.S. Army too."],
        ),
        ("He said no. Then he went.", ["He said no.", "Then he went."]),
        ('"Why?" he asked. "Because." So it was.', ['"Why?" he asked.', '"Because."', "So it was."]),
        ("(It rained.) They stayed... And then? Nothing", ["(It rained.)", "They stayed...", "And then?", "Nothing"]),
        ("¿Qué tal? ¡Bien! «Hola.» El Sr. García vino.", ["¿Qué tal?", "¡Bien!", "«Hola.»", "El Sr. García vino."]),
        ("今天很好。明天呢？「不知道。」好", ["今天很好。", "明天呢？", "「不知道。」", "好"]),
        ("2. Results are here. More follow.", ["2. Results are here.", "More follow."]),
        ("یہ ہے۔ वह है। Ok.", ["یہ ہے۔", "वह है।", "Ok."]),
    ],
)
def test_punctuation_ends_sentences_but_not_abbreviations(text, expected):
    assert list(split(text, "punctuation")) == expected


def test_modes_differ_in_what_a_line_end_means():
    text = "A wrapped\r\nline. And\rmore\n \n\nNext\u2028one"
    assert list(split(text, "line")) == ["A wrapped", "line. And", "more", "Next", "one"]
    assert list(split(text, "punctuation")) == ["A wrapped", "line.", "And", "more", "Next", "one"]
    assert list(split(text, "wrapped")) == ["A wrapped line.", "And more", "Next one"]


def test_a_verbatim_document_is_one_sentence():
    text = "  First:\nBefore we\tgo.\n\nSecond\n  end"
    assert list(split(text.replace("\n", "\r\n"), "verbatim")) == [text]
    assert "".join(cut("a b" * 50, 20, drops_space=False)) == "a b" * 50
    assert "".join(cut("a b" * 50, 20)) != "a b" * 50


@pytest.mark.parametrize("mode", ["line", "punctuation", "wrapped", "verbatim"])
def test_white_space_has_no_sentences(mode):
    assert list(split(" \n\t\r\n \u2028", mode)) == []


def test_unknown_mode_names_the_nearest():
    with pytest.raises(InputError, match=r"'wraped'.*Did you mean 'wrapped'"):
        list(split("a", "wraped"))


def test_long_sentences_are_cut_at_spaces_else_anywhere():
    assert cut("aaa bbb ccc", 7) == ["aaa bbb", "ccc"]
    assert cut("aaabbbcc", 3) == ["aaa", "bbb", "cc"]
    assert cut("a bbbbbb c", 3) == ["a", "bbb", "bbb", "c"]
    assert cut("short", 5) == ["short"]


# Quadratic splitting would take hours on these. The limit is generous: a loaded machine must not fail the test.
@pytest.mark.long
@pytest.mark.parametrize("pattern", ["word ", "letters", ".", "(. ", "\n ", ". (((("])
def test_a_line_of_megabytes_takes_linear_time(pattern):
    text = (pattern * 2_000_000)[:2_000_000]
    began = time.process_time()
    pieces = [
        piece for mode in ("punctuation", "wrapped") for sentence in split(text, mode) for piece in cut(sentence, 4096)
    ]
    assert time.process_time() - began < 20
    assert all(len(piece) <= 4096 for piece in pieces)
    kept = sum(len(piece.replace(" ", "")) for piece in pieces)
    assert kept == 2 * len("".join(text.split()))

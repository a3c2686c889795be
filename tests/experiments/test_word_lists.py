"""Words and their similar ones, given in place or in files, and on the command line."""

import pytest

from experiments.word_lists import one_argument_each, read_similar, read_words
from tx_jax.errors import InputError


def test_words_and_similar_words_from_values_and_files(tmp_path):
    (tmp_path / "words.txt").write_text("covid\n\n coronavirus \n")
    (tmp_path / "similar.txt").write_text("covid = virus, pandemic\ncoronavirus=virus\n")
    for words, similar in (
        ("covid, coronavirus", "covid=virus,pandemic; coronavirus=virus"),
        (str(tmp_path / "words.txt"), str(tmp_path / "similar.txt")),
    ):
        assert read_words(words) == ("covid", "coronavirus")
        assert read_similar(similar) == {"covid": ("virus", "pandemic"), "coronavirus": ("virus",)}
    many = tuple(f"word{i}" for i in range(100))  # longer than any name of a file
    assert read_words(",".join(many)) == many
    assert read_words("") == ()
    assert read_similar("") == {}


def test_bad_values_say_what_is_wrong(tmp_path):
    with pytest.raises(InputError, match="covid given twice"):
        read_words("covid,covid")
    with pytest.raises(InputError, match="'covid' is not of the form"):
        read_similar("covid")
    with pytest.raises(InputError, match="covid given twice"):
        read_similar("covid=virus;covid=pandemic")
    (tmp_path / "words.txt").write_text("señal", encoding="latin-1")
    with pytest.raises(InputError, match=r"words.txt is not UTF-8: convert it"):
        read_words(str(tmp_path / "words.txt"))


def test_similar_words_on_the_command_line_become_one_value():
    given = ["x", "--config.similar.covid=virus,pandemic", "--config.seed", "3", "--config.similar.flu", "cold"]
    assert one_argument_each(given) == ["x", "--config.seed=3", "--config.similar=covid=virus,pandemic;flu=cold"]
    assert one_argument_each(["--config.similar=covid=virus", "--config.similar.flu=cold"]) == [
        "--config.similar=covid=virus;flu=cold"
    ]

import warnings

import pytest

from tests.data.corpus.test_prepare import settings
from tx_jax import text
from tx_jax.data.corpus.accents import AccentCount
from tx_jax.data.corpus.prepare import prepare
from tx_jax.errors import InputWarning


def lost(*documents):
    count = AccentCount()
    assert list(count.counted(documents)) == list(documents)
    return count.lost()


def test_the_share_of_letters_that_lose_their_accents():
    assert lost("Año 12, ", "ñu.") == "40.00% of the letters lose their accents (ñ)"
    assert lost("éá é") == "100.00% of the letters lose their accents (é, á)"
    assert lost("ano\u0303") == "33.33% of the letters lose their accents (◌\u0303)"  # ñ of two characters
    assert lost("plain ASCII", "ß 漢 한 ж ¿?") == ""
    assert lost("x" * 30_000 + "é") == ""  # a name in a corpus of English
    assert lost("") == lost() == ""


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        ({}, True),
        ({"lowercase": True}, True),
        ({"strip_accents": False}, False),
        ({"strip_accents": True}, False),  # which was asked for
        ({"lowercase": False}, False),
        ({"tokenizer_kind": "unigram", "vocab_size": 40}, False),
    ],
)
def test_prepare_says_what_a_tokenizer_drops_by_default(tmp_path, options, warned):
    (tmp_path / "a.txt").write_text("El año.\n\nLa niña.\n\nUna casa. Otra casa.\n" * 20)
    config = settings(tmp_path / "store", tmp_path / "a.txt", **{"vocab_size": 60, **options})
    if warned:
        with pytest.warns(InputWarning, match=r"7\.69% of the letters lose their accents \(ñ\); --strip_accents=false"):
            prepare(config)
        tokenizer = text.load(config.store / "tokenizer")
        assert tokenizer.encode("ñ") == tokenizer.encode("n")
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            prepare(config)


def test_nothing_is_said_of_text_without_accents(tmp_path):
    (tmp_path / "a.txt").write_text("One house.\n\nTwo houses.\n\n" * 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prepare(settings(tmp_path / "store", tmp_path / "a.txt", vocab_size=40))

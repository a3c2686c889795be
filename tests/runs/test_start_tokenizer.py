"""A model whose tokenizer cannot be used is refused with that reason."""

from pathlib import Path

import pytest

from tests.convert import folders
from tx_jax.convert import from_hf, model_dir
from tx_jax.errors import InputError
from tx_jax.runs.start import open_start

CASES = Path(__file__).parents[3] / "shared/cases"


def values(start_from, **others):
    return {"start_from": str(start_from), "model": {"heads": ("sequence_classification",)}, **others}


@pytest.fixture
def tweets(tmp_path):
    folder = folders.write(tmp_path / "tweets", heads=("pooled",))
    (folder / "vocab.txt").write_text("the 100\nfi@@ 20\n")
    (folder / "bpe.codes").write_text("t h 100\n")
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertweetTokenizer"}')
    return folder


def test_the_reason_is_told(tweets, tmp_path):
    model, _ = from_hf.read(tweets, heads=("sequence_classification",))
    model_dir.save(model, tmp_path / "converted")
    for name in (tweets, tmp_path / "converted"):
        with pytest.raises(InputError, match="names BertweetTokenizer, which tx_jax does not run") as caught:
            open_start(values(name), tmp_path / "run")
        assert "\n" not in str(caught.value)
        assert str(name) in str(caught.value)


def test_its_shape_can_be_taken(tweets, tmp_path):
    _, start = open_start(values(tweets, start_fresh=True), tmp_path / "run")
    assert start.tokenizer is None
    assert not start.params


@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of shared cases is not here")
def test_the_shared_case(tmp_path):
    with pytest.raises(InputError, match="names BertweetTokenizer, which tx_jax does not run"):
        open_start(values(CASES / "hf_bertweet_like/model"), tmp_path / "run")

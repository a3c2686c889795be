"""A model with a tokenizer that somebody extended: convert, save, add words, export, and back."""

import json
import warnings
from pathlib import Path

import numpy as np
import pytest

from tests.convert import folders
from tx_jax.convert import from_hf, model_dir, to_hf
from tx_jax.convert.new_tokens import ROWS, add_tokens
from tx_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece

CASES = Path(__file__).parents[3] / "shared/cases"
TEXTS = ("[E1] covid .", "xcovidx covid19", "hello-world_x", "the film [/E1] was")
# What AutoTokenizer of transformers 5.24 gives, and the number of tokens.
IDS = {
    "hf_added_tokens_slow": (
        132,
        [129, 131, 41],
        [28, 131, 28, 131, 32, 99],
        [12, 68, 75, 75, 78, 49, 27, 78, 81, 75, 67, 57, 28],
        [125, 126, 130, 127],
    ),
    "hf5_added_tokens": (
        131,
        [130, 129, 41],
        [28, 129, 28, 129, 32, 99],
        [12, 68, 75, 75, 78, 49, 27, 78, 81, 75, 67, 57, 28],
        [125, 126, 52, 54, 9, 91, 53, 127],
    ),
    "hf_course_wordpiece": (
        129,
        [52, 9, 91, 53, 7, 78, 85, 72, 67, 41],
        [28, 66, 78, 85, 72, 67, 87, 7, 78, 85, 72, 67, 91, 99],
        [12, 68, 75, 75, 78, 49, 27, 78, 81, 75, 67, 116, 87],
        [125, 126, 52, 113, 9, 91, 53, 127],
    ),
}


def there_and_back(folder: Path, texts, tmp_path: Path) -> list[list[int]]:
    """The ids of the texts. Asserts that the tokenizer and every learned row live through it all."""
    model, report = from_hf.read(folder)
    ids, size = model.tokenizer.encode_batch(texts), model.tokenizer.vocab_size
    assert (report.warnings, model.config.vocab_size) == ((), size)
    model_dir.save(model, tmp_path / "converted")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        larger = add_tokens(model_dir.load(tmp_path / "converted"), ["goodbad"], {"goodbad": ["good", "bad"]})
    assert larger.tokenizer.encode_words(["goodbad"]) == [[size]]
    for path, x in model.params.items():
        kept = larger.params[path][:size] if path.endswith(ROWS) else larger.params[path]
        np.testing.assert_array_equal(kept, x, err_msg=path)
    to_hf.write(larger, tmp_path / "exported")
    back, _ = from_hf.read(tmp_path / "exported")
    assert back.tokenizer.fingerprint == larger.tokenizer.fingerprint
    assert back.tokenizer.encode_batch(texts) == larger.tokenizer.encode_batch(texts) == ids
    return ids


@pytest.mark.skipif(not CASES.is_dir(), reason="the folder of shared cases is not here")
@pytest.mark.parametrize("case", IDS)
def test_the_shared_cases(case, tmp_path):
    size, *ids = IDS[case]
    assert there_and_back(CASES / case / "model", TEXTS, tmp_path) == ids
    assert from_hf.read(CASES / case / "model")[0].tokenizer.vocab_size == size


def test_words_beside_a_vocabulary_are_learned_tokens(tmp_path):
    words = ("the", "film", "good", "bad", "was", ".", "[", "]", "e", "##1")
    tokenizer = WordPiece([*SPECIAL_TOKENS, *words])
    folder = folders.write(tmp_path / "theirs", tokenizer, vocab_size=17, heads=("masked_lm",))
    (folder / "tokenizer.json").unlink()
    (folder / "added_tokens.json").write_text(json.dumps({"[E1]": 15, "covid": 16}))
    # AutoTokenizer of transformers 5.24.
    assert there_and_back(folder, ["[E1] covid was good.", "[e1]"], tmp_path) == [[15, 16, 9, 7, 10], [15]]

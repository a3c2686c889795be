import json
import pickle
import resource
import subprocess
import sys
import time

import numpy as np
import pytest

from tx_jax import text
from tx_jax.errors import InputError, InputWarning
from tx_jax.text import wordpiece

DOCUMENTS = [
    "The quick brown fox jumps over the lazy dog. The dog sleeps.",
    "El año pasado el niño comió piñas y jamón en la mañana.",
    "Über den Wolken; 中文也在这里. Don't stop!",
] * 4


@pytest.fixture(scope="module")
def tokenizer():
    return text.train("wordpiece", DOCUMENTS, vocab_size=120)


def test_special_tokens_come_first_and_the_vocabulary_is_full(tokenizer):
    assert tokenizer.tokens(range(5)) == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert tokenizer.special_ids == (0, 1, 2, 3, 4)
    assert (tokenizer.pad_id, tokenizer.unk_id, tokenizer.mask_id) == (0, 1, 4)
    assert tokenizer.vocab_size == 120
    assert len(set(tokenizer.tokens(range(120)))) == 120


def test_encode_and_decode(tokenizer):
    ids = tokenizer.encode("The quick brown fox jumps over the lazy dog.")
    assert tokenizer.decode(ids) == "the quick brown fox jumps over the lazy dog."
    assert tokenizer.decode(np.array(ids, np.int32)) == tokenizer.decode(ids)
    assert tokenizer.encode_batch(["the dog", ""]) == [tokenizer.encode("the dog"), []]
    assert tokenizer.unk_id in tokenizer.encode("Ж")


@pytest.mark.parametrize("name", ["[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]"])
@pytest.mark.parametrize("lowercase", [True, False])
def test_names_of_special_tokens_in_a_text_are_text(name, lowercase):
    # Every letter of the names is in the alphabet, so that nothing here is unknown by chance.
    names = [
        "[MASK] [CLS] [SEP] [PAD] [UNK] [mask] [cls] [sep] [pad] [unk] A M S K C L E P D U N a m s k c l e p d u n"
    ]
    tokenizer = text.train("wordpiece", names, vocab_size=200, lowercase=lowercase)
    ids = tokenizer.encode(f"a{name}b {name}".replace("b", "d"))
    assert not set(ids) & set(tokenizer.special_ids)
    assert "[" in tokenizer.tokens(ids)


def test_case_and_accents(tokenizer):
    cased = text.train("wordpiece", DOCUMENTS, vocab_size=120, lowercase=False)
    spanish = text.train("wordpiece", DOCUMENTS, vocab_size=120, strip_accents=False)
    assert tokenizer.encode("AÑO") == tokenizer.encode("ano")
    assert spanish.encode("AÑO") == spanish.encode("año") != spanish.encode("ano")
    assert cased.encode("The") != cased.encode("the")
    assert spanish.decode(spanish.encode("Año")) == "año"
    assert len({tokenizer.fingerprint, cased.fingerprint, spanish.fingerprint}) == 3


def test_is_continuation_marks_the_pieces_inside_words(tokenizer):
    mask = tokenizer.is_continuation
    assert mask.dtype == bool
    assert mask.shape == (120,)
    assert [tokenizer.token(i).startswith("##") for i in range(120)] == mask.tolist()
    assert 0 < mask.sum() < 150
    assert "##中" not in tokenizer.tokens(range(120))  # an ideograph is a word: its "##" form would never be used


def test_saved_and_loaded_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    files = {"vocab.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in tmp_path.iterdir()} == files
    for same in (text.load(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert same.fingerprint == tokenizer.fingerprint
        assert same.encode_batch(DOCUMENTS) == tokenizer.encode_batch(DOCUMENTS)
    (tmp_path / "vocab.txt").unlink()  # as newer versions of transformers save it
    assert text.load(tmp_path).fingerprint == tokenizer.fingerprint


def test_a_bare_vocabulary_of_bert_keeps_its_ids_and_its_case(tmp_path):
    vocabulary = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##se"]
    (tmp_path / "vocab.txt").write_text("\n".join(vocabulary) + "\n")
    uncased = text.load(tmp_path)
    assert uncased.encode("These the") == [6, 7, 6]
    assert (uncased.unk_id, uncased.mask_id, uncased.vocab_size) == (2, 5, 8)
    (tmp_path / "vocab.txt").write_text("\n".join([*vocabulary, "The"]) + "\n")
    with pytest.warns(InputWarning, match="no do_lower_case: taken as cased. transformers would lowercase"):
        assert text.load(tmp_path).encode("These The") == [8, 7, 8]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True}))
    assert text.load(tmp_path).encode("These The") == [6, 7, 6]


def test_training_is_the_same_in_every_process():
    # Words of random letters: many pairs are equally frequent, and the library breaks ties by the order of a hash map.
    script = """
import random
from tx_jax import text
words = ["".join(random.Random(i).choices("abcdefghijklmnop", k=5)) for i in range(2_000)]
print(text.train("wordpiece", [" ".join(words)], vocab_size=300).fingerprint)
"""
    prints = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(prints) == 1


def test_training_streams_and_reports(tmp_path):
    taken, reports = [], []

    def documents():
        for i, document in enumerate(DOCUMENTS):
            taken.append(i)
            yield document

    text.train("wordpiece", documents(), vocab_size=120, progress=lambda count: reports.append((count, len(taken))))
    assert reports == [(sum(map(len, DOCUMENTS[: i + 1])), i + 1) for i in range(len(DOCUMENTS))]


@pytest.mark.parametrize(("coverage", "alphabet"), [(0.4, "a"), (0.8, "ab"), (0.9, "abc"), (1.0, "abcz")])
def test_the_alphabet_covers_a_share_of_the_text(coverage, alphabet):
    documents = ["aaaa bb bB c", "a z"]  # 5 a, 4 b, 1 c, 1 z
    tokenizer = wordpiece.train(documents, vocab_size=20, character_coverage=coverage)
    assert "".join(token for token in tokenizer.tokens(range(5, tokenizer.vocab_size)) if len(token) == 1) == alphabet


@pytest.mark.long
def test_one_line_of_20_megabytes_is_harmless():
    line = "some words and " * 670_000 + "letters" * 1_430_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    tokenizer = text.train("wordpiece", [line], vocab_size=60)
    assert time.process_time() - began < 60
    # Untreated, such a line costs the trainer several GB.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 500_000
    assert tokenizer.vocab_size > 10


@pytest.mark.parametrize("documents", [[], [""], [" \n\t", "\u200b\x01"]])
def test_nothing_to_learn_is_an_error(documents):
    with pytest.raises(InputError, match="no text to train the tokenizer on"):
        text.train("wordpiece", documents, vocab_size=100)


def test_errors_name_the_remedy(tmp_path, tokenizer):
    with pytest.raises(InputError, match=r"vocab_size=10 cannot hold"):
        text.train("wordpiece", DOCUMENTS, vocab_size=10)
    with pytest.raises(InputError, match=r"'wordpeice'.*Did you mean 'wordpiece'"):
        text.train("wordpeice", DOCUMENTS, vocab_size=120)
    with pytest.raises(InputError, match="token id 120 is outside the vocabulary"):
        tokenizer.token(120)
    with pytest.raises(InputError, match="no tokenizer folder at"):
        text.load(tmp_path / "missing")
    with pytest.raises(InputError, match=r"found: nothing\)"):
        text.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"type": "BPE"}}))
    with pytest.raises(InputError, match=r"found: tokenizer.json\)"):
        text.load(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    (tmp_path / "vocab.txt").write_text("[PAD]\n[UNK]\nthe\n")
    with pytest.raises(InputError, match=r"lacks \[CLS\] \[SEP\] \[MASK\]"):
        text.load(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{")
    with pytest.raises(InputError, match=r"tokenizer_config.json is not valid JSON"):
        text.load(tmp_path)
    (tmp_path / "tokenizer_config.json").unlink()
    (tmp_path / "vocab.txt").write_bytes(b"[PAD]\n\xff\n")
    with pytest.raises(InputError, match=r"vocab.txt is not valid UTF-8 at byte 6"):
        text.load(tmp_path)

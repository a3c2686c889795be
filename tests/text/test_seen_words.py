"""Texts encoded word by word have the ids that the library gives the whole text."""

import concurrent.futures
import itertools
import json
import pathlib
import random

import numpy as np
import pytest

from tests.golden import foreign, multilingual, tokenizers
from tx_jax import text
from tx_jax.text import seen_words
from tx_jax.text.probes import TEXTS
from tx_jax.text.seen_words import BERT, BYTE_LEVEL, SeenWords
from tx_jax.text.wordpiece import WordPiece

GOLDEN = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))
DATA = pathlib.Path(__file__).parents[2] / ".." / "shared" / "data"
WHITE = [chr(code) for code in range(0x3001) if chr(code).isspace()]
ODD = [
    *"\x00\x07\x1b\x7f\x84\xad\u200b\u200d\u2060\ufeff\ufffd\ue000\U000e0001\U0010ffff",  # dropped or invisible
    *"\u0301\u0308\u0338\u0327\u0345\u064b\u0e38\u05b4\u0f71\u302a\U0001d165",  # marks of several classes
    *"\u00c5\u212b\u1e9b\u0130\u0131\u03a3\u03c2\u03c3\u00df\u1e9e\ufb01\uff21\u01c5\u1f88",  # case and composition
    *"\u4e2d\u6587\U00020000\u3042\ud55c\u1100\u1161\u0e01\u1780",  # scripts without spaces, syllables in parts
    *"\u00bf\u201c\u2014\u3002\uff01\u00ab'\"-_.,#[]$^`~+|<>",  # punctuation, and what only ASCII counts as such
]
# Every odd character is a piece, so that a difference does not hide behind [UNK].
VOCABULARY = list(dict.fromkeys([*GOLDEN["wordpiece"]["vocabulary"], *ODD, *(f"##{character}" for character in ODD)]))
BERTS = {
    f"wordpiece {lower} {strip} {split}": WordPiece(
        VOCABULARY, lowercase=lower, strip_accents=strip, split_chinese=split
    )
    for lower, strip, split in itertools.product((False, True), repeat=3)
}


def random_texts(seed: int, number: int) -> list[str]:
    """Words of real sentences, odd characters and any characters at all, between single spaces and other white space.
    The words repeat, so that many are remembered from texts where something else stood beside them."""
    draw = random.Random(seed)
    known = [word for line in (*multilingual.DOCUMENTS, *multilingual.TEXTS, *TEXTS) for word in line.split()]

    def any_character() -> str:
        code = draw.randrange(0x110000 if draw.random() < 0.3 else 0x3000)
        return chr(code) if not 0xD800 <= code < 0xE000 else "a"

    def word() -> str:
        kind = draw.random()
        if kind < 0.5:
            return draw.choice(known)
        parts = [draw.choice(ODD), any_character(), draw.choice(known)[:3], draw.choice(WHITE), draw.choice("aàÅZ5")]
        weights = (4, 2, 3, 0.3, 3)
        length = draw.choice((1, 1, 2, 3, 5)) if kind < 0.99 else 130
        return "".join(draw.choices(parts, weights)[0] for _ in range(length))

    def between() -> str:
        return " " if draw.random() < 0.95 else "".join(draw.choices(WHITE, k=draw.choice((0, 1, 2))))

    def line() -> str:
        return "".join(word() + between() for _ in range(draw.choice((0, 1, 2, 8, 20)))).removesuffix(" ")

    return [draw.choice(("", "", " ", "\t")) + line() for _ in range(number)]


def built(name: str) -> text.Tokenizer:
    return BERTS[name] if name in BERTS else tokenizers.rebuild(name, GOLDEN[name])


def without_memory(tokenizer: text.Tokenizer, texts: list[str]) -> list[list[int]]:
    """What the library gives for whole texts: characters are aligned with nothing remembered."""
    return [aligned.ids for aligned in tokenizer.encode_aligned(texts)]


@pytest.mark.parametrize("name", [*BERTS, "wordpiece", *tokenizers.BYTE_LEVEL, "unigram"])
def test_the_ids_are_those_of_whole_texts(name, monkeypatch):
    texts = [*random_texts(0, 800), *multilingual.TEXTS, *multilingual.ADDED_TEXTS, *TEXTS]
    tokenizer = built(name)
    expected = without_memory(tokenizer, texts)
    assert tokenizer.encode_batch(texts) == expected
    assert tokenizer.encode_batch(texts[::-1]) == expected[::-1]  # all words known
    ids, lengths = tokenizer.encode_flat(texts)
    assert (ids.dtype, lengths.dtype) == (np.int32, np.int64)
    assert (ids.tolist(), lengths.tolist()) == (list(itertools.chain(*expected)), list(map(len, expected)))
    monkeypatch.setattr(seen_words, "_GROUP", 7)
    assert built(name).encode_batch(texts) == expected


@pytest.mark.parametrize("name", ["wordpiece", "byte_bpe", "gpt2_bpe"])
def test_the_ids_are_those_of_whole_texts_with_added_words_and_in_foreign_folders(name, tmp_path):
    texts = [*random_texts(1, 300), *multilingual.ADDED_TEXTS, *foreign.TEXTS]
    for layout in foreign.LAYOUTS:
        folder = tmp_path / layout
        foreign.write(name, layout, folder)
        loaded = text.load(folder)
        assert loaded.encode_batch(texts) == without_memory(loaded, texts)
    extended = tokenizers.extend(built(name))
    assert extended.encode_batch(texts) == without_memory(extended, texts)


@pytest.mark.skipif(not DATA.is_dir(), reason="the folder ../shared/data is not there")
@pytest.mark.parametrize("name", ["wordpiece True False True", "byte_bpe", "gpt2_bpe"])
def test_the_ids_are_those_of_whole_texts_on_real_text(name):
    files = sorted(DATA.rglob("*.txt")) + sorted(DATA.rglob("*.conllu")) + sorted(DATA.rglob("*.tsv"))
    texts = list(itertools.chain(*(path.read_text(encoding="utf-8").split("\n")[:400] for path in files)))
    assert len(texts) > 2000
    tokenizer = built(name)
    assert tokenizer.encode_batch(texts) == without_memory(tokenizer, texts)


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_which_tokenizers_encode_word_by_word(name, tmp_path):
    built(name).save(tmp_path)
    definition = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    rule = BERT if name == "wordpiece" else BYTE_LEVEL if name in tokenizers.BYTE_LEVEL else None
    assert seen_words.rule_of(definition) is rule
    lowercase = {"type": "Lowercase"}
    assert seen_words.rule_of(definition | {"normalizer": lowercase}) is None
    if rule is BYTE_LEVEL:  # one without GPT-2's pattern, which may take a space to be a part of a word
        other = definition["pre_tokenizer"] | {"use_regex": False}
        assert seen_words.rule_of(definition | {"pre_tokenizer": other}) is None


class Lengths:
    """Encodes a word as its length, twice; notes what it is asked for."""

    def __init__(self):
        self.asked: list[str] = []

    def __call__(self, words: list[str]) -> list[list[int]]:
        if "fail" in words:
            raise ValueError("fail")
        self.asked += words
        return [[len(word)] * 2 for word in words]


def test_each_word_is_encoded_once():
    encode = Lengths()
    memory = SeenWords(BERT, encode)
    ids, lengths = memory.flat(["a bb a", "", "bb ccc"])
    assert ids.tolist() == [1, 1, 2, 2, 1, 1, 0, 0, 2, 2, 3, 3]
    assert lengths.tolist() == [6, 2, 4]
    memory.flat(["ccc dddd", "a"])
    assert encode.asked == ["a", "bb", "", "ccc", "dddd"]
    assert [x.tolist() for x in memory.flat([])] == [[], []]


@pytest.mark.parametrize("limit", [{"max_words": 50}, {"max_characters": 100}])
def test_the_memory_is_bounded(limit, monkeypatch):
    monkeypatch.setattr(seen_words, "_GROUP", 10)
    encode = Lengths()
    memory = SeenWords(BERT, encode, **limit)
    texts = [f"{number} {number + 1}" for number in range(1000)]
    for _ in range(2):
        assert memory.flat(texts)[0].tolist() == [len(word) for word in " ".join(texts).split() for _ in "ab"]
        assert len(memory._numbers) <= 50 + 11
    assert 2000 < len(encode.asked) < 2300  # what was forgotten is asked for again, and little else


def test_a_failure_leaves_no_word_without_ids():
    memory = SeenWords(BERT, Lengths())
    memory.flat(["a bb"])
    with pytest.raises(ValueError, match="fail"):
        memory.flat(["bb new fail"])
    assert memory.flat(["new bb"])[0].tolist() == [3, 3, 2, 2]


def test_several_threads_share_a_memory():
    tokenizer = built("wordpiece True False True")
    texts = random_texts(2, 400)
    expected = without_memory(tokenizer, texts)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert all(ids == expected for ids in pool.map(tokenizer.encode_batch, [texts] * 8))

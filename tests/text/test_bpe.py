import json
import random
import sys

import pytest

from tests.golden.multilingual import DOCUMENTS, TEXTS
from tx_jax import text
from tx_jax.errors import InputError
from tx_jax.text import bpe
from tx_jax.text.chunks import until_many_words

ALPHABET = sorted(bpe.BYTES)


@pytest.fixture(scope="module")
def roberta():
    return bpe.train(DOCUMENTS, vocab_size=450)


@pytest.fixture(scope="module")
def gpt2():
    return bpe.train(DOCUMENTS, vocab_size=450, family="gpt2", add_prefix_space=False)


def pieces(tokenizer, line):
    return tokenizer.tokens(tokenizer.encode(line))


def words(tokenizer, line):
    """The pieces of a line, joined to whole words by `is_continuation`."""
    joined = []
    for number, index in enumerate(tokenizer.encode(line)):
        if number and tokenizer.is_continuation[index]:
            joined[-1].append(index)
        else:
            joined.append([index])
    return [tokenizer.decode(word).strip() for word in joined]


def test_special_tokens_are_where_the_published_vocabularies_have_them(roberta, gpt2):
    assert roberta.tokens(range(4)) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert roberta.special_ids == (0, 1, 2, 3, 449)
    assert (roberta.cls_id, roberta.pad_id, roberta.sep_id, roberta.unk_id, roberta.mask_id) == (0, 1, 2, 3, 449)
    assert (roberta.bos_id, roberta.eos_id) == (0, 2)
    assert gpt2.token(449) == "<|endoftext|>"
    assert gpt2.special_ids == (449,)
    assert (gpt2.bos_id, gpt2.eos_id) == (449, 449)
    assert {gpt2.pad_id, gpt2.unk_id, gpt2.cls_id, gpt2.sep_id, gpt2.mask_id} == {None}


def test_every_text_comes_back(roberta, gpt2):
    rng = random.Random(0)
    points = [*range(1, 0x500), *rng.sample([c for c in range(sys.maxunicode) if not 0xD800 <= c < 0xE000], 2_000)]
    lines = [*TEXTS, *DOCUMENTS, *("".join(map(chr, rng.choices(points, k=50))) for _ in range(50))]
    for line, ids, prefixed in zip(lines, gpt2.encode_batch(lines), roberta.encode_batch(lines), strict=True):
        assert gpt2.decode(ids) == line
        assert roberta.decode(prefixed) == line.removeprefix(" ")
        assert not {*ids} & {*gpt2.special_ids}
        assert not {*prefixed} & {*roberta.special_ids}
    assert gpt2.decode(gpt2.encode("é 😀")[:-1]).endswith("\N{REPLACEMENT CHARACTER}")
    assert gpt2.decode([*gpt2.encode("a b"), 449, *gpt2.encode("c")]) == "a b<|endoftext|>c"


def test_the_first_word_is_like_any_other_only_with_a_prefix_space(roberta, gpt2):
    assert roberta.encode("the words") == roberta.encode(" the words")
    assert pieces(roberta, "the the") == ["Ġthe", "Ġthe"]
    assert gpt2.encode("the words") != gpt2.encode(" the words")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("They don't know (3.14), no.", ["They", "don't", "know", "(3.14),", "no."]),
        ("tabs\tand\nnew lines", ["tabs", "and", "new", "lines"]),
        ("la montaña comió", ["la", "montaña", "comió"]),
        ("unseen Ж ქართული 😀", ["unseen", "Ж", "ქართული", "😀"]),
    ],
)
def test_words_are_what_white_space_separates(roberta, gpt2, line, expected):
    assert words(gpt2, line) == expected
    assert words(roberta, line) == expected


@pytest.mark.parametrize("line", ["东京很高很远。", "東京タワーは高い", "วันนี้ดี"])
def test_in_scripts_without_spaces_no_word_is_a_whole_sentence(gpt2, line):
    ids = gpt2.encode(line)
    begin = [i for i in range(len(ids)) if i == 0 or not gpt2.is_continuation[ids[i]]]
    assert len(begin) > len(line) / 3
    # No word begins inside a character.
    assert all("\N{REPLACEMENT CHARACTER}" not in gpt2.decode(ids[i:]) for i in begin)


def test_any_place_will_do_for_special_tokens(tmp_path):
    vocabulary = ["<mask>", *ALPHABET[:100], "</s>", "<pad>", *ALPHABET[100:], "<s>", "ab", "<unk>"]
    tokenizer = bpe.ByteLevelBPE.from_merges(vocabulary, [("a", "b")], names=bpe.ROBERTA)
    assert (tokenizer.mask_id, tokenizer.cls_id, tokenizer.unk_id) == (0, 259, 261)
    tokenizer.save(tmp_path)
    assert text.load(tmp_path).fingerprint == tokenizer.fingerprint
    assert text.load(tmp_path).encode("ab") == [260]


def test_files_may_be_missing(roberta, gpt2, tmp_path):
    roberta.save(tmp_path)
    names = {"vocab.json", "merges.txt", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    assert (tmp_path / "merges.txt").read_text().startswith("#version: 0.2\n")
    # As newer versions of transformers save it.
    for name in ("vocab.json", "merges.txt", "special_tokens_map.json"):
        (tmp_path / name).unlink()
    assert text.load(tmp_path).fingerprint == roberta.fingerprint
    # As it was published: the names of the special tokens are conventions.
    gpt2.save(tmp_path / "gpt2")
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (tmp_path / "gpt2" / name).unlink()
    assert text.load(tmp_path / "gpt2").fingerprint == gpt2.fingerprint


def test_a_merge_may_begin_with_the_sign_of_a_comment(tmp_path):
    tokenizer = bpe.ByteLevelBPE.from_merges([*ALPHABET, "##", "<|endoftext|>"], [("#", "#")], names=bpe.GPT2)
    tokenizer.save(tmp_path)
    (tmp_path / "tokenizer.json").unlink()
    assert text.load(tmp_path).encode("##") == [256]


def test_old_and_extended_tokenizer_files(gpt2, tmp_path):
    gpt2.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    saved = json.loads(path.read_text())
    # Before version 0.20 of tokenizers the type was not written, and a merge was one string.
    del saved["model"]["type"]
    saved["model"]["merges"] = [" ".join(pair) for pair in saved["model"]["merges"]]
    path.write_text(json.dumps(saved))
    assert text.load(tmp_path).fingerprint == gpt2.fingerprint
    # Tokens added after training: one special, one that stands for text.
    common = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    saved["added_tokens"] += [
        {"id": 450, "content": "[PAD]", "special": True, **common},
        {"id": 451, "content": "<think>", "special": False, **common},
    ]
    path.write_text(json.dumps(saved))
    extended = text.load(tmp_path)
    assert (extended.vocab_size, extended.pad_id, extended.special_ids) == (452, 450, (449, 450))
    assert 451 in extended.encode("a<think>b")
    assert 450 not in extended.encode("a[PAD]b")
    assert extended.decode(extended.encode("a<think>[PAD]b")) == "a<think>[PAD]b"
    saved["model"]["vocab"]["zz"] = 900
    path.write_text(json.dumps(saved))
    with pytest.raises(InputError, match=r"gives '\[PAD\]' the id 450, but the tokenizers library.*451"):
        text.load(tmp_path)


def test_a_merge_that_spells_a_special_token_is_not_made():
    vocabulary = [*ALPHABET, "aa", "<|endoftext|>"]
    names = {"eos": "aa"}
    tokenizer = bpe.ByteLevelBPE.from_merges(vocabulary, [("a", "a")], names=names)
    assert tokenizer.eos_id == 256
    assert tokenizer.encode("aa") == [tokenizer.encode("a")[0]] * 2


def test_a_missing_byte_is_refused():
    for byte, is_needed in ((0x41, True), (0xE4, True), (0xFF, False), (0xC0, False)):
        vocabulary = [char for char in ALPHABET if bpe.BYTES[char] != byte]
        if is_needed:
            with pytest.raises(InputError, match="lacks 1 of the 256 bytes"):
                bpe.ByteLevelBPE.from_merges(vocabulary, [], names={})
        else:
            assert bpe.ByteLevelBPE.from_merges(vocabulary, [], names={}).special_ids == ()


def test_training_reads_no_more_distinct_words_than_it_can_hold():
    documents = ["one two three", "two one", "four", "one", "five"]
    assert list(until_many_words(documents, max_bytes=11)) == documents[:3]
    assert list(until_many_words(documents, max_bytes=100)) == documents
    assert list(until_many_words(["日本", "語"], max_bytes=5)) == ["日本"]


def test_berts_special_tokens_stand_once_between_two_texts():
    """As in DeBERTa's tokenizer, which has BERT's special tokens and GPT-2's bytes; </s> stands twice, as RoBERTa's."""
    for start, end, count in (("[CLS]", "[SEP]", 1), ("<s>", "</s>", 2)):
        tokens = [start, end, *bpe.BYTES]
        tokenizer = bpe.ByteLevelBPE.from_merges(tokens, [], names={"cls": start, "sep": end})
        assert tokenizer.pair_separators == count

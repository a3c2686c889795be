import json

import numpy as np
import pytest

from tests.data.labeled.configs import labeled
from tests.golden import multilingual, tokenizers
from tests.golden.tokenizers import PATH
from tx_jax.data.labeled import tagging
from tx_jax.errors import InputError

GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))
LABELS = ("B", "I", "O")


def config(length=512, **changes):
    return labeled(text=("tokens",), label="tags", sequence_length=length, **changes)


def sentences():
    rng = np.random.default_rng(0)
    lines = [line.split() for line in multilingual.TEXTS if line.split()]
    return [{"tokens": words, "tags": rng.choice(LABELS, len(words)).tolist()} for words in lines]


def words_again(table, values):
    """Of each record the values at the first pieces of its rows."""
    first = table.alignment["first_pieces"]
    result = {}
    for i, record in enumerate(table.alignment["record"]):
        at = np.flatnonzero(first.rows([i], table.length)[0])
        result.setdefault(int(record), []).extend(values[i][at].tolist())
    return result


@pytest.mark.parametrize("pieces", ["first", "all"])
@pytest.mark.parametrize("name", ["wordpiece", "byte_bpe, no prefix space", "unigram", "gpt2_bpe"])
def test_words_become_pieces_as_in_transformers(name, pieces):
    """By its ids of the same words; see tests/golden/make_tokenizers.py."""
    tokenizer = tokenizers.rebuild(name, GOLDEN[name])
    records = sentences()
    table = tagging.table(records, config(label_pieces=pieces), tokenizer, labels=LABELS)
    expected = [words for line, words in zip(multilingual.TEXTS, GOLDEN[name]["expected"]["words"], strict=True)]
    expected = [words for words in expected if words]
    batch = table.rows(np.arange(len(records)))
    assert table.alignment["record"].tolist() == list(range(len(records)))
    for i, words in enumerate(expected):
        words = [ids or [tokenizer.unk_id] for ids in words]
        length, bert = table.lengths[i], tokenizer.cls_id is not None
        flat = [index for ids in words for index in ids]
        framed = [tokenizer.cls_id, *flat, tokenizer.sep_id] if bert else [*flat, tokenizer.eos_id]
        assert batch["tokens"][i, :length].tolist() == framed
        numbers = [LABELS.index(tag) for tag in records[i]["tags"]]
        rest = (lambda n, count: [n] * count) if pieces == "all" else (lambda n, count: [-1] * count)
        learned = [x for n, ids in zip(numbers, words, strict=True) for x in [n, *rest(n, len(ids) - 1)]]
        assert batch["token_labels"][i, :length].tolist() == [-1] * bert + learned + [-1]
        assert (batch["token_labels"][i, length:] == -1).all()
    dropped = sum(any(not ids for ids in words) for words in expected)
    assert table.counts == ({"with a word that the tokenizer drops": dropped} if dropped else {})
    assert words_again(table, batch["token_labels"]) == {
        i: [LABELS.index(tag) for tag in record["tags"]] for i, record in enumerate(records)
    }


def test_a_long_sentence_becomes_several_rows_and_loses_no_word():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    records = sentences()
    whole = tagging.table(records, config(), tokenizer, labels=LABELS)
    table = tagging.table(records, config(12), tokenizer, labels=LABELS)
    assert table.lengths.max() <= 12
    assert (np.diff(table.alignment["record"]) >= 0).all()
    expected = words_again(whole, whole.rows(np.arange(len(whole)))["token_labels"])
    assert words_again(table, table.rows(np.arange(len(table)))["token_labels"]) == expected
    tokens = words_again(table, table.rows(np.arange(len(table)))["tokens"])
    assert tokens == words_again(whole, whole.rows(np.arange(len(whole)))["tokens"])
    rows = np.bincount(table.alignment["record"])
    assert table.counts["in several rows"] == (rows > 1).sum() > 2
    # A row is as full as it can be: the first word of the next one would not fit.
    starts = np.flatnonzero(np.diff(table.alignment["record"]) == 0) + 1
    for i in starts:
        first = table.alignment["first_pieces"].rows([i], 12)[0]
        following = np.flatnonzero(np.append(first, True)[2:])
        word = min(int(following[0]) + 1 if len(following) else 99, int(table.lengths[i]) - 2)
        assert table.lengths[i - 1] + word > 12


def test_a_word_longer_than_a_row_is_cut_and_counted():
    tokenizer = tokenizers.rebuild("unigram", GOLDEN["unigram"])
    records = [{"tokens": ["the", "xyz" * 30, "words"], "tags": list("BIO")}]
    table = tagging.table(records, config(10), tokenizer, labels=LABELS)
    assert table.lengths.tolist()[1] == 10
    assert table.counts == {"in several rows": 1, "with a word cut to the length of a row": 1}
    assert words_again(table, table.rows(np.arange(3))["token_labels"]) == {0: [0, 1, 2]}


def test_words_without_labels_and_texts_without_words():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    records = [{"tokens": "They don't fall, no."}, {"tokens": []}, {"tokens": ["\x7f", "no"]}]
    assert tagging.words_of(records[0], config()) == ["They", "don", "'", "t", "fall", ",", "no", "."]
    text = "हिन्दी cafe\u0301, \u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 5\u00a0€"
    expected = ["हिन्दी", "cafe\u0301", ",", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "5", "€"]
    assert tagging.words_of({"tokens": text}, config()) == expected
    table = tagging.table(records, config(), tokenizer, labels=None)
    assert table.alignment["record"].tolist() == [0, 2]
    assert (table.rows(np.arange(2))["token_labels"] == -1).all()
    unknown = table.rows(np.array([1]))["tokens"][0, :4]
    assert unknown.tolist() == [tokenizer.cls_id, tokenizer.unk_id, *tokenizer.encode("no"), tokenizer.sep_id][:4]
    assert table.counts == {"with a word that the tokenizer drops": 1}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"tokens": ["a"], "tags": ["O", "O"]}, "example 2: 2 labels in column 'tags' for 1 words"),
        ({"tokens": ["a"], "tags": "O"}, "example 2: no list of labels in column 'tags' for 1 words"),
        ({"tokens": [1], "tags": ["O"]}, "example 2: column 'tokens' is not a list of words"),
        (
            {"tokens": ["a", "b"], "tags": ["O", "X"]},
            "1 words have a label .* 'X', the first of them word 3; it knows B",
        ),
    ],
)
def test_bad_input(record, expected):
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    records = [{"tokens": ["a"], "tags": ["O"]}, record]
    with pytest.raises(InputError, match=expected):
        tagging.table(records, config(), tokenizer, labels=LABELS)

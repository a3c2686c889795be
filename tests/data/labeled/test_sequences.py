"""Against the definition, written out one example at a time."""

import numpy as np
import pytest
from tokenizers import Tokenizer as Engine
from tokenizers import models, pre_tokenizers

from tests.data.labeled.configs import labeled
from tx_jax import text
from tx_jax.data.labeled import choices, sequences
from tx_jax.errors import InputError

DOCUMENTS = ["the cat sat on the mat and the dog sat on the rug", "a dog and a cat ran to the mat in the sun"] * 20


@pytest.fixture(scope="module", params=["wordpiece", "byte_bpe", "gpt2_bpe"])
def tokenizer(request):
    return text.train(request.param, DOCUMENTS, vocab_size=280 if "bpe" in request.param else 60)


def row(tokenizer, a, b, room):
    """A pair, the longer text cut first, of two that became equal the one that was shorter; with the special tokens of
    its family."""
    shorter = b if len(a) > len(b) else a
    while len(a) + len(b) > room:
        (shorter if len(a) == len(b) else max(a, b, key=len)).pop()
    if tokenizer.cls_id is None:
        return [*a, tokenizer.eos_id, *b, tokenizer.eos_id], len(a) + 1
    sep = tokenizer.sep_id
    middle = [sep, sep] if tokenizer.token(sep) == "</s>" else [sep]
    return [tokenizer.cls_id, *a, *middle, *b, sep], 1 + len(a) + len(middle)


def test_pairs(tokenizer):
    rng = np.random.default_rng(0)
    words = DOCUMENTS[0].split()
    pairs = [[" ".join(rng.choice(words, n)) for n in rng.integers(1, 14, 2)] for _ in range(200)]
    records = [{"one": a, "two": b} for a, b in pairs]
    data = labeled(text=("one", "two"), sequence_length=16)
    table = sequences.table(records, data, tokenizer, segments=True, targets={"labels": np.arange(200, dtype=np.int32)})
    specials = 2 if tokenizer.cls_id is None else len(row(tokenizer, [], [], 0)[0])
    cut = 0
    batch = table.rows(np.arange(200))
    for i, (a, b) in enumerate(pairs):
        a, b = tokenizer.encode_batch([a, b])
        cut += len(a) + len(b) > 16 - specials
        expected, first = row(tokenizer, a, b, 16 - specials)
        filled = 16 - len(expected)
        assert batch["tokens"][i].tolist() == expected + [tokenizer.pad_id or 0] * filled
        assert batch["segments"][i].tolist() == [0] * first + [1] * (len(expected) - first) + [0] * filled
        assert batch["valid"][i].tolist() == [True] * len(expected) + [False] * filled
    assert 20 < cut < 180
    assert table.counts == {"truncated": cut}
    np.testing.assert_array_equal(batch["labels"], np.arange(200))


def test_pairs_are_cut_as_the_library_cuts_them():
    """tokenizers, and so transformers with truncation=True; every pair of lengths."""
    engine = Engine(models.WordLevel({"x": 0}, unk_token="x"))
    engine.pre_tokenizer = pre_tokenizers.Whitespace()
    for room in range(2, 10):
        engine.enable_truncation(room)
        lengths = np.array([(a, b) for a in range(14) for b in range(14)])
        of = [engine.encode("x " * a, "x " * b).sequence_ids for a, b in lengths]
        kept = np.stack(sequences.kept_lengths(*lengths.T, room), axis=1)
        np.testing.assert_array_equal(kept, [(ids.count(0), ids.count(1)) for ids in of])


def test_one_text(tokenizer):
    records = [{"text": "the cat"}, {"text": " ".join(["dog"] * 40)}, {"text": ""}]
    table = sequences.table(records, labeled(sequence_length=8), tokenizer, segments=True, targets={})
    assert table.columns.keys() == {"tokens"}  # all are of the first segment, which is what a model takes without
    cat, dog = tokenizer.encode("the cat"), tokenizer.encode(records[1]["text"])
    before, after = ([], [tokenizer.eos_id]) if tokenizer.cls_id is None else ([tokenizer.cls_id], [tokenizer.sep_id])
    rows = [table.columns["tokens"].rows(np.array([i]), 8)[0][:n].tolist() for i, n in enumerate(table.lengths)]
    room = 8 - len(before) - len(after)
    assert rows == [before + cat + after, before + dog[:room] + after, before + after]
    assert table.counts == {"truncated": 1, "empty text": 1}


def test_a_row_without_room_for_text(tokenizer):
    with pytest.raises(InputError, match="sequence_length=3 leaves no room for text: a pair of texts takes"):
        sequences.encode([["a"], ["b"]], tokenizer, 3, segments=False)


def test_what_is_no_text():
    with pytest.raises(InputError, match="example 2 has a list in column 'text', where a text is needed"):
        sequences.texts([{"text": 5}, {"text": ["a"]}], "text")


def test_choices(tokenizer):
    records = [
        {"start": "the cat", "subject": "a dog", "e0": "sat", "e1": "ran to the mat in the sun"},
        {"start": "a dog", "subject": "the cat", "e0": "and the rug", "e1": ""},
    ]
    data = labeled(text=("start", "subject"), choices=("e0", "e1"), sequence_length=64)
    targets = np.array([1, 0], np.int32)
    table = choices.table(records, data, tokenizer, segments=True, targets={"labels": targets})
    batch = table.rows(np.array([1, 0]), length=40)
    assert batch["tokens"].shape == batch["segments"].shape == batch["valid"].shape == (2, 2, 40)
    assert batch["labels"].tolist() == [0, 1]
    for i, record in enumerate(reversed(records)):
        for j, ending in enumerate((record["e0"], record["e1"])):
            pair = tokenizer.encode_batch([record["start"], f"{record['subject']} {ending}".strip()])
            expected, first = row(tokenizer, *pair, room=64)
            assert batch["tokens"][i, j, : len(expected)].tolist() == expected
            assert batch["valid"][i, j].sum() == len(expected)
            assert batch["segments"][i, j].sum() == len(expected) - first
    assert table.lengths.tolist() == table.rows(np.array([0, 1]))["valid"].sum(-1).max(-1).tolist()
    assert len(table) == 2
    assert table.counts == {}
    long = [{"start": "the cat", "e0": "sat " * 9, "e1": "ran " * 9}] * 3
    data = labeled(text=("start",), choices=("e0", "e1"), sequence_length=8)
    assert choices.table(long, data, tokenizer, segments=True, targets={}).counts == {"truncated": 3}

"""Selective masking, with real tokenizers of the three kinds. Bounds: see `bounds`."""

import numpy as np
import pytest

from tests.data.bounds import share_bound
from tests.data.synthetic import SyntheticSplit
from tx_jax import text
from tx_jax.data.pretraining.masking import Masking
from tx_jax.data.pretraining.selective import WordList, choose_listed, count_occurrences, occurrence_sizes, read_words
from tx_jax.data.pretraining.targets import MaskedTargets, RateSchedule
from tx_jax.data.rng import RowRandom, keys
from tx_jax.errors import InputError

KINDS = ("wordpiece", "byte_bpe", "unigram", "sentencepiece_bpe")
SENTENCES = (
    "Art is long, and the party of artists paints (art) while the smart start.",
    "vaccination, vaccines and a vaccine: the public health office wrote public notes on health.",
    "The canción of the año was sung at the party; a party without a song is no party.",
    "nobody here said anything of note while the long notes were sung by artists of the office",
)


def train(kind):
    lowercase = True if kind == "wordpiece" else None
    return text.train(kind, SENTENCES * 30, vocab_size=420, lowercase=lowercase, strip_accents=None)


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request):
    return train(request.param)


@pytest.fixture(scope="module")
def bpe():
    return train("byte_bpe")


def rows_of(tokenizer, sentences, length=96):
    tokens = np.full((len(sentences), length), tokenizer.pad_id, np.int32)
    for row, ids in enumerate(tokenizer.encode_batch(list(sentences))):
        tokens[row, : len(ids) + 2] = [tokenizer.cls_id, *ids, tokenizer.sep_id]
    return tokens, tokens != tokenizer.pad_id


def masking(tokenizer, rate, max_predictions=60):
    return Masking(rate, max_predictions, 0.8, 0.1, tokenizer.mask_id, tokenizer.vocab_size, tokenizer.special_ids)


def found(tokenizer, words, sentences):
    """For each sentence, the texts of the occurrences."""
    listed = WordList(words, tokenizer)
    tokens, valid = rows_of(tokenizer, sentences)
    matches = listed.find(tokens, valid)
    texts = [[] for _ in sentences]
    for row, column, length, word in zip(*matches, strict=True):
        piece = tokenizer.decode(tokens[row, column : column + length]).strip()
        texts[row].append((piece, listed.words[word]))
    return texts


def test_words_are_found_whole_beside_punctuation_and_not_inside_of_others(tokenizer):
    lower = [sentence.lower() for sentence in SENTENCES]
    got = found(tokenizer, ["art", "vaccine", "party", "office"], lower)
    assert [[word for _, word in row] for row in got] == [
        ["art", "party", "art"],
        ["vaccine", "office"],
        ["party", "party", "party"],
        ["office"],
    ]
    for row in got:
        assert all(piece == word for piece, word in row)


def test_words_with_accents_and_of_several_pieces_and_phrases(tokenizer):
    got = found(tokenizer, ["canción", "año", "public health", "public", "vaccination"], [s.lower() for s in SENTENCES])
    assert [word for _, word in got[1]] == ["vaccination", "public health", "public"]  # the longest wins
    assert [word for _, word in got[2]] == ["canción", "año"]
    assert len(tokenizer.encode("sanctuary")) > 1
    assert found(tokenizer, ["sanctuary"], ["the sanctuary, sanctuarys"]) == [[("sanctuary", "sanctuary")]]


def test_the_form_without_a_space_before_it_is_found(bpe):
    assert found(bpe, ["art"], ["(art) art"]) == [[("art", "art"), ("art", "art")]]
    pieces = bpe.tokens(bpe.encode("(art) art"))
    assert pieces.count("art") == 1  # so the other one is written in another way


def test_special_tokens_and_padding_end_a_word(bpe):
    art, ists = bpe.encode("art"), [token for token in bpe.encode("artists") if bpe.is_continuation[token]]
    end = bpe.sep_id
    rows = np.array([[end, *art, end, *ists[:1], end, end, end]], np.int32)
    assert len(WordList(["art"], bpe).find(rows, np.ones_like(rows, bool)).row) == 1
    rows = np.array([[end, *art, *bpe.encode("xists")[-1:], end]], np.int32)
    assert bpe.is_continuation[rows[0, -2]]
    assert len(WordList(["art"], bpe).find(rows, np.ones_like(rows, bool)).row) == 0
    valid = np.array([[True] * (1 + len(art)) + [False] * 2])
    assert len(WordList(["art"], bpe).find(rows, valid).row) == 1


@pytest.mark.parametrize("rate", [0.15, 0.4, 0.8])
def test_only_listed_words_are_chosen_at_the_rate_of_their_occurrences(tokenizer, rate):
    listed = WordList(["party", "art", "vaccine", "notes"], tokenizer)
    repeats = 800
    tokens, valid = rows_of(tokenizer, [s.lower() for s in SENTENCES] * repeats)
    settings = masking(tokenizer, rate)
    rng = RowRandom(keys(0, np.arange(len(tokens))))
    choice = choose_listed(tokens, valid, settings, listed, rng, rate_of="occurrences")
    sizes = occurrence_sizes(listed.find(tokens, valid), tokens.shape)
    begins = sizes[:, :-1] > 0
    assert begins.sum() == repeats * sum([3, 2, 3, 1])
    inside = np.zeros_like(valid)
    for row, column in zip(*np.nonzero(begins), strict=True):
        span = slice(column, column + sizes[row, column])
        inside[row, span] = True
        assert choice.chosen_BT[row, span].all() or not choice.chosen_BT[row, span].any()
    assert not (choice.chosen_BT & ~inside).any()
    assert choice.chosen_BT.any()
    share, n = choice.chosen_BT[begins].mean(), int(begins.sum())
    assert abs(share - rate) < share_bound(rate, n)
    assert not choice.dropped_B.any()


def test_a_rate_of_all_tokens_is_filled_with_listed_words_as_far_as_they_go(bpe):
    listed = WordList(["party", "notes", "public", "of", "the", "a"], bpe)
    tokens, valid = rows_of(bpe, SENTENCES * 200)
    rng = RowRandom(keys(0, np.arange(len(tokens))))
    choice = choose_listed(tokens, valid, masking(bpe, 0.15), listed, rng, rate_of="tokens")
    available = occurrence_sizes(listed.find(tokens, valid), tokens.shape).sum(axis=1)
    wanted = np.minimum(np.rint(0.15 * valid.sum(axis=1)), available)
    got = choice.chosen_BT.sum(axis=1)
    assert (got <= wanted).all()
    assert got.sum() > 0.9 * wanted.sum()
    everything = choose_listed(tokens, valid, masking(bpe, 0.8), listed, rng, rate_of="tokens")
    np.testing.assert_array_equal(everything.chosen_BT.sum(axis=1), available)


def test_what_there_is_no_room_for_is_counted(bpe):
    listed = WordList(["party"], bpe)
    tokens, valid = rows_of(bpe, [" ".join(["party"] * 20)] * 50)
    rng = RowRandom(keys(0, np.arange(50)))
    for rate_of, share, wanted in (("occurrences", 1.0, 20), ("tokens", 0.5, 11)):
        choice = choose_listed(tokens, valid, masking(bpe, share, 8), listed, rng, rate_of=rate_of)
        size = len(bpe.encode("party"))
        assert (choice.chosen_BT.sum(axis=1) == 8 // size * size).all()
        if size == 1:
            assert (choice.dropped_B == wanted - 8).all()


def test_mixtures_mask_a_share_of_the_sequences_selectively(bpe):
    repeats = 1500
    tokens, valid = rows_of(bpe, SENTENCES[2:3] * repeats)
    listed = WordList(["party"], bpe)
    is_listed = np.zeros_like(valid)
    matches = listed.find(tokens, valid)
    for row, column, length in zip(matches.row, matches.column, matches.length, strict=True):
        is_listed[row, column : column + length] = True
    targets = MaskedTargets(
        masking(bpe, 1 / 3), RateSchedule(1 / 3, 1 / 3, 0), listed=listed, selective_share=0.7, rate_of="occurrences"
    )
    out = targets({"tokens": tokens, "valid": valid}, RowRandom(keys(0, np.arange(repeats))), 0)
    rows = np.arange(repeats)[:, None]
    used = out["masked_weights"] == 1
    only_listed = (is_listed[rows, out["masked_positions"]] | ~used).all(axis=1) & (used.sum(axis=1) == 1)
    assert abs(only_listed.mean() - 0.7) < share_bound(0.7, repeats)
    assert used[~only_listed].sum(axis=1).min() > 5


def test_occurrences_are_counted_and_words_that_never_occur_told(tokenizer, monkeypatch):
    ids = tokenizer.encode_batch([sentence.lower() for sentence in SENTENCES])
    split = SyntheticSplit([[len(sentence)] for sentence in ids] * 50)
    flat = np.concatenate(ids * 50).astype(np.int32)
    split.read = lambda starts, ends: np.concatenate([flat[a:b] for a, b in zip(starts, ends, strict=True)])
    listed = WordList(["party", "unicorns", "art", "party", " office "], tokenizer)
    assert listed.words == ("party", "unicorns", "art", "office")
    expected = [200, 0, 100, 100]
    assert count_occurrences(split, listed).tolist() == expected
    monkeypatch.setattr("tx_jax.data.pretraining.selective._BLOCK", 70)
    assert count_occurrences(split, listed).tolist() == expected


def test_a_phrase_does_not_occur_across_documents(bpe):
    parts = bpe.encode_batch(["public", "health", "public health"])
    split = SyntheticSplit([[len(part)] for part in parts])
    flat = np.concatenate(parts).astype(np.int32)
    split.read = lambda starts, ends: np.concatenate([flat[a:b] for a, b in zip(starts, ends, strict=True)])
    assert count_occurrences(split, WordList(["public health"], bpe)).tolist() == [1]


def test_words_that_cannot_be_written_are_told_and_match_nothing():
    tokenizer = train("wordpiece")
    listed = WordList(["中国", "party"], tokenizer)
    assert listed.unwritable == ("中国",)
    tokens, valid = rows_of(tokenizer, ["中国 中国 party"])
    assert listed.find(tokens, valid).word.tolist() == [1]
    nothing = WordList(["中国"], tokenizer)
    assert len(nothing.find(tokens, valid).row) == 0


def test_a_row_does_not_depend_on_its_neighbours(bpe):
    tokens, valid = rows_of(bpe, SENTENCES * 4)
    listed = WordList(["party", "of", "the"], bpe)
    whole = choose_listed(
        tokens, valid, masking(bpe, 0.4), listed, RowRandom(keys(0, np.arange(16))), rate_of="occurrences"
    )
    for row in (0, 7, 14):
        rng = RowRandom(keys(0, np.array([row])))
        alone = choose_listed(
            tokens[row : row + 1], valid[row : row + 1], masking(bpe, 0.4), listed, rng, rate_of="occurrences"
        )
        np.testing.assert_array_equal(alone.chosen_BT[0], whole.chosen_BT[row])


def test_lists_are_read_from_files(tmp_path):
    path = tmp_path / "words.txt"
    path.write_bytes("\ufeffart\r\n\r\n  public health \n".encode())
    assert read_words(path) == ["art", "public health"]
    with pytest.raises(InputError, match=r"cannot read the list of words .*none\.txt"):
        read_words(tmp_path / "none.txt")
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="not valid UTF-8 at byte 0"):
        read_words(path)
    path.write_text("\n\n")
    with pytest.raises(InputError, match="is empty: give one word per line"):
        read_words(path)

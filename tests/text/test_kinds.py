"""What every kind of tokenizer does alike."""

import concurrent.futures
import json
import multiprocessing
import pickle
import subprocess
import sys

import numpy as np
import pytest

from tests.golden import multilingual, tokenizers
from tests.golden.tokenizers import PATH
from tx_jax import text
from tx_jax.errors import InputError
from tx_jax.text import bpe, spm

DOCUMENTS = multilingual.DOCUMENTS
SENTENCE_PIECE = ("unigram", "sentencepiece_bpe", "t5_unigram")
GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=text.KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def tokenizer(kind):
    return text.train(kind, DOCUMENTS, vocab_size=700)


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_the_ids_are_those_of_transformers(name, tmp_path):
    expected = GOLDEN[name]["expected"]
    tokenizer = tokenizers.rebuild(name, GOLDEN[name])
    tokenizer.save(tmp_path)
    for same in (tokenizer, text.load(tmp_path)):
        assert same.encode_batch(multilingual.TEXTS) == expected["ids"]
        a, b = same.encode_batch(multilingual.PAIR)
        if tokenizer.cls_id is None:
            end = [same.eos_id] if name == "t5" else []
            assert (a + end, a + end + b + end) == (expected["single"], expected["pair"])
            continue
        cls, sep = same.cls_id, same.sep_id
        between = [sep] if name.startswith(("wordpiece", "deberta")) else [sep, sep]
        assert [cls, *a, sep] == expected["single"]
        assert [cls, *a, *between, *b, sep] == expected["pair"]
        assert same.pair_separators == len(between)
        assert same.encode_masked(multilingual.MASKED.format(same.token(same.mask_id))) == expected["masked"]
        roles = ("pad", "unk", "cls", "sep", "mask")
        assert {role: getattr(same, f"{role}_id") for role in roles} == {
            role: expected["specials"][role] for role in roles
        }
    assert tokenizer.eos_id == (expected["specials"]["eos"] or expected["specials"]["sep"])


@pytest.mark.parametrize("name", tokenizers.NAMES)
def test_spans_and_words_are_those_of_transformers(name):
    expected = GOLDEN[name]["expected"]
    tokenizer = tokenizers.rebuild(name, GOLDEN[name])
    for line, ids, spans in zip(multilingual.TEXTS, expected["ids"], expected["spans"], strict=True):
        (aligned,) = tokenizer.encode_aligned([line])
        assert aligned.ids == ids
        assert (aligned.spans.dtype, aligned.spans.shape) == (np.int32, (len(ids), 2))
        for ours, theirs in zip(aligned.spans.tolist(), spans, strict=True):
            assert ours == theirs or (ours[0] == ours[1] and theirs[0] == theirs[1]), line
    for line, words in zip(multilingual.TEXTS, expected["words"], strict=True):
        assert tokenizer.encode_words(line.split()) == words


def test_spans_lead_back_to_the_text(tokenizer):
    line = "  the words\tfall \n into pieces "
    aligned = tokenizer.encode_aligned([line])[0]
    for (start, end), token in zip(aligned.spans, tokenizer.tokens(aligned.ids), strict=True):
        bare = token.removeprefix("##").replace("Ġ", " ").replace("▁", " ").strip()
        assert line[start:end] == bare or not bare.isascii() or not bare.isalpha()
    assert tokenizer.encode_aligned([""])[0].spans.shape == (0, 2)
    covered = {at for start, end in aligned.spans for at in range(start, end)}
    assert covered == {at for at, character in enumerate(line) if not character.isspace()}


def test_saved_loaded_and_sent_it_is_the_same(tokenizer, tmp_path):
    tokenizer.save(tmp_path)
    for same in (text.load(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        assert type(same) is type(tokenizer)
        assert same.fingerprint == tokenizer.fingerprint
        assert same.encode_batch(DOCUMENTS) == tokenizer.encode_batch(DOCUMENTS)
        assert same.special_ids == tokenizer.special_ids
        assert same.vocab_size == tokenizer.vocab_size == len(set(same.tokens(range(same.vocab_size))))
        np.testing.assert_array_equal(same.is_continuation, tokenizer.is_continuation)
    again = tmp_path / "again"
    text.load(tmp_path).save(again)
    assert text.load(again).fingerprint == tokenizer.fingerprint


def test_it_travels_to_a_worker_process(tokenizer):
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert pool.submit(tokenizer.encode, DOCUMENTS[0]).result() == tokenizer.encode(DOCUMENTS[0])


def test_fingerprints_tell_tokenizers_apart(tokenizer, kind):
    assert text.train(kind, DOCUMENTS[1:], vocab_size=700).fingerprint != tokenizer.fingerprint


def test_names_of_special_tokens_in_a_text_are_text(tokenizer):
    names = [tokenizer.token(index) for index in tokenizer.special_ids]
    assert names
    forged = [
        form for name in names for form in (name, f" {name}", f"a{name}b", f"{name} {name}", name * 3, name + " ")
    ]
    for form, ids in zip(forged, tokenizer.encode_batch(forged), strict=True):
        assert not set(ids) & (set(tokenizer.special_ids) - {tokenizer.unk_id}), form
        assert ids, form
    assert not set(tokenizer.encode(" ".join(DOCUMENTS[:4]))) & set(tokenizer.special_ids)


def test_special_tokens_never_continue_a_word(tokenizer):
    mask = tokenizer.is_continuation
    assert mask.dtype == bool
    assert mask.shape == (tokenizer.vocab_size,)
    assert not mask[list(tokenizer.special_ids)].any()
    assert 0.1 < mask.mean() < 0.95
    with pytest.raises(ValueError, match="read-only"):
        mask[0] = True


def test_a_mask_in_a_text_takes_the_place_of_a_word(tokenizer):
    if tokenizer.mask_id is None:
        with pytest.raises(InputError, match="no mask token"):
            tokenizer.encode_masked("the words fall")
        return
    mask = tokenizer.token(tokenizer.mask_id)
    before, after = tokenizer.encode("no word"), tokenizer.encode("no word is lost, no")
    assert tokenizer.encode_masked(f"no word  {mask}") == [*before, tokenizer.mask_id]
    assert tokenizer.encode_masked("no word") == before
    # What follows without a space has none before it, as in the training data.
    lost = tokenizer.encode("no word is lost")
    assert after[: len(lost)] == lost
    assert tokenizer.encode_masked(f"no word is {mask}, no") == [
        *tokenizer.encode("no word is"),
        tokenizer.mask_id,
        *after[len(lost) :],
    ]
    assert tokenizer.encode_masked(f"{mask}{mask} word") == [tokenizer.mask_id] * 2 + tokenizer.encode(" word")


def test_decoding_reads_well(tokenizer):
    ids = tokenizer.encode("the words fall into pieces")
    assert tokenizer.decode(ids) == "the words fall into pieces"
    assert tokenizer.decode(np.array(ids, np.int32)) == tokenizer.decode(ids)
    assert tokenizer.decode([]) == ""
    end = tokenizer.token(tokenizer.eos_id)
    assert tokenizer.decode([*ids, tokenizer.eos_id]).replace(" ", "") == f"thewordsfallintopieces{end}"


def test_training_is_the_same_in_every_process(kind):
    # Words of random letters: many pairs are equally frequent, and the library breaks ties by the order of a hash map.
    script = f"""
import random
from tx_jax import text
words = ["".join(random.Random(i).choices("abcdefghijklmnop", k=5)) for i in range(2_000)]
print(text.train({kind!r}, [" ".join(words)], vocab_size=500).fingerprint)
"""
    prints = {subprocess.run([sys.executable, "-c", script], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(prints) == 1


def test_training_does_not_depend_on_the_order_of_the_documents(kind, tokenizer):
    assert text.train(kind, DOCUMENTS[::-1], vocab_size=700).fingerprint == tokenizer.fingerprint


def test_a_mask_takes_the_space_before_it_in_transformers_too(tokenizer, kind, tmp_path):
    tokenizer.save(tmp_path)
    added = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
    takes = {token["id"]: token["lstrip"] for token in added}
    assert takes == {index: index == tokenizer.mask_id and kind != "wordpiece" for index in tokenizer.special_ids}


def test_training_streams_and_reports(kind):
    taken, reports = [], []

    def documents():
        for i, document in enumerate(DOCUMENTS):
            taken.append(i)
            yield document

    text.train(kind, documents(), vocab_size=700, progress=lambda count: reports.append((count, len(taken))))
    assert [count for count, _ in reports] == np.cumsum([len(document) for document in DOCUMENTS]).tolist()
    assert reports[-1][1] == len(DOCUMENTS)
    assert all(read <= i + 2 for i, (_, read) in enumerate(reports))


@pytest.mark.parametrize("documents", [[], [""], [" \n\t"]])
def test_nothing_to_learn_is_an_error(kind, documents):
    with pytest.raises(InputError, match="no text to train the tokenizer on"):
        text.train(kind, documents, vocab_size=700)


def test_a_vocabulary_too_small_is_an_error(kind):
    with pytest.raises(InputError, match=r"vocab_size=30.*raise"):
        text.train(kind, DOCUMENTS, vocab_size=30)


def test_options_without_a_meaning_are_refused(kind):
    for option in ("lowercase", "strip_accents"):
        has_meaning = kind == "wordpiece" or (option == "lowercase" and kind in SENTENCE_PIECE)
        if has_meaning:
            tokenizer = text.train(kind, DOCUMENTS, vocab_size=700, **{option: True})
            assert tokenizer.encode("El Niño") != tokenizer.encode("El Ni")
        else:
            with pytest.raises(InputError, match=f"{option} has no meaning for {kind}"):
                text.train(kind, DOCUMENTS, vocab_size=700, **{option: True})
        text.check(kind, **{option: False})
    with pytest.raises(InputError, match=r"'unigramm'.*Did you mean 'unigram'"):
        text.check("unigramm")


def test_lowercase_folds_case(kind):
    if kind in ("wordpiece", *SENTENCE_PIECE):
        tokenizer = text.train(kind, DOCUMENTS, vocab_size=700, lowercase=True)
        assert tokenizer.encode("THE Words") == tokenizer.encode("the words")


def test_a_required_token_that_is_missing_is_named_with_its_folder(tmp_path):
    bpe.train(DOCUMENTS, vocab_size=400, family="gpt2").save(tmp_path)
    assert text.load(tmp_path, requires=("eos",)).mask_id is None
    with pytest.raises(InputError, match=rf"the tokenizer in {tmp_path} has no mask and no pad token"):
        text.load(tmp_path, requires=("mask", "eos", "pad"))
    spm.train(DOCUMENTS, vocab_size=700).require("mask", "pad", "cls", "sep", "unk", "bos", "eos")


FOLDERS = {
    "no tokenizer that tx_jax can run": {"model.bin": "x"},
    "tokenizer.json is not valid JSON": {"tokenizer.json": "{"},
    "tokenizer.json is not a JSON object": {"tokenizer.json": "[]"},
    "cannot read tokenizer.json": {"tokenizer.json": '{"model": {"type": "Unigram"}, "pre_tokenizer": "▁"}'},
    "this is not a SentencePiece model": {"spm.model": "nonsense"},
    "expected two tokens, found 'a b c'": {"vocab.json": '{"a": 0}', "merges.txt": "#version: 0.2\na b c\n"},
    "the merges do not fit": {"vocab.json": '{"a": 0}', "merges.txt": "a b\n"},
    "lacks 243 of the 256 bytes": {"vocab.json": '{"<s>": 0}', "merges.txt": ""},
    "are not 0 to 1, each once": {"vocab.json": '{"a": 0, "b": 2}', "merges.txt": ""},
}


@pytest.mark.parametrize("message", FOLDERS)
def test_a_folder_that_cannot_be_used_is_one_clear_error(tmp_path, message):
    for name, content in FOLDERS[message].items():
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        text.load(tmp_path)
    assert str(tmp_path) in str(caught.value)

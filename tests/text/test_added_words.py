import json
import pickle
import warnings

import numpy as np
import pytest

from tests.golden import tokenizers
from tests.golden.multilingual import ADDED, ADDED_TEXTS, DOCUMENTS, TEXTS
from tests.text.test_bpe import words
from tx_jax import text
from tx_jax.data.pretraining import preview
from tx_jax.data.pretraining.byte_lengths import byte_lengths
from tx_jax.data.pretraining.selective import WordList
from tx_jax.errors import InputError, InputWarning
from tx_jax.text import bpe, spm, wordpiece

GOLDEN = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))


@pytest.fixture(params=tokenizers.NAMES)
def name(request):
    return request.param


@pytest.fixture
def base(name):
    return tokenizers.rebuild(name, GOLDEN[name])


@pytest.fixture
def extended(base):
    return tokenizers.extend(base)


@pytest.fixture(scope="module", params=text.KINDS)
def trained(request):
    """One of each kind that knows all characters of English, and the same with two words more."""
    tokenizer = text.train(request.param, [*DOCUMENTS, *map(chr, range(33, 127))] * 2, vocab_size=700)
    return tokenizer, tokenizer.with_tokens(["covid", "lockdown"])


def test_the_ids_are_those_of_transformers(name, extended, tmp_path):
    extended.save(tmp_path)
    for same in (extended, text.load(tmp_path), pickle.loads(pickle.dumps(extended))):
        assert same.encode_batch(ADDED_TEXTS) == GOLDEN[name]["expected"]["added"]
        assert same.fingerprint == extended.fingerprint
        assert same.vocab_size == extended.vocab_size


def test_everything_else_stays_as_it_was(base, extended):
    assert type(extended) is type(base)
    assert extended.encode_batch([*TEXTS, *DOCUMENTS]) == base.encode_batch([*TEXTS, *DOCUMENTS])
    assert extended.tokens(range(base.vocab_size)) == base.tokens(range(base.vocab_size))
    assert extended.tokens(range(base.vocab_size, extended.vocab_size))[:3] == list(ADDED)
    assert extended.special_ids == base.special_ids
    assert extended.fingerprint != base.fingerprint
    np.testing.assert_array_equal(extended.is_continuation[: base.vocab_size], base.is_continuation)
    assert not extended.is_continuation[base.vocab_size :].any()


def test_more_can_be_added_later(base):
    together = base.with_tokens(["covid", "lockdown"])
    later = base.with_tokens(["covid"]).with_tokens(["lockdown"])
    assert later.vocab_size == base.vocab_size + 2
    for line in ("a covid lockdown", "lockdown, (covid)"):
        assert later.encode(line) == together.encode(line)
        assert later.decode(later.encode(line)) == together.decode(later.encode(line))


def test_none_are_no_change(base):
    assert base.with_tokens([]) is base


@pytest.mark.parametrize(
    "line",
    ["covid", " covid", "the covid", "(covid)", "covid, covid", "anti-covid", "covid's", "no\ncovid", "lockdown covid"],
)
def test_a_whole_word_is_one_token(trained, line):
    base, extended = trained
    ids = extended.encode(line)
    assert ids.count(base.vocab_size) == line.count("covid")
    assert ids.count(base.vocab_size + 1) == line.count("lockdown")
    assert base.vocab_size not in extended.encode("xcovid")


def test_a_word_beside_a_mask(trained):
    _, extended = trained
    if extended.mask_id is not None:
        mask, covid = extended.token(extended.mask_id), extended.vocab_size - 2
        after = [*extended.encode(" covid,"), extended.mask_id]
        assert extended.encode_masked(f"the {mask} covid, {mask}") == [
            *extended.encode("the"),
            extended.mask_id,
            *after,
        ]
        assert extended.encode_masked(f"{mask}covid {mask}") == [extended.mask_id, covid, extended.mask_id]


@pytest.mark.parametrize(
    "line",
    [
        "covid",
        "the covid and the lockdown: covid.",
        "no lockdown, (covid) or [covid], anti-covid, covid/lockdown; covid-free",
        'a "covid" and "the covid" covid lockdown',
        "l'covid #covid covid's 2 covid 3",
    ],
)
def test_decoding_restores_the_text(trained, line):
    base, extended = trained
    if isinstance(base, wordpiece.WordPiece):
        line = "the covid and the lockdown"
    ids = extended.encode(line)
    assert extended.decode(ids) == line
    assert "".join(preview.token_text(extended, index) for index in extended.encode("a covid lockdown")) == (
        " a covid lockdown"
    )


def test_words_and_bytes(trained):
    _, extended = trained
    line = "the covid crisis and the lockdown of it"
    assert words(extended, line) == line.split()
    assert byte_lengths(extended)[extended.encode(line)].sum() == len(" " + line)
    span = extended.encode_aligned([line])[0].spans[1]
    assert line[slice(*span)] == "covid"
    assert extended.encode_words(["covid", "lockdown"]) == [[extended.vocab_size - 2], [extended.vocab_size - 1]]
    listed = WordList(["covid"], extended)
    tokens = np.array([extended.encode("a covid, (covid) covid. covidien")])
    assert len(listed.find(tokens, np.ones_like(tokens, bool)).row) == 3


def test_a_word_is_a_piece_of_no_other(trained):
    base, extended = trained
    if not isinstance(base, wordpiece.WordPiece):
        for line in ("covidien", "xcovid", "covid_19", "a covid19"):
            assert extended.encode(line) == base.encode(line)


def test_an_accented_word_is_one_token_and_comes_back(trained):
    base, _ = trained
    line = "el peñón del año"
    extended = base.with_tokens(["peñón"]) if not isinstance(base, wordpiece.WordPiece) else None
    if extended:
        assert base.vocab_size in extended.encode(line)
        assert extended.decode(extended.encode(line)) == line
        assert byte_lengths(extended)[base.vocab_size] == len(" peñón".encode())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([""], "'' cannot become a token: a token is one word"),
        (["two words"], "'two words' cannot become a token"),
        (["new", "tab\t"], r"'tab\\t' cannot become a token"),
        (["the"], "'the' is already a token of this vocabulary"),
        (["##ovid"], "'##ovid' begins with a mark"),
        (["Ġcovid"], "'Ġcovid' begins with a mark"),
        (["▁covid"], "'▁covid' begins with a mark"),
    ],
)
def test_words_that_cannot_be_added(trained, given, message):
    with pytest.raises(InputError, match=message):
        trained[0].with_tokens(given)


def test_a_special_token_is_a_token_already(trained):
    base, extended = trained
    for index in (*base.special_ids, base.vocab_size):
        with pytest.raises(InputError, match="already"):
            extended.with_tokens([extended.token(index)])


def test_wordpiece_cuts_at_punctuation():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    with pytest.raises(InputError, match=r"'covid-19' cannot become one token.*always splits it: .* - "):
        tokenizer.with_tokens(["covid-19"])
    with pytest.raises(InputError, match=r"'新冠' cannot become one token"):
        tokenizer.with_tokens(["新冠"])


@pytest.mark.parametrize("lowercase", [True, False])
@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_capitals_are_normalised_where_case_is_folded(kind, lowercase):
    tokenizer = text.train(kind, DOCUMENTS, vocab_size=600, lowercase=lowercase)
    if not lowercase:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            extended = tokenizer.with_tokens(["COVID", "covid"])
        assert extended.encode("COVID covid") == [tokenizer.vocab_size, tokenizer.vocab_size + 1]
        return
    with pytest.warns(InputWarning, match="'COVID' is added as 'covid'"):
        extended = tokenizer.with_tokens(["COVID"])
    assert extended.encode("Covid covid COVID") == [tokenizer.vocab_size] * 3
    with pytest.warns(InputWarning, match="'Covid' is the same token as 'covid', which is given too"):
        extended = tokenizer.with_tokens(["covid", "Covid", "lockdown"])
    assert extended.tokens(range(tokenizer.vocab_size, extended.vocab_size)) == ["covid", "lockdown"]


STRIP = {"type": "Strip", "strip_left": True, "strip_right": True}
ONE_SPACE = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}


@pytest.mark.parametrize("steps", [[], [STRIP, ONE_SPACE], [ONE_SPACE, STRIP]])
def test_other_ways_of_writing_spaces(steps):
    definition = tokenizers.rebuild("unigram", GOLDEN["unigram"])._definition
    metaspace = definition["pre_tokenizer"]["pretokenizers"][-1]
    pipeline = {"pre_tokenizer": metaspace, "normalizer": {"type": "Sequence", "normalizers": steps} if steps else None}
    base = spm.SentencePiece(definition | pipeline, spm.FAIRSEQ)
    extended = base.with_tokens(["covid"])
    assert extended.encode_batch([*TEXTS, *DOCUMENTS]) == base.encode_batch([*TEXTS, *DOCUMENTS])
    assert extended.decode(extended.encode("a covid, (covid)")) == "a covid, (covid)"


def test_a_way_of_writing_spaces_that_words_do_not_fit():
    definition = tokenizers.rebuild("sentencepiece_bpe", GOLDEN["sentencepiece_bpe"])._definition
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    tokenizer = spm.SentencePiece(definition | {"pre_tokenizer": None, "normalizer": spaces}, spm.FAIRSEQ)
    with pytest.raises(InputError, match="words cannot be added to this tokenizer"):
        tokenizer.with_tokens(["covid"])


def test_one_of_several_added_tokens_may_be_special(tmp_path):
    """As transformers writes a tokenizer that got both."""
    tokenizer = bpe.train(DOCUMENTS, vocab_size=400).with_tokens(["covid"])
    tokenizer.save(tmp_path)
    definition = json.loads((tmp_path / "tokenizer.json").read_text())
    last = {**definition["added_tokens"][-1], "id": tokenizer.vocab_size, "content": "<new>", "special": True}
    definition["added_tokens"].append(last)
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    loaded = text.load(tmp_path)
    assert loaded.encode("the covid, covidien") == tokenizer.encode("the covid, covidien")
    assert loaded.special_ids == tokenizer.special_ids  # a marker without a role is found, as in transformers
    assert loaded.encode("a <new> covid")[1:] == [tokenizer.vocab_size, tokenizer.vocab_size - 1]
    assert loaded.with_tokens(["lockdown"]).encode("a lockdown")[-1] == tokenizer.vocab_size + 1


def test_the_class_of_transformers_is_the_one_that_keeps_all_of_it():
    for name, kind in (("byte_bpe", bpe.ByteLevelBPE), ("gpt2_bpe", bpe.ByteLevelBPE), ("unigram", spm.SentencePiece)):
        extended = tokenizers.extend(tokenizers.rebuild(name, GOLDEN[name]))
        assert isinstance(extended, kind)
        assert extended.tokenizer_class == "PreTrainedTokenizerFast"

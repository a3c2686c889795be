"""The tokenizers of translation models, against AutoTokenizer of transformers, and the special tokens of pairs."""

import json
import pickle

import numpy as np
import pytest

from tests.golden import pair_tokenizers
from tx_jax import text
from tx_jax.errors import InputError, InputWarning
from tx_jax.text import pair_forms
from tx_jax.text.pair_forms import PairForm, PairTokens, speaking

EXPECTED = json.loads(pair_tokenizers.PATH.read_text(encoding="utf-8"))
NAMES = pair_tokenizers.NAMES
WORDS = ["the cat sat", "a b c"] * 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("pairs")
    for name in NAMES:
        pair_tokenizers.write(name, root / name)
    return root


def change(path, **values):
    before = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({key: value for key, value in (before | values).items() if value is not None}))


def copied(folders, name, tmp_path):
    pair_tokenizers.write(name, tmp_path / name)
    return tmp_path / name


@pytest.mark.parametrize("name", NAMES)
def test_ids_and_texts_are_those_of_transformers(name, folders, tmp_path):
    tokenizer = text.load(folders / name)
    tokenizer.save(tmp_path)
    for same in (tokenizer, text.load(tmp_path), pickle.loads(pickle.dumps(tokenizer))):
        tokens = same.pair_tokens
        found = [[*tokens.before, *ids, *tokens.after] for ids in same.encode_batch(pair_tokenizers.sources(name))]
        assert found == EXPECTED[name]["sources"]
        targets = same.for_targets.encode_batch(pair_tokenizers.TEXTS)
        special = set(same.special_ids) - {same.unk_id}
        assert targets == [[i for i in ids if i not in special] for ids in EXPECTED[name]["targets"]]
        texts = [same.decode([i for i in ids if i not in same.special_ids]).strip() for ids in targets]
        assert texts == EXPECTED[name]["texts"]
        assert (same.fingerprint, same.pair_form) == (tokenizer.fingerprint, tokenizer.pair_form)


def test_the_sides_of_marian_differ(folders):
    tokenizer = speaking(text.load(folders / "marian"), target="deu")
    assert tokenizer.encode("The cat sat on the mat.") != tokenizer.for_targets.encode("The cat sat on the mat.")
    assert tokenizer.unk_id in tokenizer.encode("щ漢")


def forms():
    """Each form's tokens, by their names."""
    return {
        "marian": ([], ["</s>"], "<pad>", [], ["<pad>"]),
        "bart": (["<s>"], ["</s>"], "</s>", ["<s>"], []),
        "mbart": ([], ["</s>", "en_XX"], "ro_RO", [], []),
        "mbart50": (["de_DE"], ["</s>"], "</s>", ["xh_ZA"], []),
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_special_tokens_of_a_family(name, folders):
    tokenizer = text.load(folders / name)
    tokens = tokenizer.pair_tokens
    named = [tokenizer.tokens(ids) if isinstance(ids, tuple) else tokenizer.token(ids) for ids in tokens]
    assert tuple(named) == (*forms()[name], "</s>")
    assert all(set(part) <= set(tokenizer.special_ids) for part in (tokens.after, tokens.first, tokens.never))


def test_a_tokenizer_of_our_own_is_plain(tmp_path):
    tokenizer = text.train("sentencepiece_bpe", WORDS, vocab_size=30)
    assert tokenizer.pair_tokens == PairTokens((), (2,), 0, (), (), 2)
    tokenizer.save(tmp_path)
    assert not (tmp_path / pair_forms.FILE).exists()
    with pytest.raises(InputError, match="has no bos token"):
        text.train("t5_unigram", WORDS, vocab_size=130).pair_tokens  # noqa: B018


def test_words_added_later_leave_the_form(folders):
    tokenizer = text.load(folders / "mbart")
    assert tokenizer.with_tokens(["covid"]).pair_form == tokenizer.pair_form
    with pytest.raises(InputError, match="'covid' cannot become a token: the pieces of a Marian"):
        speaking(text.load(folders / "marian"), target="deu").with_tokens(["covid"])


def test_pieces_of_marian_and_the_characters_they_stand_for(folders):
    tokenizer = text.load(folders / "marian")
    line = ">>deu<< El niño  comió."
    (aligned,) = tokenizer.encode_aligned([line])
    assert aligned.ids == tokenizer.encode(line)
    assert line[slice(*aligned.spans[0])] == ">>deu<<"
    pieces = "".join(line[begin:end] for begin, end in aligned.spans[1:])
    assert pieces == "Elniñocomió."
    assert not tokenizer.is_continuation[aligned.ids[0]]
    np.testing.assert_array_equal(tokenizer.is_continuation[list(tokenizer.special_ids)], False)


def test_languages_are_chosen(folders):
    tokenizer = text.load(folders / "mbart50")
    other = speaking(tokenizer, source="en_XX", target="ro_RO")
    assert other.pair_form == PairForm("mbart50", "en_XX", "ro_RO")
    assert tokenizer.pair_form.source_language == "de_DE"
    assert speaking(other) is other
    marian = text.load(folders / "marian")
    for code in ("spa", ">>spa<<"):
        chosen = speaking(marian, target=code)
        assert chosen.tokens(chosen.pair_tokens.before) == [">>spa<<"]
        assert chosen.for_targets.pair_form.target_language == "spa"
    with pytest.raises(InputError, match=r"begins with >>deu<<, but --target_language=spa is given"):
        chosen.encode(">>deu<< text")
    with pytest.warns(InputWarning, match=r"translates into several languages \(>>deu<<, >>spa<<, ...\)"):
        marian.encode("text")


@pytest.mark.parametrize(
    ("name", "languages", "said"),
    [
        ("mbart", {"target": "ro_RU"}, r"--target_language=ro_RU is not among .*: ar_AR, .* and others\. Did you mean"),
        ("marian", {"source": "deu"}, "--source_language=deu: the tokenizer has no codes for the languages of its s"),
        ("bart", {"target": "de"}, "--target_language=de is not among the languages .* has codes for: none"),
    ],
)
def test_an_unknown_language_is_refused(name, languages, said, folders):
    with pytest.raises(InputError, match=said):
        speaking(text.load(folders / name), **languages)


def test_a_language_that_nobody_chose(folders, tmp_path):
    folder = copied(folders, "mbart50", tmp_path)
    change(folder / "tokenizer_config.json", src_lang=None, tgt_lang=None)
    with pytest.raises(
        InputError, match="no source and no target language is chosen: give --source_language and --tar"
    ):
        text.load(folder).pair_tokens  # noqa: B018
    with pytest.raises(InputError, match="no target language is chosen: give --target_language, such as af_ZA"):
        speaking(text.load(folder), source="de_DE").pair_tokens  # noqa: B018


def test_the_languages_that_a_models_ids_fix(folders, tmp_path):
    folder = copied(folders, "mbart", tmp_path)
    change(folder / "tokenizer_config.json", tgt_lang=None)
    assert text.load(folder).pair_form == PairForm("mbart", "en_XX", "ro_RO")
    (folder / "tokenizer_config.json").unlink()  # mBART's class is the usual one of its model_type
    assert text.load(folder).pair_form == PairForm("mbart", "", "ro_RO")


@pytest.mark.parametrize(
    ("name", "file", "values", "said"),
    [
        (
            "mbart",
            "tokenizer_config.json",
            {"tgt_lang": "de_DE"},
            "decoder_start_token_id=.* is ro_RO, but tgt_lang='de",
        ),
        ("mbart", "tokenizer_config.json", {"src_lang": "xx_XX"}, "src_lang='xx_XX' has no token"),
        ("mbart", "config.json", {"decoder_start_token_id": 5}, "decoder_start_token_id=5 is no language code"),
        ("mbart", "config.json", {"forced_bos_token_id": 5}, "forced_bos_token_id=5 is not supported .* only None is"),
        ("mbart", "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast"}, "it is for 'PreTrained'"),
        ("bart", "config.json", {"forced_bos_token_id": 7}, "forced_bos_token_id=7 is not supported .* only 0 is"),
        ("bart", "config.json", {"suppress_tokens": [7]}, r"suppress_tokens=\[7\] is not supported"),
        ("bart", "generation_config.json", {"decoder_start_token_id": 0}, "decoder_start_token_id=0 is not supported"),
        ("marian", "config.json", {"bad_words_ids": [[3, 4]]}, r"bad_words_ids=\[\[3, 4\]\] is not supported"),
        ("marian", "tokenizer_config.json", {"separate_vocabs": True}, "separate_vocabs=True is not supported"),
        ("marian", "tokenizer_config.json", {"sp_model_kwargs": {"alpha": 0.1}}, "sp_model_kwargs=.* is not supported"),
        ("marian", "added_tokens.json", {"new": 900}, "the added token 'new' is not supported"),
        ("marian", "vocab.json", {"more": 3}, "ids in .*vocab.json are not 0 to"),
        (
            "marian",
            "tokenizer_config.json",
            {"tokenizer_class": "M2M100Tokenizer"},
            "names M2M100Tokenizer, which tx_j",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(name, file, values, said, folders, tmp_path):
    folder = copied(folders, name, tmp_path)
    change(folder / file, **values)
    with pytest.raises(InputError, match=said) as caught:
        text.load(folder)
    assert "\n" not in str(caught.value)


def test_damaged_and_missing_files(folders, tmp_path):
    folder = copied(folders, "marian", tmp_path)
    (folder / "target.spm").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"target\.spm is not a SentencePiece model"):
        text.load(folder)
    (folder / "target.spm").unlink()
    with pytest.raises(InputError, match=r"is no whole Marian tokenizer: it lacks target\.spm"):
        text.load(folder)
    text.load(folders / "bart").save(tmp_path / "bart")
    change(tmp_path / "bart" / pair_forms.FILE, name="barter")
    with pytest.raises(InputError, match=r"pairs\.json is damaged"):
        text.load(tmp_path / "bart")


def test_an_unknown_code_is_refused(folders):
    with pytest.raises(
        InputError, match="begins with the language code >>fra<<, which the model lacks: it has >>deu<<"
    ):
        text.load(folders / "marian").encode(">>fra<< a text")


def test_a_model_of_mbarts_whose_class_says_nothing(folders, tmp_path):
    text.load(folders / "mbart").save(tmp_path)
    (tmp_path / pair_forms.FILE).unlink()
    change(tmp_path / "config.json", model_type="mbart")
    tokenizer = text.load(tmp_path)
    with pytest.raises(InputError, match="has mBART's language codes, but nothing says where they stand"):
        tokenizer.pair_tokens  # noqa: B018

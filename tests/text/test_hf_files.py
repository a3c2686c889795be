"""What a Hugging Face folder says of its tokenizer is read, or refused with what differs: nothing is dropped."""

import json
import pickle

import pytest
from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

from tests.golden import foreign, tokenizers
from tx_jax import text
from tx_jax.data.pretraining.byte_lengths import byte_lengths
from tx_jax.errors import InputError, InputWarning
from tx_jax.text.described_wordpiece import DescribedWordPiece
from tx_jax.text.wordpiece import SPECIAL_TOKENS, WordPiece

EXPECTED = json.loads(foreign.PATH.read_text(encoding="utf-8"))
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = (*SPECIAL_TOKENS, *LETTERS, *(f"##{x}" for x in LETTERS), *".,_-[]1", "##1", "the", "The", "ni\u00f1o")


@pytest.fixture(params=foreign.LAYOUTS)
def layout(request):
    return request.param


@pytest.mark.parametrize("name", foreign.CLASSES)
def test_added_tokens_have_the_ids_of_transformers(name, layout, tmp_path):
    first = foreign.write(name, layout, tmp_path / "theirs")
    tokenizer = text.load(tmp_path / "theirs")
    tokenizer.save(tmp_path / "ours")
    assert tokenizer.vocab_size == first + 6
    assert tokenizer.tokens(range(first, first + 6)) == ["covid", "vaccine", "<e2>", "[E1]", "[/E1]", "zika"]
    for same in (tokenizer, text.load(tmp_path / "ours"), pickle.loads(pickle.dumps(tokenizer))):
        assert same.encode_batch(foreign.TEXTS) == EXPECTED[name][layout]
        assert [aligned.ids for aligned in same.encode_aligned(foreign.TEXTS)] == EXPECTED[name][layout]
        assert same.fingerprint == tokenizer.fingerprint
        assert not set(same.special_ids) & set(range(first, first + 6))
        assert not same.is_continuation[first:].any()
        decoded = same.decode(same.encode("the covid vaccine [E1] zika"))
        assert decoded.replace(" ", "").lower() == "thecovidvaccine[e1]zika"
        assert byte_lengths(same)[first] in (len("covid"), len(" covid"))


@pytest.mark.parametrize("name", foreign.CLASSES)
def test_more_words_follow_all_of_them(name, layout, tmp_path):
    first = foreign.write(name, layout, tmp_path / "theirs")
    before = text.load(tmp_path / "theirs")
    after = before.with_tokens(["dengue", "lockdown"])
    assert after.encode_words(["dengue", "lockdown"]) == [[first + 6], [first + 7]]
    assert after.encode_batch(foreign.TEXTS[:4]) == before.encode_batch(foreign.TEXTS[:4])
    assert first + 6 not in after.encode("dengues xdengue")
    after.save(tmp_path / "ours")
    assert text.load(tmp_path / "ours").fingerprint == after.fingerprint


@pytest.mark.parametrize("name", ["wordpiece", "byte_bpe", "unigram"])
def test_an_added_token_between_special_ones_is_a_piece_of_no_word(name, tmp_path):
    """The library numbers words behind its vocabulary; here a special token follows one."""
    foreign.write(name, "tokenizer.json", tmp_path)
    base = tokenizers.rebuild(name, foreign.GOLDEN[name])
    definition = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    definition["added_tokens"][-1] |= {"content": "<pad2>", "special": True, "normalized": False}
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    foreign.change(tmp_path / "special_tokens_map.json", pad_token="<pad2>")  # before tokenizer_config.json
    loaded, size = text.load(tmp_path), base.vocab_size
    assert loaded.pad_id == size + 5
    # transformers 5.24
    assert loaded.encode_batch(foreign.TEXTS[:4]) == EXPECTED[name]["tokenizer.json"][:4]
    assert loaded.encode("vaccines vaccine")[-1] == size + 1
    assert loaded.encode("vaccines") == base.encode("vaccines")


def test_debertas_mask_beside_its_model_file(tmp_path):
    """Published models have no [MASK] piece, but {"[MASK]": 128000} in added_tokens.json."""
    base = tokenizers.rebuild("deberta_v2", foreign.GOLDEN["deberta_v2"])
    (tmp_path / "spm.model").write_bytes(tokenizers.model_file(foreign.GOLDEN["deberta_v2"]))
    foreign.change(tmp_path / "tokenizer_config.json", tokenizer_class="DebertaV2Tokenizer")
    foreign.change(tmp_path / "added_tokens.json", **{"[MASK]": base.mask_id})
    assert text.load(tmp_path).fingerprint == base.fingerprint
    foreign.change(tmp_path / "added_tokens.json", covid=base.vocab_size)
    loaded = text.load(tmp_path)
    # transformers 5.24
    assert (loaded.mask_id, loaded.encode("covid")) == (base.mask_id, [base.vocab_size])
    assert loaded.encode("the [MASK]") == base.encode("the [MASK]")


# Fingerprints, before this was read, of the tokenizers of tests/golden and of the same with words more.
OLD = {
    "wordpiece": ("cf2ad6af18ed1344", "5fe34d53ed226d99"),
    "byte_bpe": ("5362e35e55837691", "c519742a733323a3"),
    "byte_bpe, no prefix space": ("c01388120e6c1145", "d8fe7c0a24950836"),
    "gpt2_bpe": ("5da560d2d7a8f79d", "6b7c09367022801c"),
    "unigram": ("6bb75639d13190ef", "f2a870a18e3a4893"),
    "unigram, lower case": ("ccf7aed9c5c32b8d", "c5d54e956f593c88"),
    "sentencepiece_bpe": ("1146af37a96498fa", "b02a609ce79c4b5a"),
    "camembert": ("a769af1c4e499458", "0efe74dd9ea35915"),
    "deberta_v2": ("4762247f6b77b25c", "76d5df371b0e300e"),
    "deberta_v2, options": ("f23fb844aa78acba", "e66a237e59e39b36"),
    "t5": ("b71ffd1005fbb934", "bae18916947e9550"),
}


@pytest.mark.parametrize("name", OLD)
def test_our_own_tokenizers_keep_their_fingerprints(name, tmp_path):
    base = tokenizers.rebuild(name, foreign.GOLDEN[name])
    for number, tokenizer in enumerate((base, tokenizers.extend(base))):
        tokenizer.save(tmp_path / str(number))
        assert tokenizer.fingerprint.startswith(OLD[name][number])
        assert text.load(tmp_path / str(number)).fingerprint == tokenizer.fingerprint


def engine(normalizer=None, pre_tokenizer=None, vocabulary=VOCABULARY) -> Engine:
    built = Engine(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    built.normalizer = normalizer or normalizers.BertNormalizer()
    built.pre_tokenizer = pre_tokenizer or pre_tokenizers.BertPreTokenizer()
    built.decoder = decoders.WordPiece()
    built.add_special_tokens(list(SPECIAL_TOKENS))
    built.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return built


def write(folder, built: Engine, **config) -> None:
    built.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


COURSE = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase(), normalizers.StripAccents()])
GENERAL = {"tokenizer_class": "PreTrainedTokenizerFast"}


def test_a_wordpiece_that_is_not_berts_keeps_its_treatment_of_text(tmp_path):
    write(tmp_path, engine(COURSE, pre_tokenizers.Whitespace()), **GENERAL)
    loaded = text.load(tmp_path)
    assert isinstance(loaded, DescribedWordPiece)
    # transformers 5.24: "_" is no punctuation there.
    assert loaded.encode("The a_b a_, [mask]") == [EACH["the"], 1, 1, EACH[","], EACH["["], *MASK, EACH["]"]]
    assert loaded.decode([2, EACH["the"], 4, 3]) == "[CLS] the [MASK] [SEP]"
    assert loaded.encode_masked("the [MASK] a") == [EACH["the"], 4, EACH["a"]]
    with pytest.raises(InputError, match="'the' is already a token of this vocabulary"):
        loaded.with_tokens(["the"])


EACH = {token: index for index, token in enumerate(VOCABULARY)}
MASK = [EACH["m"], EACH["##a"], EACH["##s"], EACH["##k"]]


def test_berts_own_under_the_general_class_is_berts(tmp_path):
    write(tmp_path, engine(normalizers.BertNormalizer(lowercase=False)), **GENERAL, do_lower_case=True)
    loaded = text.load(tmp_path)
    assert isinstance(loaded, WordPiece)
    assert loaded.encode("The") == [EACH["The"]]  # the general class runs tokenizer.json, whatever the options say


def test_a_file_that_fills_up_and_cuts_batches_is_read(tmp_path):
    """As those of sentence encoders do: it says nothing about a text."""
    padded = engine()
    padded.enable_padding(length=24)
    padded.enable_truncation(4)
    write(tmp_path, padded, tokenizer_class="BertTokenizer", do_lower_case=True)
    loaded = text.load(tmp_path)
    assert loaded.tokens(loaded.encode("The a the a the")) == ["the", "a", "the", "a", "the"]


@pytest.mark.parametrize(
    ("normalizer", "config", "ids"),
    [
        # What transformers 5.24 gives for "The Ni\u00f1o", with the class BertTokenizer.
        ({"lowercase": True}, {"do_lower_case": False}, ["The", "[UNK]"]),
        ({"lowercase": False}, {"do_lower_case": True}, ["the", "n", "##i", "##n", "##o"]),
        ({"lowercase": False}, {"do_lower_case": True, "strip_accents": False}, ["the", "ni\u00f1o"]),
        (
            {"lowercase": True, "strip_accents": False},
            {"do_lower_case": True, "strip_accents": False},
            ["the", "ni\u00f1o"],
        ),
        ({"lowercase": True}, {"do_lower_case": False, "strip_accents": False}, ["The", "[UNK]"]),
        ({"lowercase": True}, {}, ["the", "n", "##i", "##n", "##o"]),
    ],
)
def test_options_in_tokenizer_config_hold_for_berts_class(tmp_path, normalizer, config, ids):
    write(tmp_path, engine(normalizers.BertNormalizer(**normalizer)), tokenizer_class="BertTokenizerFast", **config)
    loaded = text.load(tmp_path)
    assert loaded.tokens(loaded.encode("The Ni\u00f1o")) == ids


def slow(folder, **config) -> None:
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, **config}))


def test_special_tokens_of_other_names(tmp_path):
    names = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "mask": "<mask>"}
    (tmp_path / "vocab.txt").write_text("\n".join([*names.values(), *VOCABULARY[5:]]) + "\n", encoding="utf-8")
    given = {f"{role}_token": name for role, name in names.items()}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, **given}))
    loaded = text.load(tmp_path)
    # transformers 5.24
    assert loaded.encode("the \u4e2d, <s>") == [EACH["the"], 1, EACH[","], 1, EACH["s"], 1]
    assert (loaded.mask_id, loaded.cls_id, loaded.sep_id) == (4, 2, 3)
    assert loaded.pair_separators == 1  # BERT's, though it is called </s>
    loaded.save(tmp_path / "ours")
    assert text.load(tmp_path / "ours").fingerprint == loaded.fingerprint


def test_a_vocabulary_with_an_id_that_no_token_has(tmp_path):
    built = json.loads(engine(vocabulary=VOCABULARY).to_str())
    del built["model"]["vocab"]["z"]  # as where vocab.txt held a token twice
    (tmp_path / "tokenizer.json").write_text(json.dumps(built))
    foreign.change(tmp_path / "tokenizer_config.json", tokenizer_class="BertTokenizer", do_lower_case=True)
    loaded = text.load(tmp_path)
    assert loaded.vocab_size == len(VOCABULARY)
    assert loaded.encode("the z") == [EACH["the"], 1]


def damage(path, edit) -> None:
    values = json.loads(path.read_text(encoding="utf-8"))
    edit(values)
    path.write_text(json.dumps(values))


def added(content, index, **flags):
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    return {"content": content, "id": index, **plain, **flags}


SIZE = len(VOCABULARY)
REFUSED = {
    "names BertweetTokenizer, which tx_jax does not run: vocab.txt alone": lambda folder: slow(
        folder, tokenizer_class="BertweetTokenizer"
    ),
    "names BertJapaneseTokenizer, which tx_jax does not run: tokenizer.json alone": lambda folder: write(
        folder, engine(), tokenizer_class="BertJapaneseTokenizer"
    ),
    r"names a class of its own code \(auto_map\)": lambda folder: slow(
        folder, auto_map={"AutoTokenizer": ["a.B", None]}
    ),
    "names MPNetTokenizer": lambda folder: slow(folder, tokenizer_class="MPNetTokenizer"),
    r"gives 'covid' the id 3, but the vocabulary says that 'covid' is no token and 3 is '\[SEP\]'": lambda folder: (
        slow(folder),
        (folder / "added_tokens.json").write_text('{"covid": 3}'),
    ),
    "gives 'the' the id 99, but the vocabulary says that 'the' is": lambda folder: (
        slow(folder),
        (folder / "added_tokens.json").write_text('{"the": 99}'),
    ),
    "but ids up to 99": lambda folder: (slow(folder), (folder / "added_tokens.json").write_text('{"covid": 99}')),
    "its added tokens are damaged": lambda folder: (
        slow(folder),
        (folder / "added_tokens.json").write_text('{"covid": "x"}'),
    ),
    r"names the special token '\[E1\]', but no file gives it an id": lambda folder: slow(
        folder, additional_special_tokens=["[E1]"]
    ),
    "disagree about how 'covid' is found": lambda folder: (
        write(
            folder,
            engine(),
            added_tokens_decoder={str(SIZE): {"content": "covid", "single_word": True}},
            **GENERAL,
        ),
        damage(folder / "tokenizer.json", lambda values: values["added_tokens"].append(added("covid", SIZE))),
    ),
    rf"gives 'covid' the id {SIZE + 7}, but the tokenizers library.*{SIZE}": lambda folder: (
        write(folder, engine(), **GENERAL),
        damage(folder / "tokenizer.json", lambda values: values["added_tokens"].append(added("covid", SIZE + 7))),
    ),
    r"have different vocabularies \(only one of them has '.*' as token 5\)": lambda folder: (
        slow(folder),
        write(folder, engine(vocabulary=[*VOCABULARY[:5], "x", "a", *VOCABULARY[7:]]), do_lower_case=True),
    ),
    "says lowercase=false, but transformers' class takes do_lower_case=true": lambda folder: write(
        folder, engine(normalizers.BertNormalizer(lowercase=False)), tokenizer_class="BertTokenizer"
    ),
    "says strip_accents=false, but transformers' class takes strip_accents=true": lambda folder: write(
        folder,
        engine(normalizers.BertNormalizer(strip_accents=False)),
        tokenizer_class="BertTokenizer",
        do_lower_case=True,
    ),
    r"tokenizer.json cuts .*They don.* into \.\.\. \['--', .* into \.\.\. \['-', '-', 'or'\]": lambda folder: write(
        folder, engine(COURSE, pre_tokenizers.Whitespace()), tokenizer_class="BertTokenizer", do_lower_case=True
    ),
    "has no pre-tokenizer": lambda folder: (
        write(folder, engine(), **GENERAL),
        damage(folder / "tokenizer.json", lambda values: values.update(pre_tokenizer=None)),
    ),
    r"lacks \[MASK\]": lambda folder: write(folder, engine(vocabulary=VOCABULARY), **GENERAL, mask_token="<mask>"),
}


@pytest.mark.parametrize("message", REFUSED)
def test_what_cannot_be_read_whole_is_refused_in_one_line(message, tmp_path):
    REFUSED[message](tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        text.load(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


BPE_REFUSED = {
    "names Qwen2Tokenizer, which tx_jax does not run: vocab.json and merges.txt alone": (
        "added_tokens.json",
        {"tokenizer_class": "Qwen2Tokenizer"},
    ),
    "its tokenizer.json cuts 'The quick.* into .*'\u0120The'.* into .*'The'": (
        "tokenizer.json",
        {"tokenizer_class": "RobertaTokenizer", "add_prefix_space": None},
    ),
}


@pytest.mark.parametrize("message", BPE_REFUSED)
def test_byte_level_folders_that_are_refused(message, tmp_path):
    layout, config = BPE_REFUSED[message]
    foreign.write("byte_bpe", layout, tmp_path)
    foreign.change(tmp_path / "tokenizer_config.json", **config)
    with pytest.raises(InputError, match=message):
        text.load(tmp_path)


def test_the_option_of_the_byte_level_classes_holds(tmp_path):
    foreign.write("byte_bpe", "tokenizer.json", tmp_path)
    foreign.change(tmp_path / "tokenizer_config.json", add_prefix_space=False)
    loaded = text.load(tmp_path)
    assert not loaded.add_prefix_space
    assert loaded.encode_batch(foreign.TEXTS) == EXPECTED["byte_bpe, no prefix space"]["tokenizer.json"]


def test_a_file_beside_another_of_its_kind_must_agree(tmp_path):
    foreign.write("byte_bpe", "tokenizer.json", tmp_path)
    damage(tmp_path / "vocab.json", lambda ids: ids.update({"a": ids["b"], "b": ids["a"]}))
    with pytest.raises(InputError, match=r"vocab\.json and the tokenizer\.json beside it have different vocabularies"):
        text.load(tmp_path)


def test_other_special_tokens_around_a_text_are_warned_of(tmp_path):
    built = engine()
    built.post_processor = processors.TemplateProcessing(single="[CLS] $A", special_tokens=[("[CLS]", 2)])
    write(tmp_path, built, **GENERAL)
    with pytest.warns(InputWarning, match=r"turns the text 'a' into \[CLS\] a; tx_jax puts \[CLS\] before"):
        text.load(tmp_path)

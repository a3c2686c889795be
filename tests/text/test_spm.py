import json

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2

from tests.golden import tokenizers
from tests.golden.multilingual import DOCUMENTS, TEXTS
from tests.text.test_bpe import words
from tx_jax import text
from tx_jax.errors import InputError
from tx_jax.text import spm

GOLDEN = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))
OFFSETS = {"xlm_roberta": 1, "camembert": 4, "deberta_v2": 0, "t5": 0, "mbart": 1, "mbart50": 1}


@pytest.fixture(scope="module")
def unigram():
    return spm.train(DOCUMENTS, vocab_size=600)


@pytest.mark.parametrize("layout", spm.LAYOUTS)
@pytest.mark.parametrize("algorithm", ["unigram", "sentencepiece_bpe"])
def test_the_pieces_are_those_of_the_sentencepiece_library(algorithm, layout):
    algorithm = layout if layout in GOLDEN and layout != "camembert" else algorithm
    model = tokenizers.model_file(GOLDEN[algorithm])
    library = sentencepiece.SentencePieceProcessor(model_proto=model)
    tokenizer = spm.from_model(model, layout=layout)
    for line in [*TEXTS, *DOCUMENTS]:
        expected = library.encode(line)
        ids = [tokenizer.unk_id if index == library.unk_id() else index + OFFSETS[layout] for index in expected]
        if tokenizer.encode(line) != ids:  # a tie, which rounding decides
            assert algorithm != "sentencepiece_bpe"
            assert sorted(tokenizer.encode(line)) == sorted(ids)


def test_the_layouts(unigram):
    assert unigram.tokens(range(4)) == ["<s>", "<pad>", "</s>", "<unk>"]
    assert unigram.token(unigram.vocab_size - 1) == "<mask>"
    assert unigram.special_ids == (0, 1, 2, 3, unigram.vocab_size - 1)
    camembert = spm.from_model(tokenizers.model_file(GOLDEN["unigram"]), layout="camembert")
    assert camembert.tokens(range(7)) == ["<s>NOTUSED", "<pad>", "</s>NOTUSED", "<unk>", "<unk>NOTUSED", "<s>", "</s>"]
    assert (camembert.pad_id, camembert.unk_id, camembert.cls_id, camembert.sep_id) == (1, 3, 5, 6)
    assert camembert.special_ids == (*range(7), camembert.vocab_size - 1)
    deberta = spm.from_model(tokenizers.model_file(GOLDEN["deberta_v2"]), layout="deberta_v2")
    assert deberta.tokens(range(4)) == ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
    assert deberta.mask_id == deberta.vocab_size - 1 == len(GOLDEN["deberta_v2"]["pieces"])


def test_the_layout_of_t5_has_sentinels_and_no_mask():
    t5 = spm.train(DOCUMENTS, layout="t5", vocab_size=500)
    assert t5.tokens(range(3)) == ["<pad>", "</s>", "<unk>"]
    assert t5.tokens(range(400, 500)) == [f"<extra_id_{index}>" for index in range(99, -1, -1)]
    assert t5.special_ids == (0, 1, 2, *range(400, 500))
    assert (t5.pad_id, t5.eos_id, t5.unk_id) == (0, 1, 2)
    assert {t5.bos_id, t5.cls_id, t5.sep_id, t5.mask_id} == {None}
    with pytest.raises(InputError, match="no cls and no sep and no mask token"):
        t5.require("pad", "cls", "sep", "mask")


@pytest.mark.parametrize(
    ("name", "file", "configs"),
    [
        ("unigram", "sentencepiece.bpe.model", {"config.json": {"model_type": "xlm-roberta"}}),
        ("unigram", "sentencepiece.bpe.model", {"tokenizer_config.json": {"tokenizer_class": "XLMRobertaTokenizer"}}),
        ("camembert", "sentencepiece.bpe.model", {"config.json": {"model_type": "camembert"}}),
        ("camembert", "spiece.model", {"tokenizer_config.json": {"tokenizer_class": "CamembertTokenizerFast"}}),
        ("deberta_v2", "spm.model", {"config.json": {"model_type": "deberta-v2"}}),
        ("deberta_v2", "spm.model", {}),
        ("t5", "spiece.model", {"config.json": {"model_type": "t5"}}),
        ("t5", "spiece.model", {"tokenizer_config.json": {"tokenizer_class": "T5Tokenizer", "extra_ids": 100}}),
        (
            "deberta_v2, options",
            "spiece.model",
            {
                "tokenizer_config.json": {
                    "tokenizer_class": "DebertaV2Tokenizer",
                    "do_lower_case": True,
                    "split_by_punct": True,
                }
            },
        ),
    ],
)
def test_a_model_file_is_read_by_the_layout_of_its_folder(tmp_path, name, file, configs):
    (tmp_path / file).write_bytes(tokenizers.model_file(GOLDEN[name]))
    for config, content in configs.items():
        (tmp_path / config).write_text(json.dumps(content))
    assert text.load(tmp_path).fingerprint == tokenizers.rebuild(name, GOLDEN[name]).fingerprint


def test_only_the_layout_of_deberta_asks_transformers_for_segments(tmp_path):
    for name, has_segments in (("deberta_v2", True), ("unigram", False), ("sentencepiece_bpe", False)):
        tokenizers.rebuild(name, GOLDEN[name]).save(tmp_path)
        config = json.loads((tmp_path / "tokenizer_config.json").read_text())
        assert ("token_type_ids" in config.get("model_input_names", ())) == has_segments


@pytest.mark.parametrize("count", [0, 3])
def test_there_may_be_fewer_sentinels(tmp_path, count):
    (tmp_path / "spiece.model").write_bytes(tokenizers.model_file(GOLDEN["t5"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "T5Tokenizer", "extra_ids": count}))
    tokenizer = text.load(tmp_path)
    assert tokenizer.vocab_size == len(GOLDEN["t5"]["pieces"]) + count
    tokenizer.save(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "tokenizer_config.json").read_text())["extra_ids"] == count
    assert text.load(tmp_path / "saved").fingerprint == tokenizer.fingerprint


def test_a_folder_that_does_not_tell_the_layout_is_an_error(tmp_path):
    (tmp_path / "sentencepiece.bpe.model").write_bytes(tokenizers.model_file(GOLDEN["unigram"]))
    with pytest.raises(InputError, match="does not define its ids by itself, and nothing there says: tx_jax knows XLM"):
        text.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    with pytest.raises(InputError, match="it is for 'llama'"):
        text.load(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "deberta-v2"}')
    with pytest.raises(InputError, match=r"no piece \[CLS\] and no piece \[SEP\]"):
        text.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda proto: proto.trainer_spec.__setattr__("model_type", 3), "only unigram and BPE"),
        (lambda proto: proto.normalizer_spec.__setattr__("add_dummy_prefix", False), "does not mark the beginning"),
        (lambda proto: proto.ClearField("pieces"), "it has no pieces"),
    ],
)
def test_models_that_cannot_be_run_are_refused(change, message):
    proto = sentencepiece_model_pb2.ModelProto.FromString(tokenizers.model_file(GOLDEN["unigram"]))
    change(proto)
    with pytest.raises(InputError, match=message):
        spm.from_model(proto.SerializeToString(), layout="xlm_roberta")


def test_words_are_what_white_space_separates(unigram):
    for line in ("They don't know (3.1), no.", "la montaña comió piñas."):
        assert words(unigram, line) == line.split()
    ids = unigram.encode("今天天气很好我们去公园")
    assert not unigram.is_continuation[ids].any()


def test_normalisation_and_case():
    cased = spm.train(DOCUMENTS, vocab_size=600)
    lower = spm.train(DOCUMENTS, vocab_size=600, lowercase=True)
    assert cased.encode("ｔｈｅ　ﬁrst") == cased.encode("the first")
    assert cased.encode("The") != cased.encode("the")
    assert lower.encode("The NIÑO") == lower.encode("the niño") != lower.encode("the nino")
    assert lower.tokenizer_class == cased.tokenizer_class == "XLMRobertaTokenizer"


def test_characters_beyond_the_coverage_are_unknown():
    whole = spm.train(DOCUMENTS, vocab_size=600, character_coverage=1.0)
    part = spm.train(DOCUMENTS, vocab_size=600, character_coverage=0.98)
    assert not any(whole.unk_id in ids for ids in whole.encode_batch(DOCUMENTS))
    assert any(part.unk_id in ids for ids in part.encode_batch(DOCUMENTS))
    with pytest.raises(InputError, match=r"character_coverage=0.5: SentencePiece takes 0.98 to 1"):
        spm.train(DOCUMENTS, character_coverage=0.5)
    assert whole.encode("ЖЖЖЖ ЖЖ").count(whole.unk_id) == 2  # a run is one


def test_long_words_and_lines_are_not_skipped():
    documents = ["x" * 30_000 + " yz" * 20_000]
    tokenizer = spm.train(documents, vocab_size=30)
    assert tokenizer.unk_id not in tokenizer.encode("x y z xx yz")

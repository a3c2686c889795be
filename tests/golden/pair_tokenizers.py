"""Folders with the tokenizers of translation models, as published ones have them: Marian, BART, mBART, mBART-50."""

import json
from pathlib import Path

from tests.golden import tokenizers
from tx_jax.text import spm

PATH = Path(__file__).with_name("pair_tokenizers.json")
GOLDEN = json.loads(tokenizers.PATH.read_text(encoding="utf-8"))
NAMES = ("marian", "bart", "mbart", "mbart50")
# Without what SentencePiece normalizes: transformers' class for mBART drops the table of its model file.
TEXTS = (
    "The cat sat on the mat.",
    "  two   spaces  and more",
    "El niño comió piñas, ¿qué pasó?",
    "Сегодня день 3,50 x",
    "a",
    "",
)
CODES = (">>deu<<", ">>spa<<")


def sources(name: str) -> tuple[str, ...]:
    """The texts; for Marian with a code before each, with and without a space."""
    if name != "marian":
        return TEXTS
    return tuple(f"{CODES[i % 2]}{' ' * (i % 3)}{text}" for i, text in enumerate(TEXTS))


def write(name: str, folder: Path) -> int:
    """Writes the tokenizer's files and a config.json of the model with its ids alone. Returns the vocabulary's size."""
    folder.mkdir(parents=True, exist_ok=True)
    size, config, settings = {"marian": _marian, "bart": _bart, "mbart": _mbart, "mbart50": _mbart50}[name](folder)
    _json(folder / "config.json", {"model_type": name.removesuffix("50"), "vocab_size": size, **config})
    if settings:
        _json(folder / "tokenizer_config.json", settings)
    return size


def _json(path: Path, values: dict) -> None:
    path.write_text(json.dumps(values, ensure_ascii=False), encoding="utf-8")


def _marian(folder: Path) -> tuple[int, dict, dict]:
    """A SentencePiece model for each side, and a vocabulary that lacks some pieces of each."""
    known: dict[str, None] = {}
    for side, stored in (("source", "unigram"), ("target", "sentencepiece_bpe")):
        model = tokenizers.model_file(GOLDEN[stored])
        (folder / f"{side}.spm").write_bytes(model)
        known |= dict.fromkeys(piece.piece for piece in spm.parse(model).pieces[3:-30])
    vocabulary = ["</s>", "<unk>", *known, *CODES, "<pad>"]
    _json(folder / "vocab.json", {token: index for index, token in enumerate(vocabulary)})
    pad = len(vocabulary) - 1
    ids = {"pad_token_id": pad, "decoder_start_token_id": pad, "eos_token_id": 0, "bad_words_ids": [[pad]]}
    return len(vocabulary), ids, {"tokenizer_class": "MarianTokenizer", "source_lang": "en", "target_lang": "mul"}


def _bart(folder: Path) -> tuple[int, dict, dict]:
    """facebook/bart-base has no tokenizer_config.json that names a class."""
    tokenizer = tokenizers.rebuild("byte_bpe, no prefix space", GOLDEN["byte_bpe, no prefix space"])
    tokenizer.save(folder)
    for name in ("tokenizer.json", "special_tokens_map.json", "tokenizer_config.json"):
        (folder / name).unlink()
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    return tokenizer.vocab_size, ids | {"forced_bos_token_id": 0}, {}


def _mbart(folder: Path) -> tuple[int, dict, dict]:
    model = tokenizers.model_file(GOLDEN["unigram"])
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    tokenizer = spm.from_model(model, layout="mbart")
    (target,) = (i for i in tokenizer.special_ids if tokenizer.token(i) == "ro_RO")
    settings = {"tokenizer_class": "MBartTokenizer", "src_lang": "en_XX", "tgt_lang": "ro_RO"}
    return tokenizer.vocab_size, {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": target}, settings


def _mbart50(folder: Path) -> tuple[int, dict, dict]:
    model = tokenizers.model_file(GOLDEN["unigram"])
    (folder / "sentencepiece.bpe.model").write_bytes(model)
    size = spm.from_model(model, layout="mbart50").vocab_size
    ids = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 2}
    return size, ids, {"tokenizer_class": "MBart50Tokenizer", "src_lang": "de_DE", "tgt_lang": "xh_ZA"}

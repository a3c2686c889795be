"""The tokenizers of tokenizers.json: how they were trained, and how to build them again from what is stored there."""

import pathlib
from collections.abc import Mapping
from typing import Any

from sentencepiece import sentencepiece_model_pb2

from tests.golden.multilingual import ADDED, ADDED_IN_PIECES, DOCUMENTS
from tx_jax import text
from tx_jax.text import bpe, spm, wordpiece
from tx_jax.text.tokenizer import Tokenizer

PATH = pathlib.Path(__file__).with_name("tokenizers.json")
BYTE_LEVEL = {
    "byte_bpe": {"add_prefix_space": True, "names": bpe.ROBERTA},
    "byte_bpe, no prefix space": {"add_prefix_space": False, "names": bpe.ROBERTA},
    "gpt2_bpe": {"add_prefix_space": False, "names": bpe.GPT2},
}
SENTENCE_PIECE = {
    "unigram": {"layout": "xlm_roberta"},
    "unigram, lower case": {"layout": "xlm_roberta"},
    "sentencepiece_bpe": {"layout": "xlm_roberta"},
    "camembert": {"layout": "camembert"},
    "deberta_v2": {"layout": "deberta_v2"},
    "deberta_v2, options": {"layout": "deberta_v2", "lowercase": True, "split_by_punct": True},
    "t5": {"layout": "t5"},
}
NAMES = ("wordpiece", *BYTE_LEVEL, *SENTENCE_PIECE)


def rebuild(name: str, stored: Mapping[str, Any]) -> Tokenizer:
    """One of `NAMES` from its stored vocabulary, so that no other version of a trainer changes it."""
    if name == "wordpiece":
        return wordpiece.WordPiece(stored["vocabulary"], strip_accents=False)
    if name in BYTE_LEVEL:
        merges = [tuple(pair) for pair in stored["merges"]]
        return bpe.ByteLevelBPE.from_merges(stored["vocabulary"], merges, **BYTE_LEVEL[name])
    return spm.from_model(model_file(stored), **SENTENCE_PIECE[name])


def extend(tokenizer: Tokenizer) -> Tokenizer:
    """The tokenizer with the words of `multilingual` that it can take."""
    more = () if isinstance(tokenizer, wordpiece.WordPiece) else ADDED_IN_PIECES
    return tokenizer.with_tokens([*ADDED, *more])


def model_file(stored: Mapping[str, Any]) -> bytes:
    """A SentencePiece model file with the stored pieces, and the normalization table of that name."""
    normalizer = _normalizer(stored["normalization"])
    pieces = [
        sentencepiece_model_pb2.ModelProto.SentencePiece(piece=piece, score=score, type=kind)
        for piece, score, kind in stored["pieces"]
    ]
    proto = sentencepiece_model_pb2.ModelProto(pieces=pieces, normalizer_spec=normalizer)
    proto.trainer_spec.model_type = stored["model_type"]
    unknown = next(index for index, (_, _, kind) in enumerate(stored["pieces"]) if kind == 2)
    proto.trainer_spec.unk_id, proto.trainer_spec.unk_piece = unknown, stored["pieces"][unknown][0]
    return proto.SerializeToString()


def _normalizer(name: str):
    """SentencePiece's table of this name, out of a model that it trains on a word."""
    return sentencepiece_model_pb2.ModelProto.FromString(
        spm.train_model([("word", 1)], vocab_size=8, normalization_rule_name=name)
    ).normalizer_spec


def train(name: str) -> dict[str, Any]:
    """What to store of one of `NAMES`."""
    if name == "wordpiece":
        tokenizer = text.train(name, DOCUMENTS, vocab_size=700, strip_accents=False)
        return {"vocabulary": tokenizer.tokens(range(tokenizer.vocab_size))}
    if name in BYTE_LEVEL:
        family = "gpt2" if name == "gpt2_bpe" else "roberta"
        trained = bpe.train(DOCUMENTS, vocab_size=700, family=family)
        return {"vocabulary": trained.tokens(range(trained.vocab_size)), "merges": trained.merges}
    options = {"model_type": "bpe" if name == "sentencepiece_bpe" else "unigram"}
    options["normalization_rule_name"] = "nmt_nfkc_cf" if name == "unigram, lower case" else "nmt_nfkc"
    if name.startswith("deberta_v2"):
        options |= {"pad_id": 0, "bos_id": 1, "eos_id": 2, "unk_id": 3}
        options |= {"pad_piece": "[PAD]", "bos_piece": "[CLS]", "eos_piece": "[SEP]", "unk_piece": "[UNK]"}
    if name == "t5":
        options |= {"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1}
    words = spm.count_words(DOCUMENTS)
    proto = sentencepiece_model_pb2.ModelProto.FromString(
        spm.train_model(words, vocab_size=600, character_coverage=0.98, **options)
    )
    return {
        "model_type": proto.trainer_spec.model_type,
        "normalization": options["normalization_rule_name"],
        "pieces": [[piece.piece, piece.score, piece.type] for piece in proto.pieces],
    }

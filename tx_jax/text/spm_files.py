"""Loads SentencePiece tokenizers from folders written by tx_jax or by transformers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError
from tx_jax.text import hf_files, pair_forms, probes
from tx_jax.text.definition import model_type, read, read_json, vocabulary_of
from tx_jax.text.spm import NUM_SENTINELS, SPACE, SentencePiece, from_model, parse

FILES = ("sentencepiece.bpe.model", "spm.model", "spiece.model")
_LAYOUT_OF_MODEL_TYPE = {
    "xlm-roberta": "xlm_roberta",
    "xlm-roberta-xl": "xlm_roberta",
    "camembert": "camembert",
    "deberta-v2": "deberta_v2",
    "t5": "t5",
    "mbart": "mbart",
}
_LAYOUT_OF_CLASS = {
    "XLMRoberta": "xlm_roberta",
    "Camembert": "camembert",
    "DebertaV2": "deberta_v2",
    "T5": "t5",
    "MBart": "mbart",
    "MBart50": "mbart50",
}


def recognises(directory: Path, definition: Mapping[str, Any]) -> bool:
    """Whether the folder contains a SentencePiece tokenizer. `definition`: its tokenizer.json, {} if it has none."""
    if definition:
        return model_type(definition) in ("Unigram", "BPE") and SPACE in str(
            [definition.get("normalizer"), definition.get("pre_tokenizer")]
        )
    return any((directory / name).is_file() for name in FILES)


def load(directory: Path, definition: Mapping[str, Any]) -> SentencePiece:
    """Load a SentencePiece tokenizer from its tokenizer.json if there is one, otherwise from the model file.

    The class in tokenizer_config.json, or else the model type in config.json, determines the layout of the ids; a model
    file whose own pieces include [CLS] and [SEP] needs neither. Text between added tokens is encoded as SentencePiece
    encodes it; newer transformers classes for DeBERTa leave a "▁" before such a token and drop the model file's
    normalization.
    """
    if definition:
        return _from_definition(directory, definition)
    path = next(directory / name for name in FILES if (directory / name).is_file())
    serialized = path.read_bytes()
    config = read_json(directory / hf_files.CONFIG)
    class_name = hf_files.check_class(directory, path.name)
    of_model = read_json(directory / "config.json").get("model_type", "")
    layout = _LAYOUT_OF_CLASS.get(class_name) or (not class_name and _LAYOUT_OF_MODEL_TYPE.get(of_model))
    if not layout and not class_name and not of_model:
        pieces = {piece.piece for piece in parse(serialized).pieces}
        layout = "deberta_v2" if {"[CLS]", "[SEP]"} <= pieces else None
    if not layout:
        found = f"it is for {class_name or of_model!r}" if class_name or of_model else "nothing there says"
        raise InputError(
            f"{path} does not define its ids by itself, and {found}: tx_jax knows {', '.join(_LAYOUT_OF_CLASS)}; put "
            'their name into tokenizer_config.json, as {"tokenizer_class": "XLMRobertaTokenizer"}'
        )
    options = {}
    if layout == "deberta_v2":
        options = {
            "lowercase": config.get("do_lower_case", False),
            "split_by_punct": config.get("split_by_punct", False),
        }
    elif layout == "t5":
        options = {"num_sentinels": config.get("extra_ids", NUM_SENTINELS)}
    tokenizer = from_model(serialized, layout=layout, **options)
    whole = hf_files.with_added_tokens(tokenizer._definition, directory)
    return SentencePiece(whole, tokenizer._names | hf_files.special_names(directory, ()))


def _from_definition(directory: Path, definition: Mapping[str, Any]) -> SentencePiece:
    name = hf_files.check_class(directory, "tokenizer.json")
    engine, definition = read(definition)
    whole = hf_files.with_added_tokens(definition, directory)
    if whole["added_tokens"] != definition["added_tokens"]:
        engine, _ = read(whole)
    tokenizer = SentencePiece(whole, hf_files.special_names(directory, vocabulary_of(whole)))
    added = [token["content"] for token in tokenizer.added_tokens]
    of_pairs = name in ("MBart", "MBart50") or (directory / pair_forms.FILE).is_file()
    of_pairs = of_pairs or read_json(directory / "config.json").get("model_type") == "mbart"
    probes.check(tokenizer, engine, added, directory, around=not of_pairs)
    return tokenizer

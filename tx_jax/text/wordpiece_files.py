"""Loads WordPiece tokenizers from folders written by tx_jax, transformers or google-research/bert."""

import json
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as Engine
from tokenizers import decoders, models, normalizers, pre_tokenizers

from tx_jax.errors import InputError, InputWarning
from tx_jax.text import hf_files, probes
from tx_jax.text.definition import describe, model_type, nameless, read, read_json
from tx_jax.text.described_wordpiece import DescribedWordPiece
from tx_jax.text.tokenizer import Tokenizer
from tx_jax.text.wordpiece import CLS, MASK, PAD, PREFIX, SEP, SPECIAL_TOKENS, UNK, WordPiece, template

_NAMES = {"pad": PAD, "unk": UNK, "cls": CLS, "sep": SEP, "mask": MASK, "bos": CLS, "eos": SEP}
# Transformers classes that are BERT's under another name, and model types that use BERT's class if no file names one.
_OF_BERT = ("Bert", "DistilBert", "Electra", "ConvBert", "MobileBert", "LayoutLM", "SqueezeBert", "RetriBert", "Realm")
_MODEL_TYPES = ("bert", "distilbert", "electra")
# tx_jax option -> its key in tokenizer_config.json, its key in a BertNormalizer, and the default in transformers.
_OPTIONS = {
    "lowercase": ("do_lower_case", "lowercase", True),
    "strip_accents": ("strip_accents", "strip_accents", None),
    "split_chinese": ("tokenize_chinese_chars", "handle_chinese_chars", True),
}


def recognises(directory: Path, definition: Mapping[str, Any]) -> bool:
    """Whether the folder contains a WordPiece tokenizer. `definition`: its tokenizer.json, {} if it has none."""
    if definition:
        return model_type(definition) == "WordPiece"
    return (directory / "vocab.txt").is_file()


def load(directory: Path, definition: Mapping[str, Any]) -> Tokenizer:
    """Load a WordPiece tokenizer from its tokenizer.json if there is one, otherwise from vocab.txt.

    A tokenizer that differs from BERT's own, or has added tokens, is loaded as a `DescribedWordPiece`. The options in
    tokenizer_config.json apply where transformers uses them: for its BERT classes. A vocab.txt without do_lower_case
    counts as cased if any token has a capital letter, since the published uncased vocabularies have none.

    Raises InputError for a class that does more than the files describe, and if files disagree.
    """
    return _from_definition(directory, definition) if definition else _from_vocabulary(directory)


def _from_vocabulary(directory: Path) -> Tokenizer:
    hf_files.check_class(directory, "vocab.txt", (*_OF_BERT, "", "PreTrained"))
    vocabulary = _read_vocabulary(directory / "vocab.txt")
    options = _stated(directory)
    if options["lowercase"] is None:
        options["lowercase"] = not _has_capitals(vocabulary)
        if not options["lowercase"]:
            warnings.warn(
                f"{directory / 'vocab.txt'} has tokens with capital letters, and {hf_files.CONFIG} no do_lower_case: "
                "taken as cased. transformers would lowercase; set it to true or false there",
                InputWarning,
                stacklevel=2,
            )
    if options["split_chinese"] is None:
        options["split_chinese"] = True
    names = _names(directory, vocabulary)
    ids = _filled({token: index for index, token in enumerate(vocabulary)})
    definition = hf_files.with_added_tokens(_of_bert(ids, names, options), directory)
    return _built(definition, names, vocabulary)


def _from_definition(directory: Path, definition: Mapping[str, Any]) -> Tokenizer:
    name = hf_files.check_class(directory, "tokenizer.json")
    engine, definition = read(definition)
    definition["model"]["vocab"] = ids = _filled(definition["model"]["vocab"])
    vocabulary = list(ids)
    if (path := directory / "vocab.txt").is_file():
        vocabulary = _read_vocabulary(path)
        beside = _filled({token: index for index, token in enumerate(vocabulary)})
        if ids != beside:
            other, index = min(ids.items() ^ beside.items(), key=lambda item: item[1])
            raise InputError(
                f"{path} and the tokenizer.json beside it have different vocabularies (only one of them has {other!r} "
                f"as token {index}): remove the one that the model was not trained with"
            )
    unsaid = not name and (
        read_json(directory / "config.json").get("model_type") in _MODEL_TYPES
        or any(value is not None for value in _stated(directory).values())
    )
    if name in _OF_BERT or unsaid:
        definition |= _treat_as_bert(engine, definition, directory)
    names = _names(directory, [*vocabulary, *(token["content"] for token in definition["added_tokens"])])
    whole = hf_files.with_added_tokens(definition, directory)
    if whole["added_tokens"] != definition["added_tokens"]:
        engine, _ = read(whole)
    tokenizer = _built(whole, names, vocabulary)
    added = tokenizer.added_tokens if isinstance(tokenizer, DescribedWordPiece) else ()
    probes.check(tokenizer, engine, [token["content"] for token in added], directory)
    return tokenizer


def _names(directory: Path, tokens: Collection[str]) -> dict[str, str]:
    """The special token of each role. Raises InputError if one of BERT's five roles has none."""
    names = hf_files.special_names(directory, tokens)
    if missing := [name for role, name in _NAMES.items() if names.get(role) not in tokens]:
        lacking = " ".join(dict.fromkeys(missing))
        raise InputError(f"the WordPiece vocabulary lacks {lacking}: BERT's five special tokens are needed")
    return names


def _built(definition: dict[str, Any], names: Mapping[str, str], vocabulary: Sequence[str]) -> Tokenizer:
    """Build a `WordPiece` if the definition is exactly BERT's tokenizer, otherwise a `DescribedWordPiece`.

    `vocabulary` may contain duplicate tokens.
    """
    normalizer, model = definition["normalizer"] or {}, definition["model"]
    is_plain = (
        normalizer.get("type") == "BertNormalizer"
        and normalizer["clean_text"]
        and definition["pre_tokenizer"] == {"type": "BertPreTokenizer"}
        and (model["continuing_subword_prefix"], model["max_input_chars_per_word"]) == (PREFIX, 100)
        and model["unk_token"] == UNK
        and names == _NAMES
        and {token["content"] for token in definition["added_tokens"]} <= set(SPECIAL_TOKENS)
        and len(vocabulary) == len(model["vocab"])
    )
    if not is_plain:
        return DescribedWordPiece(definition, names)
    return WordPiece(vocabulary, **{ours: normalizer[theirs] for ours, (_, theirs, _) in _OPTIONS.items()})


def _treat_as_bert(engine: Engine, definition: Mapping[str, Any], directory: Path) -> dict[str, Any]:
    """Give the engine the text processing of transformers' BERT classes, with the options in tokenizer_config.json.

    Returns:
      The normalizer and pre-tokenizer, as parts of a tokenizer.json.

    Raises InputError if the engine's own tokenizer.json differs and no file says which of the two applies.
    """
    own = definition["normalizer"] or {}
    stated, options = _stated(directory), {}
    for ours, (key, theirs, default) in _OPTIONS.items():
        value = default if stated[ours] is None else stated[ours]
        if stated[ours] is None and own.get("type") == "BertNormalizer":
            # An unset strip_accents follows lowercase.
            follows = options.get("lowercase") if ours == "strip_accents" else None
            there, here = (follows if x is None else x for x in (own[theirs], value))
            if there != here:
                raise InputError(
                    f"{directory}: its tokenizer.json says {theirs}={json.dumps(own[theirs])}, but transformers' class "
                    f"takes {key}={json.dumps(here)} where {hf_files.CONFIG} does not say: write {key} there, as "
                    "true or false"
                )
        options[ours] = value
    bert = Engine(models.WordPiece({UNK: 0}, unk_token=UNK))
    bert.normalizer, bert.pre_tokenizer = _normalizer(options), pre_tokenizers.BertPreTokenizer()
    if own.get("type") == "BertNormalizer":
        engine.normalizer = bert.normalizer
    probes.check_words(engine, bert, directory)
    return {key: describe(bert)[key] for key in ("normalizer", "pre_tokenizer")}


def _of_bert(ids: Mapping[str, int], names: Mapping[str, str], options: Mapping[str, Any]) -> dict[str, Any]:
    """The tokenizer.json of BERT's tokenizer with this vocabulary."""
    engine = Engine(models.WordPiece(dict(ids), unk_token=names["unk"], continuing_subword_prefix=PREFIX))
    engine.normalizer, engine.pre_tokenizer = _normalizer(options), pre_tokenizers.BertPreTokenizer()
    engine.decoder = decoders.WordPiece(prefix=PREFIX)
    engine.post_processor = template(names["cls"], names["sep"], ids)
    return describe(engine)


def _normalizer(options: Mapping[str, Any]) -> normalizers.BertNormalizer:
    return normalizers.BertNormalizer(
        clean_text=True, **{theirs: options[ours] for ours, (_, theirs, _) in _OPTIONS.items()}
    )


def _stated(directory: Path) -> dict[str, Any]:
    """The value of each tx_jax option in tokenizer_config.json; None if the file does not set it."""
    config = read_json(directory / hf_files.CONFIG)
    return {ours: config.get(key) for ours, (key, _, _) in _OPTIONS.items()}


def _filled(ids: Mapping[str, int]) -> dict[str, int]:
    """The vocabulary in id order, with a `nameless` token for each unused id below the last."""
    tokens = {index: token for token, index in ids.items()}
    return {tokens.get(index) or nameless(index): index for index in range(max(tokens, default=-1) + 1)}


def _has_capitals(vocabulary: Sequence[str]) -> bool:
    plain = (token for token in vocabulary if not (token.startswith("[") and token.endswith("]")))
    return any(token != token.lower() for token in plain)


def _read_vocabulary(path: Path) -> list[str]:
    try:
        vocabulary = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not valid UTF-8 at byte {error.start}: convert it with iconv") from None
    return vocabulary[:-1] if vocabulary[-1] == "" else vocabulary  # drops what follows the last newline

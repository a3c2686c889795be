"""Adapts an exported tokenizer so that transformers builds the same rows that the model was trained on: the special
tokens around texts and pairs, the segments, the padding, and the length at which texts are truncated."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Engine

from tx_jax import text
from tx_jax.config import TransformerConfig
from tx_jax.config.heads import supervised
from tx_jax.convert.model_dir import Model
from tx_jax.convert.new_tokens import ROWS
from tx_jax.data.labeled.sequences import Layout
from tx_jax.text.bpe import ByteLevelBPE
from tx_jax.text.definition import pre_tokenizers_of, read_json, write_json
from tx_jax.text.tokenizer import Tokenizer

POSITIONS = "embeddings/position/embedding"


def is_fine_tuned(config: TransformerConfig) -> bool:
    """Whether the model was trained on rows built by `Layout`."""
    return "causal_lm" not in config.heads and not {*supervised()}.isdisjoint(config.heads)


def with_padding(model: Model) -> Model:
    """Returns the model in a form that lets transformers pad its rows.

    If a fine-tuned decoder's tokenizer has no padding token, this adds one, with a row of zeros: the classifier in
    transformers reads the last token that is not padding, which is our end token. If positions are counted from the
    padding token's id, as in RoBERTa, the position table is shifted to match the tokenizer's id.
    """
    if model.tokenizer is None:
        return model
    config, params, tokenizer = model.config, dict(model.params), model.tokenizer
    if config.architecture == "decoder" and is_fine_tuned(config):
        tokenizer = tokenizer.with_pad()
    missing = tokenizer.vocab_size - config.vocab_size
    if tokenizer is not model.tokenizer and missing > 0:
        config = dataclasses.replace(config, vocab_size=tokenizer.vocab_size)
        for path in params:
            if path.endswith(ROWS):
                params[path] = np.pad(params[path], [(0, missing)] + [(0, 0)] * (params[path].ndim - 1))
    counted = config.architecture == "encoder" and config.position_offset
    if POSITIONS in params and counted and tokenizer.pad_id not in (None, config.position_offset - 1):
        moved = tokenizer.pad_id + 1 - config.position_offset
        config = dataclasses.replace(config, position_offset=tokenizer.pad_id + 1)
        params[POSITIONS] = np.pad(params[POSITIONS], [(max(0, moved), 0), (0, 0)])[max(0, -moved) :]
    return dataclasses.replace(model, config=config, params=params, tokenizer=tokenizer)


def save_tokenizer(
    tokenizer: Tokenizer,
    config: TransformerConfig,
    folder: Path,
    *,
    length: int | None = None,
    separators: int | None = None,
) -> None:
    """Writes the tokenizer's files.

    Args:
      config: the model's configuration. A model that only generates text keeps its tokenizer unchanged.
      length: the length of the rows the model was fine-tuned on, in tokens; None = its number of positions.
      separators: the number of separators between the two texts of a pretraining row; None = the tokenizer's number.
    """
    tokenizer.save(folder)
    longest = length if length and is_fine_tuned(config) else config.max_length
    stated: dict[str, Any] = {"model_max_length": longest}
    if config.architecture == "encoder" or is_fine_tuned(config):
        segments = ["token_type_ids"] if config.num_segments > 1 else []
        stated["model_input_names"] = ["input_ids", *segments, "attention_mask"]
    if is_fine_tuned(config):
        stated["padding_side"] = stated["truncation_side"] = "right"
    definition = read_json(folder / "tokenizer.json")
    changed = _with_prefix_space(definition, tokenizer, config)
    if (layout := _layout(tokenizer, config, separators)) and not _adds(changed, layout, tokenizer, config):
        changed = {**changed, "post_processor": _post_processor(changed, layout, tokenizer, config)}
    if changed != definition:
        write_json(folder / "tokenizer.json", changed)
        if changed["pre_tokenizer"] != definition["pre_tokenizer"]:  # tokenizer_config.json takes precedence
            settings = read_json(folder / "tokenizer_config.json")
            write_json(folder / "tokenizer_config.json", settings | {"add_prefix_space": True})
        text.load(folder).save(folder)  # update the other files, which name the transformers class
    write_json(folder / "tokenizer_config.json", read_json(folder / "tokenizer_config.json") | stated)


def _layout(tokenizer: Tokenizer, config: TransformerConfig, separators: int | None) -> Layout | None:
    """Returns the special tokens of the rows that the model was trained on; None if only the user can know."""
    if is_fine_tuned(config):
        return Layout.of(tokenizer) if tokenizer.eos_id is not None else None
    if "next_sentence" in config.heads and tokenizer.cls_id is not None and tokenizer.sep_id is not None:
        between = (tokenizer.sep_id,) * (separators or tokenizer.pair_separators)
        return Layout((tokenizer.cls_id,), between, (tokenizer.sep_id,))
    return None


def _adds(definition: Mapping[str, Any], layout: Layout, tokenizer: Tokenizer, config: TransformerConfig) -> bool:
    """Whether the tokenizer.json already adds the layout's special tokens around texts and assigns these segments."""
    engine, (a, b) = Engine.from_str(json.dumps(definition)), ("a", "b")
    (ids_a, ids_b), second = tokenizer.encode_batch((a, b)), int(config.num_segments > 1)
    single, pair = engine.encode(a), engine.encode(a, b)
    first = [*layout.before, *ids_a, *layout.between]
    last = [*ids_b, *layout.after]
    if single.ids != [*layout.before, *ids_a, *layout.after] or pair.ids != [*first, *last]:
        return False
    return not second or pair.type_ids == [0] * len(first) + [1] * len(last)


def _post_processor(
    definition: Mapping[str, Any], layout: Layout, tokenizer: Tokenizer, config: TransformerConfig
) -> dict[str, Any]:
    """Returns the post-processor that makes a tokenizer.json add the layout's special tokens."""

    def specials(ids: tuple[int, ...], segment: int) -> list[dict[str, Any]]:
        return [{"SpecialToken": {"id": tokenizer.token(index), "type_id": segment}} for index in ids]

    def sequence(name: str, segment: int) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": segment}}

    second = int(config.num_segments > 1)
    first = [*specials(layout.before, 0), sequence("A", 0)]
    tokens = {index: tokenizer.token(index) for index in (*layout.before, *layout.between, *layout.after)}
    template = {
        "type": "TemplateProcessing",
        "single": [*first, *specials(layout.after, 0)],
        "pair": [*first, *specials(layout.between, 0), sequence("B", second), *specials(layout.after, second)],
        "special_tokens": {token: {"id": token, "ids": [index], "tokens": [token]} for index, token in tokens.items()},
    }
    if not any(part["type"] == "ByteLevel" for part in pre_tokenizers_of(definition)):
        return template
    # `trim_offsets` determines whether a word's offsets exclude the space before it.
    trims = bool((definition.get("post_processor") or {}).get("trim_offsets", False))
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": trims, "use_regex": True}
    return {"type": "Sequence", "processors": [byte_level, template]}


def _with_prefix_space(
    definition: Mapping[str, Any], tokenizer: Tokenizer, config: TransformerConfig
) -> Mapping[str, Any]:
    """Makes a tagger's tokenizer.json read every word as if it followed a space, as in training."""
    if "token_classification" not in config.heads or not isinstance(tokenizer, ByteLevelBPE):
        return definition
    if tokenizer.add_prefix_space:
        return definition
    changed = json.loads(json.dumps(definition))
    for part in pre_tokenizers_of(changed):
        if part["type"] == "ByteLevel":
            part["add_prefix_space"] = True
    return changed

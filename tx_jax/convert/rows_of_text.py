"""Makes of an exported tokenizer what gives transformers the rows that the model was trained on: the special tokens
around texts and pairs, the segments, the padding, and the length at which texts are cut."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as Engine

from tx_jax import text
from tx_jax.config import TransformerConfig
from tx_jax.config.heads import SUPERVISED
from tx_jax.convert.model_dir import Model
from tx_jax.convert.new_tokens import ROWS
from tx_jax.data.labeled.sequences import Layout
from tx_jax.text.bpe import ByteLevelBPE
from tx_jax.text.definition import pre_tokenizers_of, read_json, write_json
from tx_jax.text.tokenizer import Tokenizer

POSITIONS = "embeddings/position/embedding"


def is_fine_tuned(config: TransformerConfig) -> bool:
    """Whether the model was trained on rows of `Layout`."""
    return "causal_lm" not in config.heads and not {*SUPERVISED}.isdisjoint(config.heads)


def with_padding(model: Model) -> Model:
    """The same model, as transformers can pad its rows.

    A fine-tuned decoder gets a padding token of its own, and a row of zeros for it, where its tokenizer has none: its
    classifier in transformers reads the last token that is no padding, which is our end token. Where positions are
    counted from the padding token's id on, as RoBERTa's, the table is moved to the tokenizer's id.
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
    if POSITIONS in params and config.position_offset and tokenizer.pad_id not in (None, config.position_offset - 1):
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
      config: the model's. What only generates text keeps the tokenizer as it is.
      length: of the rows that it was fine-tuned on, in tokens; None = as many as it has positions.
      separators: between the two texts of a row of its pretraining; None = as the tokenizer has it.
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
        if changed["pre_tokenizer"] != definition["pre_tokenizer"]:  # what is stated here counts more
            settings = read_json(folder / "tokenizer_config.json")
            write_json(folder / "tokenizer_config.json", settings | {"add_prefix_space": True})
        text.load(folder).save(folder)  # the other files follow: which class of transformers runs it as it is
    write_json(folder / "tokenizer_config.json", read_json(folder / "tokenizer_config.json") | stated)


def _layout(tokenizer: Tokenizer, config: TransformerConfig, separators: int | None) -> Layout | None:
    """The special tokens of the rows that the model was trained on; None where only the user can tell."""
    if is_fine_tuned(config):
        return Layout.of(tokenizer) if tokenizer.eos_id is not None else None
    if "next_sentence" in config.heads and tokenizer.cls_id is not None and tokenizer.sep_id is not None:
        between = (tokenizer.sep_id,) * (separators or tokenizer.pair_separators)
        return Layout((tokenizer.cls_id,), between, (tokenizer.sep_id,))
    return None


def _adds(definition: Mapping[str, Any], layout: Layout, tokenizer: Tokenizer, config: TransformerConfig) -> bool:
    """Does the tokenizer.json put around texts what the layout says, and give them these segments?"""
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
    """What makes a tokenizer.json add the special tokens of the layout."""

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
    # It keeps the space before a word out of the word's offsets, or in.
    trims = bool((definition.get("post_processor") or {}).get("trim_offsets", False))
    byte_level = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": trims, "use_regex": True}
    return {"type": "Sequence", "processors": [byte_level, template]}


def _with_prefix_space(
    definition: Mapping[str, Any], tokenizer: Tokenizer, config: TransformerConfig
) -> Mapping[str, Any]:
    """The tokenizer.json of a tagger that reads every word as after a space: so its words were encoded in training."""
    if "token_classification" not in config.heads or not isinstance(tokenizer, ByteLevelBPE):
        return definition
    if tokenizer.add_prefix_space:
        return definition
    changed = json.loads(json.dumps(definition))
    for part in pre_tokenizers_of(changed):
        if part["type"] == "ByteLevel":
            part["add_prefix_space"] = True
    return changed

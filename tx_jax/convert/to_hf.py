"""Converts one of our models to a folder that transformers can load."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from tx_jax.convert import families, generation, hf_folder, rows_of_text, rules
from tx_jax.convert.family import Family
from tx_jax.convert.heads import shapes_of
from tx_jax.convert.hf_folder import DTYPES, MAX_SHARD_BYTES
from tx_jax.convert.model_dir import Model
from tx_jax.errors import InputError
from tx_jax.files import new_folder
from tx_jax.text.definition import write_json
from tx_jax.text.spm import SentencePiece


def write(
    model: Model,
    folder: Path,
    *,
    dtype: str | None = None,
    model_type: str | None = None,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    length: int | None = None,
    separators: int | None = None,
) -> str:
    """Writes config.json, the weights, and the tokenizer's files atomically.

    With this tokenizer, transformers builds the same rows that the model was trained on; see `rows_of_text`.

    Args:
      dtype: the dtype of the weights, one of `DTYPES`; None = the dtype of the model's source checkpoint, else float32.
      model_type: as in config.json; None = that of the model's source, else the first that fits it and its tokenizer.
      length: the length of the rows the model was fine-tuned on, in tokens; None = its number of positions.
      separators: the number of separators between the two texts of a pretraining row; None = the tokenizer's number.

    Returns:
      The transformers class that the model is written for.

    Raises:
      InputError: `folder` already exists; transformers has no class for the model; `dtype` cannot represent the
        weights.
    """
    model = rows_of_text.with_padding(model)
    hf_config, tensors = convert(model, dtype=dtype, model_type=model_type)
    with new_folder(folder, last="config.json") as temporary:
        hf_folder.write(temporary, hf_config, tensors, max_shard_bytes=max_shard_bytes)
        if model.tokenizer is not None:
            rows_of_text.save_tokenizer(model.tokenizer, model.config, temporary, length=length, separators=separators)
        kept = model.source.hf_config if model.source else {}
        if model.tokenizer is not None and model.config.architecture == "encoder_decoder":
            write_json(temporary / generation.FILE, generation.keys_of(model.tokenizer, kept)[1])
        elif "causal_lm" in model.config.heads and generation.KEY in kept:
            write_json(temporary / generation.FILE, kept[generation.KEY])
    return hf_config["architectures"][0]


def convert(
    model: Model, *, dtype: str | None = None, model_type: str | None = None
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the values of config.json and the tensors by name; for arguments and errors see `write`."""
    source = model.source
    dtype = dtype or (source.dtype if source else "float32")
    model = _without_mask_decoder(model)
    family, model_type = _family(model, model_type)
    tensors = rules.to_hf(model.params, family.table(model.config))
    if not model.config.tie_embeddings:  # then transformers ties nothing, and expects every copy
        copies = {copy: source for copy, source in family.tied.items() if copy not in tensors and source in tensors}
        tensors |= {copy: tensors[source] for copy, source in copies.items() if copy.endswith("bias")}
    base = dict(source.hf_config) if source and source.model_type in family.model_types else {}
    base.pop(generation.KEY, None)
    hf_config = family.write_config(model.config, model_type, base)
    if model.tokenizer is not None and model.config.architecture == "encoder_decoder":
        hf_config |= generation.keys_of(model.tokenizer, base)[0]
    elif model.tokenizer is not None:
        # Otherwise transformers uses the ids of GPT-2's and ModernBERT's own tokenizers.
        roles = {"gpt2": ("pad", "bos", "eos"), "modernbert": ("pad", "bos", "eos", "cls", "sep")}.get(
            model_type, ("pad",)
        )
        for role in roles:
            hf_config.setdefault(f"{role}_token_id", getattr(model.tokenizer, f"{role}_id"))
        if rows_of_text.is_fine_tuned(model.config):
            hf_config["pad_token_id"] = model.tokenizer.pad_id  # decoder classifiers find the last token with it
    if model.labels:
        hf_config["id2label"] = {str(number): name for number, name in enumerate(model.labels)}
        hf_config["label2id"] = {name: number for number, name in enumerate(model.labels)}
    if model.problem_type is not None:
        hf_config["problem_type"] = model.problem_type
    hf_config["dtype"] = dtype
    hf_config.pop("torch_dtype", None)  # the old name of `dtype`
    if family.is_base(hf_config["architectures"][0]):
        tensors = {name.removeprefix(family.prefix): x for name, x in tensors.items()}
    return hf_config, {name: _cast(name, x, dtype) for name, x in tensors.items()}


def warnings(model: Model, *, model_type: str | None = None) -> list[str]:
    """Returns what a user of the written model must know, one line each. For arguments and errors see `write`."""
    found = [f"{module} is untrained: it holds initial values" for module in model.untrained]
    if model.config.enhanced_mask_decoder:
        found.append(
            "the enhanced mask decoder is left out, since transformers does not run it: there the masked LM predicts "
            "from the last layer, and less well"
        )
    family, model_type = _family(_without_mask_decoder(model), model_type)
    if (padded := rows_of_text.with_padding(model)).tokenizer is not model.tokenizer:
        found.append(
            f"the tokenizer has no padding token, without which transformers reads no batches: "
            f"{padded.tokenizer.token(padded.tokenizer.pad_id)!r} is added, token {padded.tokenizer.pad_id}"
        )
    heads = model.config.heads
    name = family.class_name(heads, model_type)
    if ignored := [head for head in heads if head not in family.written_heads(heads)]:
        found.append(f"{name} has no {', '.join(ignored)}: the weights are written, but it ignores them")
    if not heads and ("pooled",) in family.classes:
        found.append(f"the model has no pooler: {name} will add one with random values")
    return found


def _family(model: Model, model_type: str | None) -> tuple[Family, str]:
    """Returns the family to write the model as; if several fit, the one that matches the tokenizer."""
    if model_type is None and model.source is not None:
        model_type = model.source.model_type
    preferred = None
    if isinstance(model.tokenizer, SentencePiece):
        preferred = "camembert" if model.tokenizer.tokenizer_class == "CamembertTokenizer" else "xlm-roberta"
    return families.of_config(model.config, model_type, preferred=preferred)


def _without_mask_decoder(model: Model) -> Model:
    """Returns the model without the parameters that only its mask decoder needs."""
    if not model.config.enhanced_mask_decoder:
        return model
    config = dataclasses.replace(model.config, enhanced_mask_decoder=False)
    kept = shapes_of(config)
    return dataclasses.replace(
        model, config=config, params={path: x for path, x in model.params.items() if path in kept}
    )


def _cast(name: str, x: np.ndarray, dtype: str) -> np.ndarray:
    if dtype not in DTYPES:
        raise InputError(f"dtype {dtype!r} is not one of {', '.join(DTYPES)}")
    with np.errstate(over="ignore"):
        y = x.astype(DTYPES[dtype])
    if np.isinf(y).any() and not np.isinf(x).any():
        raise InputError(
            f"{name} has values up to {np.abs(x).max():.3g}, more than {dtype} holds: give another --dtype"
        )
    return y

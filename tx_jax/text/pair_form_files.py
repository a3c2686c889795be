"""Reads the form of an encoder-decoder's pairs: from our own file in a tokenizer's folder, or from the files of a model
as transformers keeps it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tx_jax.errors import InputError
from tx_jax.text.definition import read_json
from tx_jax.text.hf_files import CONFIG, class_of
from tx_jax.text.pair_forms import FILE, FORMS, PLAIN, SPEAKING, PairForm, codes_of
from tx_jax.text.tokenizer import Tokenizer

_OF_MODEL_TYPE = {"bart": "bart", "marian": "marian"}
_OF_CLASS = {"Bart": "bart", "Marian": "marian", "MBart": "mbart", "MBart50": "mbart50"}


def read(directory: Path, tokenizer: Tokenizer) -> PairForm:
    """The form that a folder's files say.

    Raises:
      InputError: they contradict each other, or state what decoding here cannot do.
    """
    own = read_json(directory / FILE)
    model = read_json(directory / "config.json")
    model |= read_json(directory / "generation_config.json")
    if own:
        return _own(own, directory / FILE)
    model_type, name = model.get("model_type"), class_of(directory)
    form = _OF_MODEL_TYPE.get(model_type) or _OF_CLASS.get(name)
    if model_type == "mbart" and form is None:
        form = "unknown" if name else "mbart"  # as transformers chooses
    if form is None:
        return PLAIN
    found = PairForm(form)
    if form in SPEAKING:
        settings = read_json(directory / CONFIG)
        found = PairForm(form, str(settings.get("src_lang") or ""), str(settings.get("tgt_lang") or ""))
        _check_codes(found, tokenizer, directory)
    return _with_ids_of_model(found, tokenizer, model, directory)


def _own(values: Mapping[str, Any], path: Path) -> PairForm:
    form = [values.get(key) for key in PairForm._fields]
    if form[0] not in FORMS or not all(isinstance(value, str) for value in form):
        raise InputError(f"{path} is damaged ({json.dumps(dict(values))}): restore it, or convert the model again")
    return PairForm(*form)


def _check_codes(form: PairForm, tokenizer: Tokenizer, directory: Path) -> None:
    codes = codes_of(tokenizer, form.name)
    for key, code in (("src_lang", form.source_language), ("tgt_lang", form.target_language)):
        if code and code not in codes:
            raise InputError(f"{directory / CONFIG}: {key}={code!r} has no token: known are {', '.join(codes)}")


def _with_ids_of_model(form: PairForm, tokenizer: Tokenizer, model: Mapping[str, Any], directory: Path) -> PairForm:
    """The form, with a target language that the model's files fix. Raises InputError for ids that it does not have."""
    languages = {index: code for code, index in codes_of(tokenizer, form.name).items()}
    expected = {
        "bart": {"decoder_start_token_id": tokenizer.eos_id, "forced_bos_token_id": tokenizer.bos_id},
        "marian": {"decoder_start_token_id": tokenizer.pad_id, "forced_bos_token_id": None},
        "mbart": {"forced_bos_token_id": None},
        "mbart50": {"decoder_start_token_id": tokenizer.eos_id},
    }.get(form.name, {})
    for key, wanted in expected.items():
        if model.get(key) not in (None, wanted):
            raise InputError(f"{directory}: {key}={model[key]!r} is not supported for this model: only {wanted!r} is")
    banned = [[tokenizer.pad_id]] if form.name == "marian" else []
    for key, wanted in (("bad_words_ids", banned), ("suppress_tokens", []), ("begin_suppress_tokens", [])):
        if model.get(key) and model[key] != wanted:
            raise InputError(f"{directory}: {key}={model[key]!r} is not supported for this model: only {wanted!r} is")
    key = {"mbart": "decoder_start_token_id", "mbart50": "forced_bos_token_id"}.get(form.name, "")
    if model.get(key) is None:
        return form
    if not isinstance(model[key], int) or model[key] not in languages:
        raise InputError(f"{directory}: {key}={model[key]!r} is no language code of its tokenizer")
    code = languages[model[key]]
    if form.target_language not in ("", code):
        raise InputError(
            f"{directory}: {key}={model[key]} is {code}, but tgt_lang={form.target_language!r} in {CONFIG}: fix one of "
            "the two"
        )
    return form._replace(target_language=code)

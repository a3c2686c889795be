"""The one error that a user can fix: bad input, a bad configuration, a missing file."""

import difflib
import re
from collections.abc import Iterable


class InputError(ValueError):
    """The user's input cannot be used. The message says what is wrong, where, and what to do.

    Entry points print it in one line and exit with code 2; every other exception is a bug and keeps its traceback.
    """


class InputWarning(UserWarning):
    """The user's input can be used, but not quite as given. Entry points print it in one line."""


# Other tools' and people's name -> the name here.
_SYNONYMS = {
    "lr": "learning_rate",
    "max_lr": "learning_rate",
    "peak_lr": "learning_rate",
    "wd": "weight_decay",
    "batch": "batch_size",
    "bs": "batch_size",
    "per_device_train_batch_size": "batch_size",
    "train_batch_size": "batch_size",
    "per_device_eval_batch_size": "eval_batch_size",
    "steps": "num_steps",
    "max_steps": "num_steps",
    "train_steps": "num_steps",
    "num_train_steps": "num_steps",
    "epochs": "num_epochs",
    "max_epochs": "num_epochs",
    "num_train_epochs": "num_epochs",
    "warmup": "warmup_steps",
    "num_warmup_steps": "warmup_steps",
    "warmup_ratio": "warmup_share",
    "warmup_fraction": "warmup_share",
    "lr_scheduler_type": "schedule",
    "lr_schedule": "schedule",
    "scheduler": "schedule",
    "adam_beta1": "beta1",
    "adam_beta2": "beta2",
    "adam_epsilon": "eps",
    "epsilon": "eps",
    "max_grad_norm": "clip_norm",
    "grad_clip": "clip_norm",
    "gradient_clip": "clip_norm",
    "gradient_accumulation_steps": "accumulation_steps",
    "grad_accum": "accumulation_steps",
    "seq_len": "sequence_length",
    "seq_length": "sequence_length",
    "max_seq_length": "sequence_length",
    "max_length": "sequence_length",
    "max_len": "sequence_length",
    "block_size": "sequence_length",
    "context_length": "sequence_length",
    "mlm_probability": "mask_rate",
    "mask_prob": "mask_rate",
    "masking_rate": "mask_rate",
    "max_predictions_per_seq": "max_predictions",
    "hidden_size": "dim",
    "d_model": "dim",
    "n_embd": "dim",
    "width": "dim",
    "num_hidden_layers": "num_layers",
    "layers": "num_layers",
    "depth": "num_layers",
    "n_layer": "num_layers",
    "num_attention_heads": "num_heads",
    "n_head": "num_heads",
    "intermediate_size": "mlp_dim",
    "d_ff": "mlp_dim",
    "max_position_embeddings": "max_length",
    "type_vocab_size": "num_segments",
    "initializer_range": "init_stddev",
    "hidden_dropout_prob": "dropout",
    "attention_probs_dropout_prob": "attention_dropout",
    "num_classes": "num_labels",
    "eval_steps": "eval_every",
    "save_steps": "checkpoint_every",
    "save_every": "checkpoint_every",
    "logging_steps": "log_every",
    "save_total_limit": "keep_last",
    "metric_for_best_model": "best_metric",
    "early_stopping_patience": "patience",
    "model_name_or_path": "start_from",
    "pretrained": "start_from",
    "init_from": "start_from",
    "train_file": "train",
    "validation_file": "validation",
    "test_file": "test",
    "text_column": "text",
    "label_column": "label",
    "lora_r": "rank",
    "r": "rank",
    "lora_alpha": "alpha",
    "target_modules": "targets",
}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """ " Did you mean 'x'?" for the nearest of the known names, or "" if none is near.

    Nearest is a key with this name in another group (training.warmup_steps) or in other tools (optimizer.lr); then one
    with the same words (data.rate_mask); then one with a similar spelling; then one that shares a word.
    """
    near = _nearest(name, list(known))
    return f" Did you mean {near!r}?" if near else ""


def _nearest(name: str, known: list[str]) -> str | None:
    meant = _SYNONYMS.get(_last(name).lower(), _last(name))
    if called_so := [other for other in known if _last(other) == meant]:
        return max(called_so, key=lambda other: _group(other) == _group(name))  # else the first of them
    words = _words(_last(name))
    if same_words := [other for other in known if words and words == _words(_last(other))]:
        return max(same_words, key=lambda other: _likeness(name, other))
    spelled = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    if spelled and _likeness(_last(name), _last(spelled[0])) >= 0.6:
        return spelled[0]
    sharing = {other: len(words & of_other) for other in known if words & (of_other := _words(_last(other)))}
    return max(sharing, key=lambda other: (sharing[other], _likeness(name, other)), default=None)


def _last(name: str) -> str:
    """`lr` in `config.optimizer.lr`; a path, or anything else without dots between words, is one part."""
    return name.rpartition(".")[2] if re.fullmatch(r"\w+(\.\w+)+", name) else name


def _group(name: str) -> str:
    return name.removesuffix(_last(name))


def _words(name: str) -> set[str]:
    return {word for word in re.split(r"[\W_]+", name.lower()) if len(word) > 2}


def _likeness(name: str, other: str) -> float:
    return difflib.SequenceMatcher(None, name, other).ratio()

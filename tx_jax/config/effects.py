"""Which keys of a configuration have an effect, given the values of the others."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from types import SimpleNamespace
from typing import Any

from tx_jax.config.data import PAIRED
from tx_jax.config.experiment import ExperimentConfig, group_from_dict, load_extensions
from tx_jax.config.heads import labeled
from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.config.model import TransformerConfig
from tx_jax.config.old_runs import with_task

Groups = SimpleNamespace  # an ExperimentConfig, or one whose model shape is not known yet


@dataclasses.dataclass(frozen=True)
class Effect:
    """A condition under which keys have an effect.

    Attributes:
      depends_on: the keys whose values decide whether they have one; the message names them.
      mend: what to set so that they have an effect; "" if nothing would.
      of_files: whether to also report values that a configuration file sets without effect. Not always: XLM-R's recipe
        says how to mix several stores, but may be trained on one.
    """

    keys: tuple[str, ...]
    works: Callable[[Groups], bool]
    depends_on: tuple[str, ...]
    mend: str = ""
    of_files: bool = True


def _masked(c: Groups) -> bool:
    return "causal_lm" not in c.model.heads


def _has_head(*heads: str) -> Callable[[Groups], bool]:
    return lambda c: not set(heads).isdisjoint(c.model.heads)


def _keys(group: str, names: str) -> tuple[str, ...]:
    return tuple(f"{group}.{name}" for name in names.split())


# Keys that are in no row always have an effect. (`model.pooler` has one on models fine-tuned from this one later, and
# `training.best_metric` on the run's plot.)
EFFECTS = (
    Effect(("start_fresh",), lambda c: bool(c.start_from), ("start_from",)),
    # The model.
    Effect(("model.num_labels",), lambda c: bool(labeled(c.model.heads)), ("model.heads",)),
    Effect(("model.tie_embeddings",), _has_head("masked_lm", "causal_lm"), ("model.heads",)),
    Effect(
        _keys("model", "relative_distance relative_buckets relative_norm share_relative_projections"),
        lambda c: bool(c.model.relative_attention),
        ("model.relative_attention",),
    ),
    Effect(
        ("model.output_bias",),
        _has_head("causal_lm"),
        ("model.heads",),
    ),
    Effect(
        ("model.decoder_embeddings",),
        lambda c: (
            c.model.architecture == "encoder_decoder"
            and (c.model.position_embedding == "learned" or c.model.embedding_norm)
        ),
        ("model.architecture", "model.position_embedding", "model.embedding_norm"),
    ),
    Effect(
        ("model.first_norm",),
        lambda c: (
            c.model.norm_position == "pre" and c.model.embedding_norm and c.model.embedding_dim in (0, c.model.dim)
        ),
        ("model.norm_position", "model.embedding_norm", "model.embedding_dim"),
    ),
    Effect(("model.key_bias",), lambda c: c.model.use_bias, ("model.use_bias",)),
    Effect(("model.conv_activation",), lambda c: c.model.conv_kernel > 0, ("model.conv_kernel",)),
    Effect(
        ("model.position_offset",), lambda c: c.model.position_embedding == "learned", ("model.position_embedding",)
    ),
    Effect(
        _keys("model", "rotary_theta local_rotary_theta"),
        lambda c: c.model.position_embedding == "rotary",
        ("model.position_embedding",),
    ),
    Effect(  # every `global_every`th layer attends to all
        ("model.local_window",),
        lambda c: c.model.global_every > 1,
        ("model.global_every",),
        "--config.model.global_every=3",
    ),
    Effect(
        _keys("model", "local_rotary_theta global_every"), lambda c: c.model.local_window > 0, ("model.local_window",)
    ),
    Effect(("model.initial_attention",), lambda c: not c.start_from or c.start_fresh, ("start_from", "start_fresh")),
    # Token stores.
    Effect(
        _keys(
            "data",
            "mask_rate mask_rate_end mask_rate_steps max_predictions mask_unit replace_with_mask replace_with_random "
            "masking dupe_factor selective_words",
        ),
        _masked,
        ("model.heads",),
    ),
    Effect(
        ("data.short_sequence_probability",),
        lambda c: c.data.packing == "pairs",
        ("data.packing",),
        "--config.data.packing=pairs",
    ),
    Effect(("data.pair_separators",), lambda c: c.data.packing in PAIRED, ("data.packing",)),
    Effect(
        ("data.mask_rate_end",),
        lambda c: c.data.mask_rate_steps > 0,
        ("data.mask_rate_steps",),
        "--config.data.mask_rate_steps=N",
    ),
    Effect(
        _keys("data", "span_probability span_max_words"),
        lambda c: c.data.mask_unit == "span",
        ("data.mask_unit",),
        "--config.data.mask_unit=span",
    ),
    Effect(
        _keys("data", "selective_share selective_rate_of"),
        lambda c: bool(c.data.selective_words),
        ("data.selective_words",),
        "--config.data.selective_words=FILE",
    ),
    Effect(
        ("data.dupe_factor",), lambda c: c.data.masking == "static", ("data.masking",), "--config.data.masking=static"
    ),
    Effect(
        _keys("data", "mixture_weights mixture_alpha"),
        lambda c: "," in c.data.store,
        ("data.store",),
        of_files=False,
    ),
    # Examples with labels.
    Effect(("data.folds",), lambda c: not c.data.validation, ("data.validation",)),
    Effect(("data.fold",), lambda c: c.data.folds > 0, ("data.folds",), "--config.data.folds=5"),
    Effect(
        ("data.validation_fraction",),
        lambda c: not c.data.validation and not c.data.folds,
        ("data.validation", "data.folds"),
    ),
    Effect(("data.decimal",), lambda c: c.task == "regression", ("task",), "--config.task=regression"),
    Effect(("data.columns",), lambda c: c.data.format not in ("jsonl", "conllu", "squad"), ("data.format",)),
    Effect(("data.bad_lines",), lambda c: c.data.format in ("auto", "csv", "tsv"), ("data.format",)),
    Effect(
        ("data.labels",), lambda c: c.task not in ("regression", "question_answering", "multiple_choice"), ("task",)
    ),
    Effect(
        ("data.label_map",),
        lambda c: bool(c.start_from) and not c.start_fresh,
        ("start_from", "start_fresh"),
        "--config.start_from=FOLDER",
    ),
    Effect(("data.label_pieces",), _has_head("token_classification"), ("model.heads",)),
    Effect(
        _keys("data", "stride max_question_length max_answer_length n_best unanswerable null_threshold"),
        _has_head("question_answering"),
        ("model.heads",),
    ),
    Effect(
        ("data.null_threshold",),
        lambda c: c.data.unanswerable,
        ("data.unanswerable",),
        "--config.data.unanswerable=true",
    ),
    # The optimizer and the loop.
    Effect(
        ("optimizer.warmup_steps",),
        lambda c: not c.optimizer.warmup_share,
        ("optimizer.warmup_share",),
        "--config.optimizer.warmup_share=0",
    ),
    Effect(
        ("optimizer.final_share",),
        lambda c: c.optimizer.schedule in ("linear", "cosine"),
        ("optimizer.schedule",),
        "--config.optimizer.schedule=cosine",
    ),
    Effect(("optimizer.no_decay",), lambda c: c.optimizer.weight_decay > 0, ("optimizer.weight_decay",)),
    Effect(
        ("training.num_steps",),
        lambda c: not c.training.num_epochs,
        ("training.num_epochs",),
        "--config.training.num_epochs=0",
    ),
    # Pretraining's last evaluation is like the others: training.eval_batches.
    Effect(("training.final_eval_batches",), lambda c: isinstance(c.data, LabeledDataConfig), ("task",)),
    Effect(
        ("training.batch_size",),
        lambda c: not (c.phases.steps and c.phases.batch_size),
        ("phases.batch_size",),
        '--config.phases.batch_size="()"',
    ),
    Effect(
        ("training.accumulation_steps",),
        lambda c: not (c.phases.steps and c.phases.accumulation_steps),
        ("phases.accumulation_steps",),
        '--config.phases.accumulation_steps="()"',
    ),
    Effect(
        _keys("phases", "sequence_length max_predictions batch_size accumulation_steps"),
        lambda c: bool(c.phases.steps),
        ("phases.steps",),
    ),
    Effect(("phases.max_predictions",), _masked, ("model.heads",)),
    # What goes with start_from.
    Effect(
        _keys("lora", "alpha dropout targets also_train"),
        lambda c: c.lora.rank > 0,
        ("lora.rank",),
        "--config.lora.rank=8",
    ),
    Effect(
        _keys("distillation", "layers temperature soft_weight masked_lm_weight cosine_weight"),
        lambda c: c.task == "distillation",
        ("task",),
        "--config.task=distillation",
    ),
    Effect(("distillation.temperature",), lambda c: c.distillation.soft_weight > 0, ("distillation.soft_weight",)),
    # Always filled in from the teacher.
    Effect(_keys("distillation", "teacher_layers teacher_segments"), lambda c: False, ("start_from",)),
)


def groups_of(values: Mapping[str, Any]) -> Groups:
    """Each group by itself, without the checks across groups; keys that the model lacks have their defaults."""
    defaults = {
        field.name: field.default
        for field in dataclasses.fields(TransformerConfig)
        if field.default is not dataclasses.MISSING
    }
    names = ("data", "optimizer", "training", "phases", "lora", "distillation")
    values = with_task(values)
    load_extensions(values)
    return SimpleNamespace(
        task=values["task"],
        model=SimpleNamespace(**{"heads": (), **defaults, **values["model"]}),
        start_from=values.get("start_from", ""),
        start_fresh=values.get("start_fresh", False),
        **{name: group_from_dict(name, values.get(name, {})) for name in names},
    )


def idle_keys(groups: Groups, given: Collection[str]) -> Iterator[str]:
    """A sentence for each key that was chosen and does nothing.

    A key is chosen if it was set on the command line, or if a file sets it to other than its default and the command
    line did not change what it depends on. A value that means "none" (0, False, empty) is never reported.
    """
    told = set()
    for effect in EFFECTS:
        for key in effect.keys:
            if key in told or not _is_there(groups, key) or effect.works(groups):
                continue
            if _is_chosen(groups, key, given, effect):
                told.add(key)
                reason = ", ".join(f"{other}={_value(groups, other)!r}" for other in effect.depends_on)
                mend = f", or give {effect.mend}" if effect.mend else ""
                yield f"{key}={_value(groups, key)!r} does nothing because {reason}: leave it out{mend}"


def _is_chosen(groups: Groups, key: str, given: Collection[str], effect: Effect) -> bool:
    value, default = _value(groups, key), _default(groups, key)
    if not value and value == default:
        return False
    if key in given:
        return True
    switched_off = not set(effect.depends_on).isdisjoint(given)
    if switched_off or not effect.of_files or default is dataclasses.MISSING:
        return False
    # The shape comes from the start model, whatever the file says.
    return value != default and not (key.startswith("model.") and groups.start_from)


def _is_there(groups: Groups, key: str) -> bool:
    group, _, name = key.rpartition(".")
    return hasattr(getattr(groups, group) if group else groups, name)


def _value(groups: Groups, key: str) -> Any:
    group, _, name = key.rpartition(".")
    value = getattr(getattr(groups, group) if group else groups, name)
    return tuple(value) if isinstance(value, list) else value


def _default(groups: Groups, key: str) -> Any:
    """The field's default; `dataclasses.MISSING` if it has none."""
    group, _, name = key.rpartition(".")
    owner = {"model": TransformerConfig, "": ExperimentConfig}.get(group) or type(getattr(groups, group))
    return next(field.default for field in dataclasses.fields(owner) if field.name == name)

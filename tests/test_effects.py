"""Configurations that do nothing are refused where a training starts, and nowhere else."""

import ast
import dataclasses
import re
from pathlib import Path

import pytest

from configs import bert_base, classification
from tests.test_configs import NAMES, get_config
from tx_jax.config import (
    DataConfig,
    ExperimentConfig,
    LabeledDataConfig,
    LoraConfig,
    MeshConfig,
    OptimizerConfig,
    PhasesConfig,
    TrainingConfig,
    TransformerConfig,
    TranslationDataConfig,
    from_config_dict,
)
from tx_jax.config.distillation import DistillationConfig
from tx_jax.config.effects import EFFECTS
from tx_jax.config.further import experiment_values
from tx_jax.config.starting import check_start
from tx_jax.errors import InputError

# Keys that always have an effect, or whose values alone decide whether they have: a new key needs a row in EFFECTS, or
# a place here.
ALWAYS = {
    "": "task seed start_from extensions",
    "model": "architecture vocab_size dim num_layers num_heads mlp_dim max_length num_segments activation "
    "norm_position layer_norm_eps dropout attention_dropout init_stddev heads dtype remat num_decoder_layers "
    "embedding_dim embedding_norm embedding_scale position_embedding pooler use_bias gated_mlp scale_residual_init "
    "relative_attention attention conv_kernel enhanced_mask_decoder classifier_transform classifier_pooling "
    "classifier_dropout",
    "data": "store sequence_length packing read_ahead skip_batches train validation test more_splits format text label "
    # An objective tells whether it knows the choices, separators and class weights.
    "choices metrics label_separator class_weights null_values delimiter quote comment "
    # Translation.
    "buckets label_smoothing",
    "optimizer": "learning_rate schedule beta1 beta2 eps weight_decay clip_norm warmup_share frozen rate_scale "
    "layer_decay",
    "training": "num_epochs log_every eval_every eval_batch_size eval_batches "
    "checkpoint_every keep_last keep_best best_metric max_skipped_updates stall_seconds patience trackers",
    "mesh": "data fsdp tensor context",
    "phases": "steps",
    "lora": "rank",
}
GROUPS = {
    "model": (TransformerConfig,),
    "data": (DataConfig, LabeledDataConfig, TranslationDataConfig),
    "optimizer": (OptimizerConfig,),
    "training": (TrainingConfig,),
    "mesh": (MeshConfig,),
    "phases": (PhasesConfig,),
    "lora": (LoraConfig,),
    "distillation": (DistillationConfig,),
}


def test_of_every_key_it_is_said_when_it_has_an_effect():
    known = {
        f"{group}.{field.name}" for group, of in GROUPS.items() for kind in of for field in dataclasses.fields(kind)
    }
    known |= {field.name for field in dataclasses.fields(ExperimentConfig)} - GROUPS.keys()
    conditional = {key for effect in EFFECTS for key in effect.keys}
    always = {f"{group}.{name}".removeprefix(".") for group, names in ALWAYS.items() for name in names.split()}
    assert conditional | always == known
    assert not conditional & always
    assert {other for effect in EFFECTS for other in effect.depends_on} <= known


def values_of(config, changes):
    config = config.copy_and_resolve_references()
    for key, value in changes.items():
        group, _, name = key.rpartition(".")
        (config[group] if group else config)[name] = value
    return config.to_dict()


def check(config, given, file=None):
    """As if `file` stood in the configuration and `given` on the command line."""
    check_start(values_of(config, {**(file or {}), **given}), tuple(given))


PRETRAINING = bert_base.get_config("smoke")
FINE_TUNING = classification.get_config()
TAGGING, ANSWERS = get_config("tagging"), get_config("squad")
CAUSAL, DISTILLATION = get_config("gpt2_small", "smoke"), get_config("distilbert", "smoke")

# Configuration, what is given, what else the file says, part of the message.
REFUSED = [
    (PRETRAINING, {"start_fresh": True}, {}, "start_fresh=True does nothing because start_from='': leave it out"),
    (PRETRAINING, {"model.num_labels": 3}, {}, "because model.heads=('masked_lm', 'next_sentence')"),
    (FINE_TUNING, {"model.tie_embeddings": False}, {}, "tie_embeddings=False does nothing because model.heads=("),
    (PRETRAINING, {"model.relative_distance": 8}, {}, "because model.relative_attention=()"),
    (PRETRAINING, {"model.key_bias": False}, {"model.use_bias": False}, "because model.use_bias=False"),
    (PRETRAINING, {"model.output_bias": True}, {}, "because model.heads=('masked_lm', 'next_sentence')"),
    (PRETRAINING, {"model.decoder_embeddings": True}, {}, "because model.architecture='encoder'"),
    (PRETRAINING, {"model.first_norm": True}, {}, "because model.norm_position='post', model.embedding_norm=True"),
    (PRETRAINING, {"model.conv_activation": "gelu"}, {}, "because model.conv_kernel=0"),
    (PRETRAINING, {"model.position_offset": 2}, {"model.position_embedding": "none"}, "position_embedding='none'"),
    (PRETRAINING, {"model.rotary_theta": 5e5}, {}, "because model.position_embedding='learned'"),
    (
        PRETRAINING,
        {"model.initial_attention": ("previous", "next", "same", "random")},
        {"start_from": "runs/a"},
        "does nothing because start_from=",
    ),
    (PRETRAINING, {"model.global_every": 3}, {}, "because model.local_window=0"),
    (PRETRAINING, {"model.local_window": 16}, {}, "because model.global_every=1: leave it out, or give --config.model"),
    (CAUSAL, {"data.mask_rate": 0.3}, {}, "because model.heads=('causal_lm',)"),
    (CAUSAL, {"data.mask_unit": "whole_word"}, {}, "because model.heads=('causal_lm',)"),
    (CAUSAL, {"data.dupe_factor": 3}, {}, "because model.heads=('causal_lm',)"),
    (CAUSAL, {"data.short_sequence_probability": 0.2}, {}, "because data.packing='chunks'"),
    (DISTILLATION, {"data.pair_separators": 2}, {}, "because data.packing='full_sentences'"),
    (PRETRAINING, {"data.mask_rate_end": 0.05}, {}, "because data.mask_rate_steps=0: leave it out, or give -"),
    (PRETRAINING, {"data.span_probability": 0.5}, {}, "because data.mask_unit='token': leave it out, or give -"),
    (PRETRAINING, {"data.span_max_words": 10}, {}, "span_max_words=10 does nothing because data."),
    (PRETRAINING, {}, {"data.span_max_words": 5}, "span_max_words=5 does nothing because data."),
    (PRETRAINING, {"data.selective_share": 0.5}, {}, "because data.selective_words=''"),
    (PRETRAINING, {"data.selective_rate_of": "tokens"}, {}, "because data.selective_words=''"),
    (DISTILLATION, {"data.dupe_factor": 5}, {}, "because data.masking='dynamic': leave it out, or give -"),
    (PRETRAINING, {"data.mixture_alpha": 0.3}, {}, "because data.store='data/quickstart'"),
    (PRETRAINING, {"data.mixture_weights": (1.0,)}, {}, "because data.store='data/quickstart'"),
    (FINE_TUNING, {"data.validation_fraction": 0.2}, {"data.validation": "a.csv"}, "because data.validation='a.csv'"),
    (FINE_TUNING, {"data.folds": 5}, {"data.validation": "a.csv"}, "because data.validation='a.csv'"),
    (FINE_TUNING, {"data.validation_fraction": 0.2}, {"data.folds": 5}, "because data.validation='', data.folds=5"),
    (FINE_TUNING, {"data.fold": 1}, {}, "because data.folds=0: leave it out, or give --config.data.folds=5"),
    (FINE_TUNING, {"data.columns": ("a", "b")}, {"data.format": "jsonl"}, "because data.format='jsonl'"),
    (FINE_TUNING, {"data.decimal": ","}, {}, "because task='classification'"),
    (TAGGING, {"data.bad_lines": "skip"}, {"data.format": "conll"}, "because data.format='conll'"),
    (ANSWERS, {"data.labels": ("a", "b")}, {}, "because task='question_answering'"),
    (FINE_TUNING, {"data.label_map": ("a=b",)}, {"start_from": ""}, "because start_from=''"),
    (FINE_TUNING, {"data.label_pieces": "all"}, {}, "because model.heads=('sequence_classification',)"),
    (FINE_TUNING, {"data.stride": 64}, {}, "because model.heads=('sequence_classification',)"),
    (FINE_TUNING, {}, {"data.unanswerable": True}, "because model.heads=('sequence_classification',)"),
    (ANSWERS, {"data.null_threshold": 1.0}, {}, "because data.unanswerable=False"),
    (
        FINE_TUNING,
        {"optimizer.warmup_steps": 100},
        {},
        "optimizer.warmup_steps=100 does nothing because optimizer.warmup_share=0.1: leave it out, or give "
        "--config.optimizer.warmup_share=0",
    ),
    (FINE_TUNING, {"optimizer.warmup_steps": 0}, {}, "optimizer.warmup_steps=0 does nothing"),
    (PRETRAINING, {"optimizer.final_share": 0.1}, {"optimizer.schedule": "constant"}, "optimizer.schedule='constant'"),
    (PRETRAINING, {"optimizer.no_decay": ("norm/",)}, {"optimizer.weight_decay": 0.0}, "optimizer.weight_decay=0.0"),
    (
        FINE_TUNING,
        {"training.num_steps": 100},
        {},
        "training.num_steps=100 does nothing because training.num_epochs=3.0: leave it out, or give "
        "--config.training.num_epochs=0",
    ),
    (PRETRAINING, {"training.final_eval_batches": 5}, {}, "final_eval_batches=5 does nothing because task='masked_lm'"),
    (FINE_TUNING, {"training.num_epochs": 2.0, "training.num_steps": 100}, {}, "because training.num_epochs=2.0"),
    (bert_base.get_config(), {"training.batch_size": 64}, {}, "because phases.batch_size=(256, 256)"),
    (
        bert_base.get_config(),
        {"training.accumulation_steps": 2},
        {"phases.accumulation_steps": (1, 4)},
        "because phases.accumulation_steps=(1, 4)",
    ),
    (PRETRAINING, {"phases.sequence_length": (16, 32)}, {}, "because phases.steps=()"),
    (CAUSAL, {"phases.max_predictions": (1, 2), "phases.steps": (10, 10)}, {}, "because model.heads=('causal_lm',)"),
    (PRETRAINING, {"lora.alpha": 32.0}, {}, "because lora.rank=0"),
    (FINE_TUNING, {}, {"lora.also_train": ("^embeddings/",)}, "because lora.rank=0"),
    (PRETRAINING, {"distillation.temperature": 1.0}, {}, "task='masked_lm': leave it out, or give -"),
    (DISTILLATION, {"distillation.temperature": 1.0, "distillation.soft_weight": 0.0}, {}, "soft_weight=0.0"),
    (DISTILLATION, {"distillation.teacher_layers": 3}, {}, "because start_from='models/bert'"),
    # What is no single key.
    (PRETRAINING, {"model.heads": ("masked_lm", "next_sentence", "pooled")}, {}, "no loss trains pooled: give --con"),
    (FINE_TUNING, {}, {"model.heads": ("sequence_classification", "masked_lm")}, "no loss trains masked_lm"),
    (DISTILLATION, dict.fromkeys(("distillation.soft_weight", "distillation.masked_lm_weight",
     "distillation.cosine_weight"), 0.0), {}, "nothing would be learned"),
    (
        PRETRAINING,
        {"training.num_steps": 100},
        {"optimizer.warmup_share": 0.0, "optimizer.warmup_steps": 200},
        "optimizer.warmup_steps=200 leaves no step after the warmup, as training.num_steps=100 (num_steps was given "
        "for this run, the warmup was not): give a share of all steps instead, such as "
        "--config.optimizer.warmup_share=0.1",
    ),
    (PRETRAINING, {}, {"optimizer.warmup_share": 0.0, "optimizer.warmup_steps": 20}, "num_steps=20: give a"),
    (PRETRAINING, {"optimizer.warmup_share": 0.99}, {}, "optimizer.warmup_share=0.99 of training.num_steps=20"),
    (
        PRETRAINING,
        {"training.eval_every": 6},
        {},
        "training.keep_best=1 does nothing because before the last of 20 steps no evaluation (training.eval_every=6) "
        "falls on a checkpoint (training.checkpoint_every=10): give --config.training.checkpoint_every=6, or",
    ),
    (PRETRAINING, {"training.checkpoint_every": 0}, {}, "training.keep_best=1 does nothing"),
    (PRETRAINING, {"training.keep_best": 2, "training.eval_every": 0}, {}, "training.keep_best=2 does nothing"),
    (PRETRAINING, {"training.patience": 1, "training.eval_every": 0, "training.keep_best": 0}, {}, "patience=1 does"),
    (PRETRAINING, {"training.patience": 1}, {}, "makes 1 evaluations before the last of 20 steps"),
    (PRETRAINING, {"data.skip_batches": "5,30-40"}, {}, "does nothing from batch 30 on, because training ends with"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "given", "file", "message"), REFUSED, ids=[row[3][:60] for row in REFUSED])
def test_what_does_nothing_is_refused(config, given, file, message):
    with pytest.raises(InputError) as error:
        check(config, given, file)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_every_condition_has_a_case():
    refused = {key for _, given, file, _ in REFUSED for key in (*given, *file)}
    for effect in EFFECTS:
        assert refused.intersection(effect.keys), effect


@pytest.mark.parametrize(
    ("config", "given", "file"),
    [
        (PRETRAINING, {"data.mask_rate_end": 0.05, "data.mask_rate_steps": 10, "data.masking": "dynamic"}, {}),
        (PRETRAINING, {"data.mask_unit": "span", "data.span_probability": 0.5}, {}),
        (PRETRAINING, {"model.local_window": 16, "model.global_every": 2}, {}),
        (FINE_TUNING, {"training.num_epochs": 2.0}, {}),  # the file's number of steps was not chosen
        (FINE_TUNING, {"training.num_epochs": 0.0, "training.num_steps": 100}, {"training.checkpoint_every": 10,
                                                                               "training.eval_every": 10}),
        (FINE_TUNING, {"optimizer.warmup_share": 0.0, "optimizer.warmup_steps": 100}, {}),
        (PRETRAINING, {"data.mask_rate_end": 0.0, "training.patience": 0, "distillation.layers": 0}, {}),  # none
        (CAUSAL, {"optimizer.schedule": "constant"}, {}),  # switches off the file's final_share
        (bert_base.get_config(), {"phases.steps": ()}, {}),  # switches off the file's other phases
        (PRETRAINING, {"training.num_steps": 4}, {}),  # a trial: it is evaluated and saved once
        (PRETRAINING, {"training.eval_every": 5}, {}),
        (PRETRAINING, {"training.patience": 1, "training.eval_every": 5}, {}),
        (PRETRAINING, {"data.skip_batches": "5,20-40"}, {}),
    ],
)  # fmt: skip
def test_what_has_an_effect_is_let_through(config, given, file):
    check(config, given, file)


@pytest.mark.parametrize("variant", ["", "smoke"])
@pytest.mark.parametrize("name", NAMES)
def test_every_configuration_may_start(name, variant):
    values = get_config(name, variant).to_dict()
    if "source" in values:  # further pretraining always starts from a model, whose pooler it carries along
        values["start_from"] = "MODEL"
    check_start(experiment_values(values))


def test_what_is_refused_to_start_can_still_be_read():
    values = values_of(PRETRAINING, {"data.span_max_words": 5, "optimizer.warmup_share": 0.0, "training.num_steps": 5})
    assert from_config_dict(values).data.span_max_words == 5


@pytest.mark.parametrize("value", ["false", "true", 0, 1])
def test_a_boolean_is_no_text_and_no_number(value):
    for config, key in (
        (ANSWERS, "data.unanswerable"),
        (PRETRAINING, "model.use_bias"),
        (PRETRAINING, "start_fresh"),
    ):
        values = config.to_dict()
        group, _, name = key.rpartition(".")
        (values[group] if group else values)[name] = value
        with pytest.raises(InputError, match=rf"{name}={value!r} must be of type bool"):
            from_config_dict(values)


def test_the_shortened_quickstart_of_the_integration_run_may_start():
    script = (Path(__file__).parents[1] / ".ci/run").read_text()
    given = {key: ast.literal_eval(value) for key, value in re.findall(r"--config\.([\w.]+)=([\d.(),]+)", script)}
    assert given["training.num_steps"] == 100
    check(get_config("quickstart"), given)
    with pytest.raises(InputError, match=r"optimizer.warmup_steps=250 leaves no step after the warmup"):
        check(get_config("quickstart"), {key: given[key] for key in ("training.num_steps", "phases.steps")})

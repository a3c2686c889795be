import dataclasses
import json

import ml_collections
import pytest

from tx_jax import config
from tx_jax.errors import InputError
from tx_jax.tasks.registry import objective_of

VALUES = {
    "task": "masked_lm",
    "seed": 0,
    "model": {
        "architecture": "encoder",
        "vocab_size": 97,
        "dim": 48,
        "num_layers": 2,
        "num_heads": 4,
        "mlp_dim": 96,
        "max_length": 64,
        "num_segments": 2,
        "activation": "gelu",
        "norm_position": "post",
        "layer_norm_eps": 1e-12,
        "dropout": 0.1,
        "attention_dropout": 0.1,
        "init_stddev": 0.02,
        "heads": ("masked_lm", "next_sentence"),
        "dtype": "float32",
        "remat": "none",
    },
    "data": {
        "store": "somewhere",
        "sequence_length": 64,
        "packing": "pairs",
        "short_sequence_probability": 0.1,
        "mask_rate": 0.15,
        "max_predictions": 10,
        "replace_with_mask": 0.8,
        "replace_with_random": 0.1,
        "masking": "dynamic",
        "dupe_factor": 10,
        "read_ahead": 2,
    },
    "optimizer": {
        "learning_rate": 1e-4,
        "warmup_steps": 10,
        "schedule": "linear",
        "beta1": 0.9,
        "beta2": 0.999,
        "eps": 1e-6,
        "weight_decay": 0.01,
        "no_decay": ("bias$", "norm/"),
        "clip_norm": 1.0,
    },
    "training": {
        "num_steps": 100,
        "batch_size": 16,
        "accumulation_steps": 2,
        "log_every": 10,
        "eval_every": 50,
        "eval_batch_size": 16,
        "eval_batches": 4,
        "checkpoint_every": 50,
        "keep_last": 2,
        "keep_best": 1,
        "best_metric": "masked_lm_loss",
    },
    "mesh": {"data": -1, "fsdp": 1, "tensor": 1},
}
ABSENT = object()


def changed(**changes):
    """VALUES with `group__key=value` replaced, added, or removed (ABSENT)."""
    values = {key: dict(value) if isinstance(value, dict) else value for key, value in VALUES.items()}
    for name, value in changes.items():
        group, _, key = name.rpartition("__")
        target = values[group] if group else values
        if value is ABSENT:
            del target[key]
        else:
            target[key] = value
    return values


def test_these_values_are_valid():
    built = config.from_config_dict(VALUES)
    assert built.model.head_dim == 12
    values = config.to_dict(built)
    assert config.from_config_dict(values) == built
    assert {key: {k: values[key][k] for k in v} if isinstance(v, dict) else v for key, v in VALUES.items()} == VALUES


def test_every_field_without_a_default_is_needed():
    """And only those: a run directory that was written before a field existed can still be read."""

    def needed(kind):
        return {field.name: field.type for field in dataclasses.fields(kind) if field.default is dataclasses.MISSING}

    groups = needed(config.ExperimentConfig)
    assert set(groups) == set(VALUES)
    for name, kind in groups.items():
        if dataclasses.is_dataclass(kind):
            assert set(needed(kind)) == set(VALUES[name])


def at_least_one(group, *keys):
    return [({f"{group}__{key}": 0}, f"{group}.{key}=0 must be at least 1") for key in keys]


REFUSED = [
    *at_least_one(
        "model", "vocab_size", "dim", "num_layers", "num_heads", "mlp_dim", "max_length", "num_labels", "global_every"
    ),
    ({"model__num_heads": 5}, "model.dim=48 is not divisible by model.num_heads=5"),
    *[({f"model__{key}": -1}, f"model.{key}=-1 must not be negative") for key in ("num_segments", "embedding_dim")],
    (
        {"model__heads": ("masked_lm", "causal_lm")},
        "'causal_lm' is not one of those that model.architecture='encoder' ",
    ),
    ({"model__num_decoder_layers": 2}, "model.num_decoder_layers=2 with model.architecture='encoder'"),
    ({"model__relative_attention": ("c2p",)}, "model.relative_attention needs model.relative_distance >= 1"),
    (
        {"model__relative_attention": ("c2p",), "model__relative_distance": 8, "model__relative_buckets": 1},
        "model.relative_buckets=1 must be 0, or at least 2 and below model.relative_distance=8",
    ),
    *[
        ({"model__dim": 64, "model__initial_attention": attention, **more}, message)
        for attention, more, message in (
            (("same", "next"), {}, "must have one value for each of model.num_heads=4 heads, not 2; --config.model."),
            (
                ("same", "same", "same", "next"),
                {},
                "at most 2 of 4 heads can begin with equal tokens, as positions and",
            ),
            (("random",) * 4, {}, "is the same as none; --config.model."),
            (
                ("next",) * 4,
                {"model__position_embedding": "rotary"},
                "model.position_embedding='learned', not 'rotary'",
            ),
            (("next",) * 4, {"model__embedding_norm": False}, "needs model.embedding_norm=True, not False"),
            (("next",) * 4, {"model__embedding_scale": True}, "needs model.embedding_scale=False, not True"),
            (("next",) * 4, {"model__embedding_dim": 16}, "needs model.embedding_dim=0; --config.model."),
            (("next",), {"model__num_heads": 1}, "needs model.num_heads of at least 2"),
            (("next",) * 8, {"model__num_heads": 8}, "heads of at least 16, an even number, not model.dim"),
        )
    ],
    ({"model__enhanced_mask_decoder": True, "model__norm_position": "pre"}, "needs model.norm_position='post'"),
    ({"model__conv_kernel": 2}, "model.conv_kernel=2 must be odd"),
    ({"model__local_window": 3}, "model.local_window=3 must be even"),
    ({"model__dropout": 1.0}, "model.dropout=1.0 must be in [0, 1)"),
    ({"model__dropout": -0.1}, "model.dropout=-0.1 must be in [0, 1)"),
    ({"model__attention_dropout": 1.0}, "model.attention_dropout=1.0 must be in [0, 1)"),
    ({"model__heads": ("masked_lm", "masked_lm")}, "model.heads=('masked_lm', 'masked_lm') names a head twice"),
    ({"data__sequence_length": 7, "data__max_predictions": 1}, "data.sequence_length=7 must be at least 8"),
    ({"data__max_predictions": 0}, "data.max_predictions=0 must be between 1 and data.sequence_length=64"),
    ({"data__max_predictions": 9}, "data.max_predictions=9 is too small"),
    ({"training__best_metric": ""}, "training.keep_best=1 needs training.best_metric"),
    ({"data__max_predictions": 65}, "data.max_predictions=65 must be between 1 and data.sequence_length=64"),
    ({"data__short_sequence_probability": 1.5}, "data.short_sequence_probability=1.5 must be in [0, 1]"),
    ({"data__mask_rate": -0.5}, "data.mask_rate=-0.5 must be in [0, 1]"),
    ({"data__mask_rate": 0}, "data.mask_rate=0 leaves nothing to predict"),
    ({"data__replace_with_mask": 1.5}, "data.replace_with_mask=1.5 must be in [0, 1]"),
    ({"data__replace_with_random": 1.5}, "data.replace_with_random=1.5 must be in [0, 1]"),
    ({"data__replace_with_random": 0.3}, "data.replace_with_mask=0.8 + data.replace_with_random=0.3 exceeds 1"),
    *at_least_one("data", "dupe_factor", "read_ahead"),
    ({"optimizer__learning_rate": 0}, "optimizer.learning_rate=0.0 must be positive"),
    ({"optimizer__learning_rate": float("inf")}, "optimizer.learning_rate=inf must be positive"),
    ({"optimizer__eps": -1e-6}, "optimizer.eps=-1e-06 must be positive"),
    ({"optimizer__beta2": 1.0}, "optimizer.beta2=1.0 must be in [0, 1)"),
    ({"optimizer__weight_decay": -0.1}, "optimizer.weight_decay=-0.1 must not be negative or infinite"),
    ({"optimizer__no_decay": ("bias$", "(")}, "optimizer.no_decay: '(' is not a regular expression"),
    ({"optimizer__frozen": ("(",)}, "optimizer.frozen: '(' is not a regular expression"),
    ({"optimizer__rate_scale": ("[=2",)}, "optimizer.rate_scale: '[' is not a regular expression"),
    ({"optimizer__rate_scale": ("pooler",)}, "optimizer.rate_scale: 'pooler' must be REGEX=FACTOR"),
    (
        {"optimizer__rate_scale": ("^embeddings/=0",)},
        "not to train at all belong in optimizer.frozen",
    ),
    ({"optimizer__rate_scale": ("=2",)}, "optimizer.rate_scale: '=2' must be REGEX=FACTOR"),
    ({"optimizer__layer_decay": 0}, "optimizer.layer_decay=0.0 must be in (0, 1]; 1 is none"),
    ({"optimizer__layer_decay": 1.1}, "optimizer.layer_decay=1.1 must be in (0, 1]; 1 is none"),
    ({"lora": {"rank": -1}}, "lora.rank=-1 must not be negative; 0 is no LoRA"),
    ({"lora": {"rank": 4}}, "lora.rank=4 adapts a trained model: give --config.start_from=FOLDER"),
    ({"lora": {"dropout": 1.0}}, "lora.dropout=1.0 must be in [0, 1)"),
    ({"lora": {"alpha": 0}}, "lora.alpha=0.0 must be positive"),
    ({"lora": {"rank": 4, "targets": ()}}, "lora.targets is empty"),
    ({"lora": {"targets": ("(",)}}, "lora.targets: '(' is not a regular expression"),
    ({"lora": {"also_train": ("(",)}}, "lora.also_train: '(' is not a regular expression"),
    ({"model__layer_norm_eps": 0.0}, "model.layer_norm_eps=0.0 must be positive"),
    ({"model__init_stddev": float("nan")}, "model.init_stddev=nan must be positive"),
    ({"optimizer__warmup_steps": -1}, "optimizer.warmup_steps=-1 must not be negative"),
    ({"optimizer__clip_norm": -1}, "optimizer.clip_norm=-1.0 must not be negative; 0 turns clipping off"),
    *at_least_one(
        "training", "num_steps", "batch_size", "accumulation_steps", "log_every", "eval_batch_size", "keep_last"
    ),
    ({"training__eval_every": -1}, "training.eval_every=-1 must not be negative"),
    ({"training__eval_batches": -1}, "training.eval_batches=-1 must not be negative"),
    ({"training__checkpoint_every": -1}, "training.checkpoint_every=-1 must not be negative"),
    ({"training__keep_best": -1}, "training.keep_best=-1 must not be negative"),
    ({"training__accumulation_steps": 3}, "training.batch_size=16 is not divisible by training.accumulation_steps=3"),
    ({"training__num_epochs": 2.0}, "training.num_epochs=2.0: pretraining is measured in steps"),
    ({"mesh__data": 0}, "mesh axes must be -1 or at least 1, not {'data': 0, 'fsdp': 1, 'tensor': 1, 'context': 1}"),
    ({"mesh__data": -2}, "mesh axes must be -1 or at least 1, not {'data': -2"),
    ({"mesh__tensor": -1}, "at most one mesh axis may be -1, not {'data': -1, 'fsdp': 1, 'tensor': -1, 'context': 1}"),
    ({"data__sequence_length": 65}, "data.sequence_length=65 exceeds model.max_length=64"),
    (
        {"model__heads": ("next_sentence",)},
        "model.heads=('next_sentence',) lacks 'masked_lm', which task='masked_lm' trains",
    ),
    ({"model__heads": ("masked_lm",)}, "needs 'next_sentence' in model.heads=('masked_lm',)"),
    ({"model__num_segments": 1}, "model.num_segments=1 >= 2"),
    ({"data__packing": "doc_sentences"}, "drop 'next_sentence' from model.heads, --config.model.heads="),
    # Phases: num_steps is 100, max_length 64, accumulation_steps 2.
    ({"phases": {"steps": (90, 9)}}, "phases.steps=(90, 9) add up to 99, not training.num_steps=100: give both, or "),
    ({"phases": {"steps": (90, 10), "batch_size": (16,)}}, "phases.batch_size=(16,) must have 2 values"),
    ({"phases": {"steps": (100, 0)}}, "phases.steps=(100, 0) must all be at least 1"),
    (
        {"phases": {"steps": (90, 10), "sequence_length": (64, 128), "max_predictions": (10, 20)}},
        "phases.sequence_length=(64, 128) exceeds model.max_length=64",
    ),
    (
        {"phases": {"steps": (90, 10), "sequence_length": (32, 64), "max_predictions": (5, 5)}},
        "in phase 2 of 2: data.max_predictions=5 is too small",
    ),
    (
        {"phases": {"steps": (90, 10), "batch_size": (15, 16)}},
        "in phase 1 of 2: training.batch_size=15 is not divisible by training.accumulation_steps=2",
    ),
    (
        {"phases": {"steps": (90, 10), "accumulation_steps": (2, 3)}},
        "in phase 2 of 2: training.batch_size=16 is not divisible by training.accumulation_steps=3",
    ),
    (
        {"phases": {"steps": (90, 10), "accumulation_steps": (2, 4)}},
        "phases.accumulation_steps=(2, 4): phases with batches of one shape need one value",
    ),
    ({"phases": {"step": (90, 10)}}, "unknown key config.phases.step. Did you mean 'steps'?"),
    # Keys.
    ({"model__num_layer": 2}, "unknown key config.model.num_layer. Did you mean 'num_layers'?"),
    ({"modle": {}}, "unknown key config.modle. Did you mean 'model'?"),
    ({"optimizer__zzz": 1}, "unknown key config.optimizer.zzz."),
    ({"model__dim": ABSENT, "model__dtype": ABSENT}, "config.model lacks dim, dtype"),
    ({"mesh": ABSENT}, "config lacks mesh"),
    # Types.
    ({"mesh": 3}, "config.mesh must be a group of keys, not 3"),
    ({"seed": "0"}, "config.seed='0' must be of type int, not str"),
    ({"seed": 0.5}, "config.seed=0.5 must be of type int, not float"),
    ({"seed": True}, "config.seed=True must be of type int, not bool"),
    ({"seed": None}, "config.seed=None must be of type int, not NoneType"),
    ({"optimizer__learning_rate": "1e-4"}, "config.optimizer.learning_rate='1e-4' must be of type float, not str"),
    ({"optimizer__learning_rate": True}, "config.optimizer.learning_rate=True must be of type float, not bool"),
    ({"data__store": 1}, "config.data.store=1 must be of type str, not int"),
    ({"model__heads": "masked_lm"}, "config.model.heads='masked_lm' must be a tuple"),
    ({"task": "masked_ml"}, "task='masked_ml' is not one of masked_lm, causal_lm, "),
    ({"task": "causal_lm"}, "lacks 'causal_lm', which task='causal_lm' trains"),
    ({"task": "tagging"}, "task='tagging' learns from labeled examples, data.train, not from a token store"),
    ({"model__heads": 1}, "config.model.heads=1 must be a tuple"),
    ({"optimizer__no_decay": (1,)}, "config.optimizer.no_decay=1 must be of type str, not int"),
    # Choices.
    (
        {"model__architecture": "encodr"},
        "config.model.architecture='encodr' is not one of encoder, decoder, encoder_decoder. Did you mean",
    ),
    (
        {"model__activation": "gelu_tan"},
        "config.model.activation='gelu_tan' is not one of gelu, gelu_tanh, relu, silu. Did you mean 'gelu_tanh'?",
    ),
    ({"model__norm_position": "middle"}, "is not one of post, pre."),
    ({"model__heads": ("masked_ml",)}, "model.heads=('masked_ml',): 'masked_ml' is not one of those that"),
    ({"model__dtype": "float16"}, "config.model.dtype='float16' is not one of float32, bfloat16."),
    ({"model__remat": True}, "config.model.remat=True is not one of none, dots, block."),
    ({"data__packing": "pair"}, "doc_sentences, chunks, packed_documents. Did you mean 'pairs'?"),
    ({"data__masking": "none"}, "config.data.masking='none' is not one of dynamic, static."),
    ({"optimizer__schedule": "cosin"}, "is not one of linear, cosine, inverse_sqrt, constant. Did you mean 'cosine'?"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED, ids=[message[:60] for _, message in REFUSED])
def test_refused_with_the_values_in_the_message(changes, message):
    with pytest.raises(InputError) as error:
        objective_of(config.from_config_dict(changed(**changes)))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"model__heads": ("masked_lm",), "model__num_segments": 1, "data__packing": "doc_sentences"},
        {"data__sequence_length": 8, "data__max_predictions": 8},
        {
            "model__dropout": 0,
            "data__mask_rate": 1,
            "data__max_predictions": 64,
            "optimizer__clip_norm": 0,
            "optimizer__warmup_steps": 0,
        },
        {"training__eval_every": 0, "training__checkpoint_every": 0, "training__keep_best": 0},
        {"data__replace_with_mask": 0.9},
        {"mesh__data": 1, "mesh__fsdp": -1},
    ],
)
def test_limits_that_are_allowed(changes):
    objective_of(config.from_config_dict(changed(**changes)))


def test_phases_fill_in_what_they_do_not_say():
    built = config.from_config_dict(changed())
    (only,) = built.training_phases
    assert (only.number, only.start, only.stop, only.shape) == (0, 0, 100, (16, 64, 10))
    assert only.data == built.data
    phases = {"steps": [30, 60, 10], "sequence_length": [16, 32, 64], "batch_size": [4, 8, 16]}
    built = config.from_config_dict(changed(phases=phases))
    assert [(p.number, p.start, p.stop, p.shape) for p in built.training_phases] == [
        (0, 0, 30, (4, 16, 10)),
        (1, 30, 90, (8, 32, 10)),
        (2, 90, 100, (16, 64, 10)),
    ]
    assert [p.tokens_per_step for p in built.training_phases] == [64, 256, 1024]
    assert config.from_config_dict(json.loads(json.dumps(config.to_dict(built)))) == built


def test_without_steps_there_is_one_phase_whatever_else_the_phases_say():
    """So that one flag turns off the phases of a configuration."""
    (only,) = config.from_config_dict(changed(phases={"steps": (), "batch_size": (2, 4)})).training_phases
    assert only.shape == (16, 64, 10)


def test_round_trip_through_json_and_config_dict():
    built = config.from_config_dict(ml_collections.ConfigDict(VALUES))
    stored = json.loads(json.dumps(config.to_dict(built)))
    assert config.from_config_dict(stored) == built
    assert config.from_config_dict(ml_collections.ConfigDict(stored)) == built
    assert isinstance(config.from_config_dict(stored).model.heads, tuple)
    assert hash(built) == hash(config.from_config_dict(stored))


def test_integers_become_floats_where_a_float_is_meant():
    built = config.from_config_dict(changed(model__dropout=0, optimizer__weight_decay=1))
    assert (type(built.model.dropout), type(built.optimizer.weight_decay)) == (float, float)


def test_rates_are_read_from_the_last_equals_sign():
    rows = config.from_config_dict(changed(optimizer__rate_scale=("^pooler/(?=k)=10", "bias=0.5"))).optimizer.rate_rows
    assert rows == (("^pooler/(?=k)", 10.0), ("bias", 0.5))


def test_a_configuration_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.from_config_dict(VALUES).model.dim = 3


def test_differences():
    assert config.differences(VALUES, changed()) == []
    # A tuple and the list that JSON makes of it are the same.
    assert config.differences(VALUES, json.loads(json.dumps(VALUES))) == []
    new = changed(model__dim=96, seed=1, model__heads=["masked_lm"], mesh__data=ABSENT)
    assert config.differences(VALUES, new) == [
        "mesh.data: -1 -> None",
        "model.dim: 48 -> 96",
        "model.heads: ('masked_lm', 'next_sentence') -> ['masked_lm']",
        "seed: 0 -> 1",
    ]

"""ModernBERT (Warner et al. 2024): rotary positions, mostly local attention, gated MLPs, no biases."""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert.bert import dense
from tx_jax.convert.family import ACTIVATIONS, Family, Field, value_of
from tx_jax.convert.rules import TRANSPOSE, Rule, split_rows
from tx_jax.errors import InputError

HF, OURS = "model.layers.{i}", "encoder/layer_{i}"
RULES = [
    Rule("model.embeddings.tok_embeddings.weight", "embeddings/token/embedding"),
    Rule("model.embeddings.norm.weight", "embeddings/norm/scale"),
    Rule(f"{HF}.attn_norm.weight", f"{OURS}/attention_norm/scale"),
    Rule(
        f"{HF}.attn.Wqkv.weight",
        tuple(f"{OURS}/attention/{name}/kernel" for name in ("query", "key", "value")),
        split_rows(3),
    ),
    Rule(f"{HF}.attn.Wo.weight", f"{OURS}/attention/out/kernel", TRANSPOSE),
    Rule(f"{HF}.mlp_norm.weight", f"{OURS}/mlp_norm/scale"),
    Rule(f"{HF}.mlp.Wi.weight", (f"{OURS}/mlp/wi/kernel", f"{OURS}/mlp/gate/kernel"), split_rows(2)),
    Rule(f"{HF}.mlp.Wo.weight", f"{OURS}/mlp/wo/kernel", TRANSPOSE),
    Rule("model.final_norm.weight", "encoder/final_norm/scale"),
    Rule("head.dense.weight", "masked_lm/transform/kernel", TRANSPOSE),
    Rule("head.norm.weight", "masked_lm/norm/scale"),
    Rule("decoder.weight", "masked_lm/output/embedding"),
    Rule("decoder.bias", "masked_lm/bias"),
    # In the classifiers this layer is the pooler. A classifier that starts from a masked LM takes it from there, as in
    # transformers.
    Rule("head.dense.weight", "pooler/kernel", TRANSPOSE),
    Rule("head.norm.weight", "pooler/norm/scale"),
    *dense("classifier", "sequence_classification"),
    *dense("classifier", "token_classification"),
    *dense("classifier", "question_answering"),
    *dense("classifier", "multiple_choice"),
]
ACTIVATION_NAMES = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
LOCAL, GLOBAL = "sliding_attention", "full_attention"


def rules(config: TransformerConfig) -> list[Rule]:
    return RULES


def layer_types(num_layers: int, every: int) -> list[str]:
    return [LOCAL if i % every else GLOBAL for i in range(num_layers)]


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    """Reads which layers attend locally, and their rotary angles; transformers before version 5 used other names."""
    every = value_of(config, "global_attn_every_n_layers", 3)
    if types := value_of(config, "layer_types", []):
        later = [i for i, kind in enumerate(types) if kind == GLOBAL and i > 0]
        every = later[0] if later else len(types)
        if types != layer_types(len(types), every):
            raise InputError(f"config.json: layer_types={types} is not supported: every nth layer, the first included")
    ropes = value_of(config, "rope_parameters", {})
    thetas = {
        "rotary_theta": (GLOBAL, "global_rope_theta", 160_000.0),
        "local_rotary_theta": (LOCAL, "local_rope_theta", 10_000.0),
    }
    values: dict[str, Any] = {"global_every": every}
    values["pooler"] = Field("pooler", "classifier_activation", "gelu", ACTIVATIONS).read(config)
    for name, (kind, older, default) in thetas.items():
        rope = value_of(ropes, kind, {})
        if value_of(rope, "rope_type", "default") != "default":
            raise InputError(f"config.json: rope_parameters={ropes} is not supported: only rope_type 'default'")
        values[name] = value_of(rope, "rope_theta", value_of(config, older, default))
    dropout = value_of(config, "classifier_dropout", 0.0)
    values["classifier_dropout"] = -1.0 if dropout == value_of(config, "mlp_dropout", 0.0) else dropout
    return values


def write_more(config: TransformerConfig) -> dict[str, Any]:
    """Writes the format of transformers version 5."""
    transforms = config.needs_pooler or config.classifier_transform
    return {
        "layer_types": layer_types(config.num_layers, config.global_every),
        "rope_parameters": {
            GLOBAL: {"rope_type": "default", "rope_theta": config.rotary_theta},
            LOCAL: {"rope_type": "default", "rope_theta": config.local_rotary_theta},
        },
        "embedding_dropout": config.dropout,
        "classifier_dropout": config.dropout_of_classifiers,
        "classifier_activation": ACTIVATION_NAMES.get(config.pooler if transforms else config.activation),
    }


FAMILY = Family(
    model_types={"modernbert": "ModernBert"},
    classes={
        ("masked_lm",): "ForMaskedLM",
        ("sequence_classification",): "ForSequenceClassification",
        ("token_classification",): "ForTokenClassification",
        ("question_answering",): "ForQuestionAnswering",
        ("multiple_choice",): "ForMultipleChoice",
        (): "Model",
    },
    prefix="model.",
    fields=(
        Field("vocab_size", "vocab_size", 50368),
        Field("dim", "hidden_size", 768),
        Field("num_layers", "num_hidden_layers", 22),
        Field("num_heads", "num_attention_heads", 12),
        Field("mlp_dim", "intermediate_size", 1152),
        Field("max_length", "max_position_embeddings", 8192),
        Field("activation", "hidden_activation", "gelu", ACTIVATIONS),
        Field("layer_norm_eps", "norm_eps", 1e-5),
        Field("dropout", "mlp_dropout", 0.0),
        Field("attention_dropout", "attention_dropout", 0.0),
        Field("init_stddev", "initializer_range", 0.02),
        Field("local_window", "local_attention", 128),
        Field("classifier_pooling", "classifier_pooling", "cls", {"cls": "first", "mean": "mean"}),
        Field("tie_embeddings", "tie_word_embeddings", True),
    ),
    constants={
        "architecture": "encoder",
        "norm_position": "pre",
        "num_segments": 0,
        "position_embedding": "rotary",
        "use_bias": False,
        "gated_mlp": True,
        "classifier_transform": True,
    },
    required={
        "norm_bias": False,
        "attention_bias": False,
        "mlp_bias": False,
        "classifier_bias": False,
        "decoder_bias": True,
    },
    rules=rules,
    read_more=read_more,
    write_more=write_more,
    tied={"decoder.weight": "model.embeddings.tok_embeddings.weight"},
)

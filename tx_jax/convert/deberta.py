"""DeBERTa (He et al. 2020), DeBERTa-v2 and -v3 (He et al. 2021): disentangled attention.

transformers does not run the enhanced mask decoder, so converted models do not either, in both directions. A
checkpoint's tensors for it, and for v3's replaced-token discriminator, are dropped.
"""

import functools
from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert import bert
from tx_jax.convert.bert import dense, norm
from tx_jax.convert.family import Family, Field, value_of
from tx_jax.convert.rules import CONV1D, TRANSPOSE, Rule, split_heads_interleaved
from tx_jax.errors import InputError

HF, OURS = "deberta.encoder.layer.{i}", "encoder/layer_{i}"
SELF, ATTENTION = f"{HF}.attention.self", f"{OURS}/attention"


def shared() -> list[Rule]:
    """The rows whose names are the same in both versions."""
    body = [rule for rule in bert.body("deberta.") if ".attention.self." not in rule.hf_names[0]]
    heads = [rule for rule in bert.RULES if not rule.hf_names[0].startswith("bert.")]
    return [
        *body,
        Rule("deberta.encoder.rel_embeddings.weight", "encoder/relative/embedding"),
        *dense("pooler.dense", "pooler"),
        *(rule for rule in heads if rule.paths[0].partition("/")[0] != "next_sentence"),
    ]


def rules_v1(config: TransformerConfig) -> list[Rule]:
    return [
        *shared(),
        Rule(
            f"{SELF}.in_proj.weight",
            tuple(f"{ATTENTION}/{name}/kernel" for name in ("query", "key", "value")),
            split_heads_interleaved(config.num_heads, 3),
        ),
        Rule(f"{SELF}.q_bias", f"{ATTENTION}/query/bias"),
        Rule(f"{SELF}.v_bias", f"{ATTENTION}/value/bias"),
        Rule(f"{SELF}.pos_proj.weight", f"{ATTENTION}/relative_key/kernel", TRANSPOSE),
        *dense(f"{SELF}.pos_q_proj", f"{ATTENTION}/relative_query"),
    ]


def rules_v2(config: TransformerConfig) -> list[Rule]:
    return [
        *shared(),
        *dense(f"{SELF}.query_proj", f"{ATTENTION}/query"),
        *dense(f"{SELF}.key_proj", f"{ATTENTION}/key"),
        *dense(f"{SELF}.value_proj", f"{ATTENTION}/value"),
        *dense(f"{SELF}.pos_key_proj", f"{ATTENTION}/relative_key"),
        *dense(f"{SELF}.pos_query_proj", f"{ATTENTION}/relative_query"),
        *norm("deberta.encoder.LayerNorm", "encoder/relative/norm"),
        Rule("deberta.encoder.conv.conv.weight", "encoder/convolution/kernel", CONV1D),
        Rule("deberta.encoder.conv.conv.bias", "encoder/convolution/bias"),
        *norm("deberta.encoder.conv.LayerNorm", "encoder/convolution/norm"),
    ]


def read_more(config: Mapping[str, Any], heads: tuple[str, ...], *, v2: bool) -> dict[str, Any]:
    """Reads the relative attention settings, and whether positions are also added to the input."""
    terms = config.get("pos_att_type") or []
    terms = value_of({"pos_att_type": terms.split("|") if isinstance(terms, str) else terms}, "pos_att_type", [])
    terms = tuple(term for term in ("c2p", "p2c") if term in {str(t).strip() for t in terms})
    if bool(terms) != config.get("relative_attention", False):
        raise InputError(
            f"config.json: pos_att_type={config.get('pos_att_type')!r} with "
            f"relative_attention={config.get('relative_attention', False)!r} is not supported: both or neither"
        )
    dim = config.get("hidden_size", 1536 if v2 else 768)
    for key in ("embedding_size", "pooler_hidden_size"):
        if config.get(key, dim) != dim:
            raise InputError(f"config.json: {key}={config[key]!r} is not supported: only that of hidden_size, {dim}")
    length = value_of(config, "max_position_embeddings", 512)
    distance = value_of(config, "max_relative_positions", -1)
    values = {
        "relative_attention": terms,
        "relative_distance": 0 if not terms else distance if distance >= 1 else length,
        "position_embedding": "learned" if value_of(config, "position_biased_input", True) else "none",
    }
    if v2 and terms:
        values["relative_buckets"] = max(value_of(config, "position_buckets", -1), 0)
        values["share_relative_projections"] = value_of(config, "share_att_key", False)
        kinds = {kind.strip() for kind in value_of(config, "norm_rel_ebd", "none").lower().split("|")}
        values["relative_norm"] = "layer_norm" in kinds
    return values


def write_more(config: TransformerConfig, *, v2: bool) -> dict[str, Any]:
    values = {
        "relative_attention": bool(config.relative_attention),
        "pos_att_type": list(config.relative_attention),
        "max_relative_positions": config.relative_distance or -1,
        "position_biased_input": config.position_embedding == "learned",
        "pooler_hidden_size": config.dim,
        "legacy": True,  # determines the names of the masked LM's tensors
    }
    if v2:
        values |= {
            "position_buckets": config.relative_buckets or -1,
            "share_att_key": config.share_relative_projections,
            "norm_rel_ebd": "layer_norm" if config.relative_norm else "none",
        }
    return values


def ignored_more(config: TransformerConfig) -> tuple[str, ...]:
    """The mask decoder's position table; it is a parameter in a model that adds positions to its input."""
    return () if config.position_embedding == "learned" else (r"^(deberta\.)?embeddings\.position_embeddings\.weight$",)


def fields(**defaults: Any) -> tuple[Field, ...]:
    changed = {name: Field(name, hf, default) for name, (hf, default) in defaults.items()}
    pooler = Field("pooler", "pooler_hidden_act", "gelu", {"gelu": "gelu", "tanh": "tanh", "relu": "relu"})
    return (*(changed.get(field.ours, field) for field in bert.FIELDS), pooler)


CLASSES = {
    ("masked_lm",): "ForMaskedLM",
    ("sequence_classification",): "ForSequenceClassification",
    ("token_classification",): "ForTokenClassification",
    ("question_answering",): "ForQuestionAnswering",
    (): "Model",
}
COMMON = {
    "prefix": "deberta.",
    "renames": (
        *bert.RENAMES,
        (r"^lm_predictions\.lm_head\.(dense|LayerNorm)\.", r"cls.predictions.transform.\1."),
        (r"^lm_predictions\.lm_head\.bias$", "cls.predictions.bias"),
    ),
    "ignored": (
        *bert.FAMILY.ignored,
        r"^mask_predictions\.",
        # v3 was trained with the sum of its generator's table and this one; transformers uses `weight` unchanged.
        r"^(deberta\.)?embeddings\.word_embeddings\._weight$",
    ),
    "ignored_more": ignored_more,
    "tied": {
        "cls.predictions.decoder.weight": "deberta.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
}

V1 = Family(
    model_types={"deberta": "Deberta"},
    classes=CLASSES,
    fields=fields(
        vocab_size=("vocab_size", 50265), num_segments=("type_vocab_size", 0), layer_norm_eps=("layer_norm_eps", 1e-7)
    ),
    constants={**bert.FAMILY.constants, "key_bias": False},
    required={"talking_head": False},
    rules=rules_v1,
    read_more=functools.partial(read_more, v2=False),
    write_more=functools.partial(write_more, v2=False),
    **COMMON,
)

V2 = Family(
    model_types={"deberta-v2": "DebertaV2"},
    classes={**CLASSES, ("multiple_choice",): "ForMultipleChoice"},
    fields=(
        *fields(
            vocab_size=("vocab_size", 128100),
            dim=("hidden_size", 1536),
            num_layers=("num_hidden_layers", 24),
            num_heads=("num_attention_heads", 24),
            mlp_dim=("intermediate_size", 6144),
            num_segments=("type_vocab_size", 0),
            layer_norm_eps=("layer_norm_eps", 1e-7),
        ),
        Field("conv_kernel", "conv_kernel_size", 0),
        Field("conv_activation", "conv_act", "tanh", {"tanh": "tanh", "gelu": "gelu"}),
    ),
    constants=bert.FAMILY.constants,
    required={"conv_groups": 1},
    rules=rules_v2,
    read_more=functools.partial(read_more, v2=True),
    write_more=functools.partial(write_more, v2=True),
    **COMMON,
)

"""GPT-2 (Radford et al. 2019). transformers also uses its format for models of GPT-3's sizes."""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert.bert import dense, norm
from tx_jax.convert.family import ACTIVATIONS, Family, Field
from tx_jax.convert.rules import TRANSPOSE, Rule, split_columns
from tx_jax.errors import InputError

HF, OURS = "transformer.h.{i}", "decoder/layer_{i}"


def conv1d(hf: str, ours: str) -> list[Rule]:
    """The two table rows for a layer whose weight is [in, out], like ours."""
    return [Rule(f"{hf}.weight", f"{ours}/kernel"), Rule(f"{hf}.bias", f"{ours}/bias")]


def fused(kind: str) -> tuple[str, ...]:
    return tuple(f"{OURS}/attention/{name}/{kind}" for name in ("query", "key", "value"))


RULES = [
    Rule("transformer.wte.weight", "embeddings/token/embedding"),
    Rule("transformer.wpe.weight", "embeddings/position/embedding"),
    *norm(f"{HF}.ln_1", f"{OURS}/attention_norm"),
    Rule(f"{HF}.attn.c_attn.weight", fused("kernel"), split_columns(3)),
    Rule(f"{HF}.attn.c_attn.bias", fused("bias"), split_columns(3)),
    *conv1d(f"{HF}.attn.c_proj", f"{OURS}/attention/out"),
    *norm(f"{HF}.ln_2", f"{OURS}/mlp_norm"),
    *conv1d(f"{HF}.mlp.c_fc", f"{OURS}/mlp/wi"),
    *conv1d(f"{HF}.mlp.c_proj", f"{OURS}/mlp/wo"),
    *norm("transformer.ln_f", "decoder/final_norm"),
    Rule("lm_head.weight", "causal_lm/output/embedding"),
    Rule("score.weight", "sequence_classification/kernel", TRANSPOSE),
    *dense("classifier", "token_classification"),
]


def rules(config: TransformerConfig) -> list[Rule]:
    return RULES


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    """If the MLP width is not given, it is four times the model width."""
    inner, dim = config.get("n_inner"), config.get("n_embd", 768)
    if inner is not None and type(inner) is not int:
        raise InputError(f"config.json: n_inner={inner!r} must be of type int, or null")
    return {"mlp_dim": 4 * dim if inner is None else inner}


def write_more(config: TransformerConfig) -> dict[str, Any]:
    return {"n_inner": None if config.mlp_dim == 4 * config.dim else config.mlp_dim, "embd_pdrop": config.dropout}


FAMILY = Family(
    model_types={"gpt2": "GPT2"},
    classes={
        ("causal_lm",): "LMHeadModel",
        ("sequence_classification",): "ForSequenceClassification",
        ("token_classification",): "ForTokenClassification",
        (): "Model",
    },
    prefix="transformer.",
    fields=(
        Field("vocab_size", "vocab_size", 50257),
        Field("dim", "n_embd", 768),
        Field("num_layers", "n_layer", 12),
        Field("num_heads", "n_head", 12),
        Field("max_length", "n_positions", 1024),
        Field("activation", "activation_function", "gelu_new", ACTIVATIONS),
        Field("layer_norm_eps", "layer_norm_epsilon", 1e-5),
        Field("dropout", "resid_pdrop", 0.1),
        Field("attention_dropout", "attn_pdrop", 0.1),
        Field("init_stddev", "initializer_range", 0.02),
        Field("tie_embeddings", "tie_word_embeddings", True),
    ),
    constants={
        "architecture": "decoder",
        "norm_position": "pre",
        "num_segments": 0,
        "embedding_norm": False,
        "scale_residual_init": True,
    },
    required={
        "scale_attn_weights": True,
        "scale_attn_by_inverse_layer_idx": False,
        "add_cross_attention": False,
    },
    rules=rules,
    read_more=read_more,
    write_more=write_more,
    # The causal mask, which earlier versions stored as a tensor.
    ignored=(r"(^|\.)h\.\d+\.attn\.(bias|masked_bias)$",),
    tied={"lm_head.weight": "transformer.wte.weight"},
)

"""BART (Lewis et al. 2020) and mBART (Liu et al. 2020; Tang et al. 2020).

Position tables begin with two rows that nothing reads, and each side has its own, with a norm of embeddings. BART's
layers are post-LN; mBART's are pre-LN. Dropout on activations and dropped layers concern training alone and are not
read.
"""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert.bert import dense, norm
from tx_jax.convert.family import ACTIVATIONS, Family, Field, value_of
from tx_jax.convert.rules import ROW, Rule
from tx_jax.errors import InputError

OFFSET = 2  # of the first position's row
BIAS = "final_logits_bias"
SHARED = "model.shared.weight"


def attention(hf: str, ours: str) -> list[Rule]:
    names = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "out"}
    return [rule for theirs, name in names.items() for rule in dense(f"{hf}.{theirs}", f"{ours}/{name}")]


def layers(side: str) -> list[Rule]:
    """The layers of the encoder or of the decoder. A table has more rows than a model uses: see `covering`."""
    hf, ours = f"model.{side}.layers.{{i}}", f"{side}/layer_{{i}}"
    return [
        *attention(f"{hf}.self_attn", f"{ours}/attention"),
        *norm(f"{hf}.self_attn_layer_norm", f"{ours}/attention_norm"),
        *attention(f"{hf}.encoder_attn", f"{ours}/cross_attention"),
        *norm(f"{hf}.encoder_attn_layer_norm", f"{ours}/cross_attention_norm"),
        *dense(f"{hf}.fc1", f"{ours}/mlp/wi"),
        *dense(f"{hf}.fc2", f"{ours}/mlp/wo"),
        *norm(f"{hf}.final_layer_norm", f"{ours}/mlp_norm"),
    ]


RULES = [
    Rule(SHARED, "embeddings/token/embedding"),
    Rule("model.encoder.embed_positions.weight", "embeddings/position/embedding"),
    Rule("model.decoder.embed_positions.weight", "decoder_embeddings/position/embedding"),
    *norm("model.encoder.layernorm_embedding", "embeddings/norm"),
    *norm("model.decoder.layernorm_embedding", "decoder_embeddings/norm"),
    *layers("encoder"),
    *layers("decoder"),
    *norm("model.encoder.layer_norm", "encoder/final_norm"),
    *norm("model.decoder.layer_norm", "decoder/final_norm"),
    Rule(BIAS, "causal_lm/bias", ROW),
]


def rules(config: TransformerConfig) -> list[Rule]:
    return RULES


# Both sides have the same sizes here; the configuration has keys for each.
_TWICE = {
    "attention_heads": ("num_heads", 16),
    "ffn_dim": ("mlp_dim", 4096),
}


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    values = {}
    for name, (ours, default) in _TWICE.items():
        sizes = {side: value_of(config, f"{side}_{name}", default) for side in ("encoder", "decoder")}
        if len(set(sizes.values())) > 1:
            given = " and ".join(f"{side}_{name}={size}" for side, size in sizes.items())
            raise InputError(f"config.json: {given} is not supported: encoder and decoder must be of one size")
        values[ours] = sizes["encoder"]
    return values


def write_more(config: TransformerConfig) -> dict[str, Any]:
    sizes = {name: getattr(config, ours) for name, (ours, _) in _TWICE.items()}
    return {f"{side}_{name}": size for side in ("encoder", "decoder") for name, size in sizes.items()}


# Also "swish", the name that Marian's files have for it.
ALL_ACTIVATIONS = ACTIVATIONS | {"silu": "silu", "swish": "silu"}
FIELDS = (
    Field("vocab_size", "vocab_size", 50265),
    Field("dim", "d_model", 1024),
    Field("num_layers", "encoder_layers", 12),
    Field("num_decoder_layers", "decoder_layers", 12),
    Field("max_length", "max_position_embeddings", 1024),
    Field("activation", "activation_function", "gelu", ALL_ACTIVATIONS),
    Field("dropout", "dropout", 0.1),
    Field("attention_dropout", "attention_dropout", 0.0),
    Field("init_stddev", "init_std", 0.02),
    Field("embedding_scale", "scale_embedding", False),
)
# Norms have torch's eps, which config.json does not say.
CONSTANTS = {
    "architecture": "encoder_decoder",
    "num_segments": 0,
    "layer_norm_eps": 1e-5,
    "output_bias": True,
    "tie_embeddings": True,
}
_COPIES = ("lm_head.weight", "model.encoder.embed_tokens.weight", "model.decoder.embed_tokens.weight")
TIED = dict.fromkeys(_COPIES, SHARED)


def _family(model_type: str, stem: str, position: str) -> Family:
    pre = position == "pre"
    return Family(
        model_types={model_type: stem},
        classes={("causal_lm",): "ForConditionalGeneration", (): "Model"},
        prefix="model.",
        fields=FIELDS,
        constants=CONSTANTS
        | {
            "norm_position": position,
            "first_norm": pre,
            "decoder_embeddings": True,
            "position_offset": OFFSET,
        },
        # Absent from newer files, whose classes cannot be otherwise.
        required={
            "is_encoder_decoder": True,
            "tie_word_embeddings": True,
            "normalize_before": pre,
            "add_final_layer_norm": pre,
            "normalize_embedding": True,
            "static_position_embeddings": False,
        },
        rules=rules,
        read_more=read_more,
        write_more=write_more,
        ignored=(r"^(model\.)?(encoder|decoder)\.version$",),
        zeros=(BIAS,),
        tied=TIED,
    )


BART = _family("bart", "Bart", "post")
MBART = _family("mbart", "MBart", "pre")

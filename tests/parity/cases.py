"""The models that are compared: one small configuration a family and head, every choice of the family in use.

NumPy and the configuration only, so that both sides can read it.
"""

import dataclasses

import numpy as np

from tx_jax.config import TransformerConfig

# A large eps shows where it is added.
BERT = TransformerConfig(
    architecture="encoder",
    vocab_size=97,
    dim=48,
    num_layers=3,
    num_heads=4,
    mlp_dim=112,
    max_length=20,
    num_segments=2,
    activation="gelu",
    norm_position="post",
    layer_norm_eps=1e-3,
    dropout=0.1,
    attention_dropout=0.1,
    init_stddev=0.02,
    heads=("masked_lm", "next_sentence"),
    dtype="float32",
    remat="none",
    num_labels=5,
)


def changed(config: TransformerConfig, *heads: str, **changes: object) -> TransformerConfig:
    return dataclasses.replace(config, heads=heads, **changes)


ROBERTA = changed(BERT, num_segments=1, position_offset=2)
DISTILBERT = changed(BERT, num_segments=0, pooler="relu", layer_norm_eps=1e-12)
ELECTRA = changed(BERT, pooler="gelu", embedding_dim=32)
DEBERTA = changed(
    BERT,
    num_segments=0,
    pooler="gelu",
    position_embedding="none",
    relative_attention=("c2p", "p2c"),
    relative_distance=12,
    key_bias=False,
)
DEBERTA_V2 = changed(
    DEBERTA,
    key_bias=True,
    relative_distance=16,
    relative_buckets=6,
    relative_norm=True,
    share_relative_projections=True,
    conv_kernel=3,
)
MODERNBERT = changed(
    BERT,
    num_layers=4,
    num_segments=0,
    norm_position="pre",
    position_embedding="rotary",
    rotary_theta=160_000.0,
    local_window=6,
    global_every=3,
    use_bias=False,
    gated_mlp=True,
    pooler="gelu",
    classifier_transform=True,
)
GPT2 = changed(
    BERT,
    architecture="decoder",
    num_segments=0,
    norm_position="pre",
    activation="gelu_tanh",
    embedding_norm=False,
    scale_residual_init=True,
    mlp_dim=192,
)

MARIAN = changed(
    BERT,
    "causal_lm",
    architecture="encoder_decoder",
    num_layers=2,
    num_decoder_layers=3,
    num_segments=0,
    activation="silu",
    layer_norm_eps=1e-5,
    embedding_norm=False,
    embedding_scale=True,
    position_embedding="sinusoidal_halves",
    output_bias=True,
)
BART = changed(
    MARIAN,
    "causal_lm",
    num_layers=3,
    num_decoder_layers=2,
    activation="gelu",
    embedding_norm=True,
    embedding_scale=False,
    position_embedding="learned",
    position_offset=2,
    decoder_embeddings=True,
)
MBART = changed(BART, "causal_lm", activation="relu", norm_position="pre", first_norm=True, embedding_scale=True)

# Name -> (model_type of transformers, configuration): those with an encoder and a decoder.
SEQ2SEQ: dict[str, tuple[str, TransformerConfig]] = {
    "Marian": ("marian", MARIAN),
    "BART": ("bart", BART),
    "mBART": ("mbart", MBART),
}
# The others.
CASES: dict[str, tuple[str, TransformerConfig]] = {
    "BERT pretraining": ("bert", BERT),
    "BERT masked LM, untied": ("bert", changed(BERT, "masked_lm", tie_embeddings=False, activation="gelu_tanh")),
    "BERT next sentence": ("bert", changed(BERT, "next_sentence")),
    "BERT pooled": ("bert", changed(BERT, "pooled")),
    "BERT sequences": ("bert", changed(BERT, "sequence_classification")),
    "BERT tokens": ("bert", changed(BERT, "token_classification")),
    "BERT questions": ("bert", changed(BERT, "question_answering", num_labels=2)),
    "BERT choices": ("bert", changed(BERT, "multiple_choice")),
    "RoBERTa masked LM": ("roberta", changed(ROBERTA, "masked_lm")),
    "RoBERTa pooled": ("roberta", changed(ROBERTA, "pooled")),
    "RoBERTa sequences": ("roberta", changed(ROBERTA, "sequence_classification")),
    "RoBERTa tokens": ("roberta", changed(ROBERTA, "token_classification")),
    "RoBERTa questions": ("roberta", changed(ROBERTA, "question_answering", num_labels=2)),
    "RoBERTa choices": ("roberta", changed(ROBERTA, "multiple_choice")),
    "XLM-R masked LM": ("xlm-roberta", changed(ROBERTA, "masked_lm")),
    "XLM-R sequences": ("xlm-roberta", changed(ROBERTA, "sequence_classification")),
    "CamemBERT masked LM": ("camembert", changed(ROBERTA, "masked_lm")),
    "CamemBERT tokens": ("camembert", changed(ROBERTA, "token_classification")),
    "DistilBERT masked LM": ("distilbert", changed(DISTILBERT, "masked_lm")),
    "DistilBERT base": ("distilbert", DISTILBERT),
    "DistilBERT sequences": ("distilbert", changed(DISTILBERT, "sequence_classification")),
    "DistilBERT tokens": ("distilbert", changed(DISTILBERT, "token_classification")),
    "DistilBERT questions": ("distilbert", changed(DISTILBERT, "question_answering", num_labels=2)),
    "DistilBERT choices": ("distilbert", changed(DISTILBERT, "multiple_choice")),
    "ELECTRA discriminator": ("electra", changed(ELECTRA, "replaced_token")),
    "ELECTRA discriminator, one width": ("electra", changed(ELECTRA, "replaced_token", embedding_dim=0)),
    "ELECTRA generator": ("electra", changed(ELECTRA, "masked_lm")),
    "ELECTRA sequences": ("electra", changed(ELECTRA, "sequence_classification")),
    "ELECTRA tokens": ("electra", changed(ELECTRA, "token_classification")),
    "ELECTRA questions": ("electra", changed(ELECTRA, "question_answering", num_labels=2)),
    "ELECTRA choices": ("electra", changed(ELECTRA, "multiple_choice")),
    "DeBERTa masked LM": ("deberta", changed(DEBERTA, "masked_lm")),
    "DeBERTa c2p, positions, segments": (
        "deberta",
        changed(DEBERTA, "masked_lm", relative_attention=("c2p",), position_embedding="learned", num_segments=2),
    ),
    "DeBERTa sequences": ("deberta", changed(DEBERTA, "sequence_classification")),
    "DeBERTa tokens": ("deberta", changed(DEBERTA, "token_classification")),
    "DeBERTa questions": ("deberta", changed(DEBERTA, "question_answering", num_labels=2)),
    "DeBERTa-v2 masked LM": (
        "deberta-v2",
        changed(DEBERTA_V2, "masked_lm", share_relative_projections=False, conv_activation="gelu"),
    ),
    "DeBERTa-v3 masked LM": ("deberta-v2", changed(DEBERTA_V2, "masked_lm", conv_kernel=0)),
    "DeBERTa-v3 sequences": ("deberta-v2", changed(DEBERTA_V2, "sequence_classification", conv_kernel=0)),
    "DeBERTa-v2 tokens": ("deberta-v2", changed(DEBERTA_V2, "token_classification")),
    "DeBERTa-v2 questions": ("deberta-v2", changed(DEBERTA_V2, "question_answering", num_labels=2)),
    "DeBERTa-v2 choices": ("deberta-v2", changed(DEBERTA_V2, "multiple_choice")),
    "DeBERTa-v2 without buckets": (
        "deberta-v2",
        changed(DEBERTA_V2, "masked_lm", relative_buckets=0, relative_norm=False),
    ),
    "ModernBERT masked LM": ("modernbert", changed(MODERNBERT, "masked_lm")),
    "ModernBERT masked LM, head of its own": ("modernbert", changed(MODERNBERT, "masked_lm", pooler="relu")),
    "ModernBERT base": ("modernbert", MODERNBERT),
    "ModernBERT sequences": ("modernbert", changed(MODERNBERT, "sequence_classification")),
    "ModernBERT sequences, mean": (
        "modernbert",
        changed(MODERNBERT, "sequence_classification", classifier_pooling="mean", pooler="relu"),
    ),
    "ModernBERT tokens": ("modernbert", changed(MODERNBERT, "token_classification", pooler="gelu_tanh")),
    "ModernBERT questions": ("modernbert", changed(MODERNBERT, "question_answering", num_labels=2)),
    "ModernBERT choices": ("modernbert", changed(MODERNBERT, "multiple_choice", classifier_pooling="mean")),
    "GPT-2 causal LM": ("gpt2", changed(GPT2, "causal_lm")),
    "GPT-2 base": ("gpt2", GPT2),
    "GPT-2 sequences": ("gpt2", changed(GPT2, "sequence_classification")),
    "GPT-2 tokens": ("gpt2", changed(GPT2, "token_classification")),
}

BASE = {"dim": 768, "num_layers": 12, "num_heads": 12, "mlp_dim": 3072}
# The same at published sizes and full lengths.
LARGE: dict[str, tuple[str, TransformerConfig]] = {
    "BERT base": ("bert", changed(BERT, *BERT.heads, **BASE, vocab_size=30522, max_length=512, layer_norm_eps=1e-12)),
    "RoBERTa base": (
        "roberta",
        changed(ROBERTA, "masked_lm", **BASE, vocab_size=50265, max_length=512, layer_norm_eps=1e-5),
    ),
    "DistilBERT": (
        "distilbert",
        changed(DISTILBERT, "masked_lm", **BASE | {"num_layers": 6}, vocab_size=30522, max_length=512),
    ),
    "ELECTRA base": (
        "electra",
        changed(
            ELECTRA,
            "replaced_token",
            **BASE,
            vocab_size=30522,
            max_length=512,
            embedding_dim=0,
            layer_norm_eps=1e-12,
        ),
    ),
    "DeBERTa-v3 base": (
        "deberta-v2",
        changed(
            DEBERTA_V2,
            "masked_lm",
            **BASE,
            vocab_size=128100,
            max_length=512,
            relative_distance=512,
            relative_buckets=256,
            conv_kernel=0,
            layer_norm_eps=1e-7,
        ),
    ),
    "ModernBERT base, length 1024": (
        "modernbert",
        changed(
            MODERNBERT,
            "masked_lm",
            **BASE | {"num_layers": 22, "mlp_dim": 1152},
            vocab_size=50368,
            max_length=1024,
            local_window=128,
            layer_norm_eps=1e-5,
        ),
    ),
    "GPT-2 small": (
        "gpt2",
        changed(GPT2, "causal_lm", **BASE, vocab_size=50257, max_length=1024, layer_norm_eps=1e-5),
    ),
}


def draw_params(shapes: dict[str, tuple[int, ...]], seed: int) -> dict[str, np.ndarray]:
    """float32 parameters by path, none of them trivial, drawn in sorted order.

    Queries and keys are large, so that attention is uneven; values are not, or after some layers all positions would
    be alike and the gradients of queries and keys lost in rounding.
    """
    rng = np.random.default_rng(seed)
    params = {}
    for path in sorted(shapes):
        shape, kind = shapes[path], path.rpartition("/")[2]
        value = rng.standard_normal(shape)
        if kind == "kernel":
            fan_in = np.prod(shape[:-1])
            value *= (1.5 if "query" in path or "key" in path else 0.8) * fan_in**-0.5
        elif kind == "embedding":
            value *= 0.3 if "relative" not in path else 1.0
        elif kind == "scale":
            value = 1 + 0.2 * value
        else:
            value *= 0.2
        params[path] = value.astype(np.float32)
    return params


def draw_batch(config: TransformerConfig, seed: int, rows: int = 4) -> dict[str, np.ndarray]:
    """tokens, segments, valid [B, T] of the maximum length. Row 0 is full; the others are padded on the right.

    Padding is token 1, which no row has elsewhere: RoBERTa's padding token tells its positions.
    """
    rng = np.random.default_rng(seed)
    length = config.max_length
    lengths = np.concatenate([[length], rng.integers(length // 2, length, size=rows - 1)])
    column = np.arange(length)[None]
    valid = column < lengths[:, None]
    tokens = np.where(valid, rng.integers(2, config.vocab_size, size=(rows, length)), 1)
    splits = rng.integers(2, length // 2 - 1, size=(rows, 1))
    segments = ((column >= splits) & valid & (config.num_segments > 1)).astype(np.int32)
    return {"tokens": tokens.astype(np.int32), "segments": segments, "valid": valid}

"""BERT (Devlin et al. 2018) and the many models with its architecture: BETO, multilingual BERT, MiniLM."""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert.family import ACTIVATIONS, Family, Field
from tx_jax.convert.rules import TRANSPOSE, Rule
from tx_jax.errors import InputError


def dense(hf: str, ours: str) -> list[Rule]:
    """The two table rows for a Linear layer."""
    return [Rule(f"{hf}.weight", f"{ours}/kernel", TRANSPOSE), Rule(f"{hf}.bias", f"{ours}/bias")]


def norm(hf: str, ours: str) -> list[Rule]:
    """The two table rows for a LayerNorm."""
    return [Rule(f"{hf}.weight", f"{ours}/scale"), Rule(f"{hf}.bias", f"{ours}/bias")]


def body(prefix: str) -> list[Rule]:
    """Embeddings and layers, with the names used by BERT and the models derived from its code."""
    hf, ours = f"{prefix}encoder.layer.{{i}}", "encoder/layer_{i}"
    return [
        Rule(f"{prefix}embeddings.word_embeddings.weight", "embeddings/token/embedding"),
        Rule(f"{prefix}embeddings.position_embeddings.weight", "embeddings/position/embedding"),
        Rule(f"{prefix}embeddings.token_type_embeddings.weight", "embeddings/segment/embedding"),
        *norm(f"{prefix}embeddings.LayerNorm", "embeddings/norm"),
        *dense(f"{hf}.attention.self.query", f"{ours}/attention/query"),
        *dense(f"{hf}.attention.self.key", f"{ours}/attention/key"),
        *dense(f"{hf}.attention.self.value", f"{ours}/attention/value"),
        *dense(f"{hf}.attention.output.dense", f"{ours}/attention/out"),
        *norm(f"{hf}.attention.output.LayerNorm", f"{ours}/attention_norm"),
        *dense(f"{hf}.intermediate.dense", f"{ours}/mlp/wi"),
        *dense(f"{hf}.output.dense", f"{ours}/mlp/wo"),
        *norm(f"{hf}.output.LayerNorm", f"{ours}/mlp_norm"),
    ]


RULES = [
    *body("bert."),
    *dense("bert.pooler.dense", "pooler"),
    *dense("cls.predictions.transform.dense", "masked_lm/transform"),
    *norm("cls.predictions.transform.LayerNorm", "masked_lm/norm"),
    Rule("cls.predictions.bias", "masked_lm/bias"),
    Rule("cls.predictions.decoder.weight", "masked_lm/output/embedding"),  # if it is not tied
    *dense("cls.seq_relationship", "next_sentence"),
    *dense("classifier", "sequence_classification"),
    *dense("classifier", "token_classification"),
    *dense("qa_outputs", "question_answering"),
    *dense("classifier", "multiple_choice"),
]


def rules(config: TransformerConfig) -> list[Rule]:
    return RULES


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    """Requires segments: a model without them would belong to another family."""
    if config.get("type_vocab_size", 2) == 0:
        raise InputError("config.json: type_vocab_size=0 is not supported: at least 1")
    return {}


FIELDS = (
    Field("vocab_size", "vocab_size", 30522),
    Field("dim", "hidden_size", 768),
    Field("num_layers", "num_hidden_layers", 12),
    Field("num_heads", "num_attention_heads", 12),
    Field("mlp_dim", "intermediate_size", 3072),
    Field("max_length", "max_position_embeddings", 512),
    Field("num_segments", "type_vocab_size", 2),
    Field("activation", "hidden_act", "gelu", ACTIVATIONS),
    Field("layer_norm_eps", "layer_norm_eps", 1e-12),
    Field("dropout", "hidden_dropout_prob", 0.1),
    Field("attention_dropout", "attention_probs_dropout_prob", 0.1),
    Field("init_stddev", "initializer_range", 0.02),
    Field("tie_embeddings", "tie_word_embeddings", True),
)

# Until 2019, LayerNorm parameters had TensorFlow's names.
RENAMES = ((r"LayerNorm\.gamma$", "LayerNorm.weight"), (r"LayerNorm\.beta$", "LayerNorm.bias"))

FAMILY = Family(
    model_types={"bert": "Bert"},
    classes={
        ("masked_lm", "next_sentence"): "ForPreTraining",
        ("masked_lm",): "ForMaskedLM",
        ("next_sentence",): "ForNextSentencePrediction",
        ("sequence_classification",): "ForSequenceClassification",
        ("token_classification",): "ForTokenClassification",
        ("question_answering",): "ForQuestionAnswering",
        ("multiple_choice",): "ForMultipleChoice",
        ("pooled",): "Model",
        (): "Model",
    },
    prefix="bert.",
    fields=FIELDS,
    constants={"architecture": "encoder", "norm_position": "post"},
    required={"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False},
    rules=rules,
    read_more=read_more,
    renames=RENAMES,
    ignored=(r"embeddings\.(position_ids|token_type_ids)$",),
    tied={
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
)

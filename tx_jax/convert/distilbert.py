"""DistilBERT (Sanh et al. 2019): BERT without segments, and with a pooler only in its classifiers."""

from tx_jax.config import TransformerConfig
from tx_jax.convert import bert
from tx_jax.convert.bert import dense, norm
from tx_jax.convert.family import ACTIVATIONS, Family, Field
from tx_jax.convert.rules import Rule

LAYER = "distilbert.transformer.layer.{i}"
RULES = [
    Rule("distilbert.embeddings.word_embeddings.weight", "embeddings/token/embedding"),
    Rule("distilbert.embeddings.position_embeddings.weight", "embeddings/position/embedding"),
    *norm("distilbert.embeddings.LayerNorm", "embeddings/norm"),
    *dense(f"{LAYER}.attention.q_lin", "encoder/layer_{i}/attention/query"),
    *dense(f"{LAYER}.attention.k_lin", "encoder/layer_{i}/attention/key"),
    *dense(f"{LAYER}.attention.v_lin", "encoder/layer_{i}/attention/value"),
    *dense(f"{LAYER}.attention.out_lin", "encoder/layer_{i}/attention/out"),
    *norm(f"{LAYER}.sa_layer_norm", "encoder/layer_{i}/attention_norm"),
    *dense(f"{LAYER}.ffn.lin1", "encoder/layer_{i}/mlp/wi"),
    *dense(f"{LAYER}.ffn.lin2", "encoder/layer_{i}/mlp/wo"),
    *norm(f"{LAYER}.output_layer_norm", "encoder/layer_{i}/mlp_norm"),
    *dense("vocab_transform", "masked_lm/transform"),
    *norm("vocab_layer_norm", "masked_lm/norm"),
    Rule("vocab_projector.weight", "masked_lm/output/embedding"),
    Rule("vocab_projector.bias", "masked_lm/bias"),
    *dense("pre_classifier", "pooler"),
    *dense("classifier", "sequence_classification"),
    *dense("classifier", "token_classification"),
    *dense("qa_outputs", "question_answering"),
    *dense("classifier", "multiple_choice"),
]


def rules(config: TransformerConfig) -> list[Rule]:
    return RULES


FAMILY = Family(
    model_types={"distilbert": "DistilBert"},
    classes={
        ("masked_lm",): "ForMaskedLM",
        ("sequence_classification",): "ForSequenceClassification",
        ("token_classification",): "ForTokenClassification",
        ("question_answering",): "ForQuestionAnswering",
        ("multiple_choice",): "ForMultipleChoice",
        (): "Model",
    },
    prefix="distilbert.",
    fields=(
        Field("vocab_size", "vocab_size", 30522),
        Field("dim", "dim", 768),
        Field("num_layers", "n_layers", 6),
        Field("num_heads", "n_heads", 12),
        Field("mlp_dim", "hidden_dim", 3072),
        Field("max_length", "max_position_embeddings", 512),
        Field("activation", "activation", "gelu", ACTIVATIONS),
        Field("dropout", "dropout", 0.1),
        Field("attention_dropout", "attention_dropout", 0.1),
        Field("init_stddev", "initializer_range", 0.02),
        Field("tie_embeddings", "tie_word_embeddings", True),
    ),
    constants={**bert.FAMILY.constants, "num_segments": 0, "pooler": "relu", "layer_norm_eps": 1e-12},
    required={},
    rules=rules,
    renames=bert.RENAMES,
    ignored=bert.FAMILY.ignored,
    tied={"vocab_projector.weight": "distilbert.embeddings.word_embeddings.weight"},
)

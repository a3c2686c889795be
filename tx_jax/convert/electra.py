"""ELECTRA (Clark et al. 2020): a generator, which is a small masked LM, and a replaced-token discriminator."""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert import bert
from tx_jax.convert.bert import body, dense, norm
from tx_jax.convert.family import Family, Field
from tx_jax.convert.rules import Rule
from tx_jax.errors import InputError

HEADS = [
    *dense("electra.embeddings_project", "embeddings/project"),
    *dense("generator_predictions.dense", "masked_lm/transform"),
    *norm("generator_predictions.LayerNorm", "masked_lm/norm"),
    Rule("generator_lm_head.weight", "masked_lm/output/embedding"),
    Rule("generator_lm_head.bias", "masked_lm/bias"),
    *dense("discriminator_predictions.dense", "replaced_token/transform"),
    *dense("discriminator_predictions.dense_prediction", "replaced_token/out"),
    *dense("classifier.out_proj", "sequence_classification"),
    *dense("classifier", "token_classification"),
    *dense("qa_outputs", "question_answering"),
    *dense("classifier", "multiple_choice"),
]
# The pooling settings for multiple choice; ours are the ones that transformers writes.
SUMMARY = {"summary_type": "first", "summary_use_proj": True, "summary_activation": "gelu"}


def rules(config: TransformerConfig) -> list[Rule]:
    """The pooler belongs to the head."""
    pooler = "classifier.dense" if "sequence_classification" in config.heads else "sequence_summary.summary"
    return [*body("electra."), *dense(pooler, "pooler"), *HEADS]


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    for key, value in SUMMARY.items():
        if "multiple_choice" in heads and config.get(key, value) != value:
            raise InputError(f"config.json: {key}={config[key]!r} is not supported: only {value!r}")
    size, dim = config.get("embedding_size", 128), config.get("hidden_size", 256)
    if type(size) is not int or size < 1:
        raise InputError(f"config.json: embedding_size={size!r} must be a positive int")
    return {"embedding_dim": 0 if size == dim else size}


def write_more(config: TransformerConfig) -> dict[str, Any]:
    return {"embedding_size": config.table_dim, **(SUMMARY if "multiple_choice" in config.heads else {})}


CHANGED = {
    "dim": Field("dim", "hidden_size", 256),
    "num_heads": Field("num_heads", "num_attention_heads", 4),
    "mlp_dim": Field("mlp_dim", "intermediate_size", 1024),
    # Its heads use GELU regardless of the layers' activation.
    "activation": Field("activation", "hidden_act", "gelu", {"gelu": "gelu"}),
}

FAMILY = Family(
    model_types={"electra": "Electra"},
    classes={
        ("replaced_token",): "ForPreTraining",
        ("masked_lm",): "ForMaskedLM",
        ("sequence_classification",): "ForSequenceClassification",
        ("token_classification",): "ForTokenClassification",
        ("question_answering",): "ForQuestionAnswering",
        ("multiple_choice",): "ForMultipleChoice",
        (): "Model",
    },
    prefix="electra.",
    fields=tuple(CHANGED.get(field.ours, field) for field in bert.FIELDS),
    constants={**bert.FAMILY.constants, "pooler": "gelu"},
    required=bert.FAMILY.required,
    rules=rules,
    read_more=read_more,
    write_more=write_more,
    renames=bert.RENAMES,
    ignored=bert.FAMILY.ignored,
    tied={"generator_lm_head.weight": "electra.embeddings.word_embeddings.weight"},
)

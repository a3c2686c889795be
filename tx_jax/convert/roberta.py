"""RoBERTa (Liu et al. 2019) and models based on its code: XLM-RoBERTa (Conneau et al. 2020), CamemBERT, KantaiBERT.

Positions start at the padding token's id plus one, so a table of 514 rows holds 512 positions.
"""

from collections.abc import Mapping
from typing import Any

from tx_jax.config import TransformerConfig
from tx_jax.convert import bert
from tx_jax.convert.bert import body, dense, norm
from tx_jax.convert.family import Family, Field, value_of
from tx_jax.convert.rules import Rule
from tx_jax.errors import InputError

HEADS = [
    *dense("lm_head.dense", "masked_lm/transform"),
    *norm("lm_head.layer_norm", "masked_lm/norm"),
    Rule("lm_head.bias", "masked_lm/bias"),
    Rule("lm_head.decoder.weight", "masked_lm/output/embedding"),
    *dense("classifier.out_proj", "sequence_classification"),
    *dense("classifier", "token_classification"),
    *dense("qa_outputs", "question_answering"),
    *dense("classifier", "multiple_choice"),
]


def rules(config: TransformerConfig) -> list[Rule]:
    """The sequence classifier has its own pooler; the pooler for multiple choice is part of the body."""
    pooler = "classifier.dense" if "sequence_classification" in config.heads else "roberta.pooler.dense"
    return [*body("roberta."), *dense(pooler, "pooler"), *HEADS]


def read_more(config: Mapping[str, Any], heads: tuple[str, ...]) -> dict[str, Any]:
    padding, rows = config.get("pad_token_id", 1), config.get("max_position_embeddings", 512)
    if type(padding) is not int or type(rows) is not int or not 0 <= padding < rows - 1:
        raise InputError(
            f"config.json: pad_token_id={padding!r} and max_position_embeddings={rows!r} leave no positions: "
            "positions count from pad_token_id + 1"
        )
    # The default is the size of RoBERTa's vocabulary for RoBERTa itself, and of BERT's for the others.
    tokens = value_of(config, "vocab_size", 50265 if config.get("model_type", "roberta") == "roberta" else 30522)
    return {"position_offset": padding + 1, "max_length": rows - padding - 1, "vocab_size": tokens}


def write_more(config: TransformerConfig) -> dict[str, Any]:
    return {
        "pad_token_id": config.position_offset - 1,
        "max_position_embeddings": config.max_length + config.position_offset,
    }


CHANGED = {
    "vocab_size": Field("vocab_size", "vocab_size", 50265),
    "max_length": None,
}

FAMILY = Family(
    model_types={"roberta": "Roberta", "xlm-roberta": "XLMRoberta", "camembert": "Camembert"},
    classes={
        ("masked_lm",): "ForMaskedLM",
        ("sequence_classification",): "ForSequenceClassification",
        ("token_classification",): "ForTokenClassification",
        ("question_answering",): "ForQuestionAnswering",
        ("multiple_choice",): "ForMultipleChoice",
        ("pooled",): "Model",
        (): "Model",
    },
    prefix="roberta.",
    fields=tuple(field for field in (CHANGED.get(field.ours, field) for field in bert.FIELDS) if field),
    constants=bert.FAMILY.constants,
    required=bert.FAMILY.required,
    rules=rules,
    read_more=read_more,
    write_more=write_more,
    renames=bert.RENAMES,
    ignored=bert.FAMILY.ignored,
    tied={
        "lm_head.decoder.weight": "roberta.embeddings.word_embeddings.weight",
        "lm_head.decoder.bias": "lm_head.bias",
    },
)

"""The published models' configurations, each with the number of parameters that its checkpoint has.

Tied ones count once. The counts are those of transformers' classes named beside them.
"""

import dataclasses

import pytest

from tx_jax.config import TransformerConfig
from tx_jax.models import registry

BERT_BASE = TransformerConfig(
    architecture="encoder",
    vocab_size=30_522,
    dim=768,
    num_layers=12,
    num_heads=12,
    mlp_dim=3072,
    max_length=512,
    num_segments=2,
    activation="gelu",
    norm_position="post",
    layer_norm_eps=1e-12,
    dropout=0.1,
    attention_dropout=0.1,
    init_stddev=0.02,
    heads=("pooled",),
    dtype="float32",
    remat="none",
)
PRETRAINING = ("masked_lm", "next_sentence")


def changed(config: TransformerConfig, *heads: str, **changes: object) -> TransformerConfig:
    return dataclasses.replace(config, heads=heads, **changes)


BERT_LARGE = changed(BERT_BASE, "pooled", dim=1024, num_layers=24, num_heads=16, mlp_dim=4096)
ROBERTA_BASE = changed(BERT_BASE, "masked_lm", vocab_size=50_265, num_segments=1, position_offset=2)
DISTILBERT = changed(BERT_BASE, num_layers=6, num_segments=0)
GPT2 = changed(
    BERT_BASE,
    "causal_lm",
    architecture="decoder",
    vocab_size=50_257,
    max_length=1024,
    num_segments=0,
    activation="gelu_tanh",
    norm_position="pre",
    embedding_norm=False,
)
DEBERTA_V3_BASE = changed(
    BERT_BASE,
    vocab_size=128_100,
    num_segments=0,
    position_embedding="none",
    relative_attention=("c2p", "p2c"),
    relative_distance=512,
    relative_buckets=256,
    relative_norm=True,
    share_relative_projections=True,
)
MODERNBERT_BASE = changed(
    BERT_BASE,
    vocab_size=50_368,
    num_layers=22,
    mlp_dim=1152,
    num_segments=0,
    norm_position="pre",
    position_embedding="rotary",
    use_bias=False,
    gated_mlp=True,
)

COUNTS = {
    "BERT base: BertModel": (BERT_BASE, 109_482_240),
    "BERT base: BertForPreTraining": (changed(BERT_BASE, *PRETRAINING), 110_106_428),
    "BERT large: BertModel": (BERT_LARGE, 335_141_888),
    "BERT large: BertForPreTraining": (changed(BERT_LARGE, *PRETRAINING), 336_226_108),
    "RoBERTa base: RobertaForMaskedLM": (ROBERTA_BASE, 124_697_433),
    "KantaiBERT: RobertaForMaskedLM": (changed(ROBERTA_BASE, "masked_lm", vocab_size=52_000, num_layers=6), 83_504_416),
    "DistilBERT: DistilBertModel": (DISTILBERT, 66_362_880),
    "DistilBERT: DistilBertForMaskedLM": (changed(DISTILBERT, "masked_lm"), 66_985_530),
    "ELECTRA small: ElectraForPreTraining": (
        changed(BERT_BASE, "replaced_token", embedding_dim=128, dim=256, num_heads=4, mlp_dim=1024),
        13_549_057,
    ),
    "ELECTRA base: ElectraForPreTraining": (changed(BERT_BASE, "replaced_token"), 109_483_009),
    "DeBERTa-v3 base: DebertaV2Model": (DEBERTA_V3_BASE, 183_831_552),
    "ModernBERT base: ModernBertModel": (MODERNBERT_BASE, 149_014_272),
    "ModernBERT base: ModernBertForMaskedLM": (changed(MODERNBERT_BASE, "masked_lm"), 149_655_232),
    "GPT-2": (GPT2, 124_439_808),
    "GPT-2 medium": (changed(GPT2, "causal_lm", dim=1024, num_layers=24, num_heads=16, mlp_dim=4096), 354_823_168),
    "GPT-2 large": (changed(GPT2, "causal_lm", dim=1280, num_layers=36, num_heads=20, mlp_dim=5120), 774_030_080),
    "GPT-2 XL": (changed(GPT2, "causal_lm", dim=1600, num_layers=48, num_heads=25, mlp_dim=6400), 1_557_611_200),
}


@pytest.mark.parametrize("name", COUNTS)
def test_parameters(name):
    config, expected = COUNTS[name]
    assert registry.num_params(config) == expected

"""The Transformer, big size (Vaswani et al. 2017): 6 + 6 layers, 1024 wide, 213M parameters, on WMT14 English-German.

    python -m experiments.train --config=configs/transformer_big.py --workdir=runs/transformer_big

Data, decoding and `:smoke` are those of `transformer_base.py`; the paper averages the last 20 checkpoints. English to
French has a dropout of 0.1: --config.model.dropout=0.1.

Hardware: 8 P100 GPUs, 3.5 days (paper, 5.2).
Published: BLEU 28.4 on newstest2014, tokenized (paper, table 2). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, transformer_base


def get_config(variant: str = "") -> ConfigDict:
    c = transformer_base.get_config()
    c.model.dim = 1024
    c.model.num_heads = 16
    c.model.mlp_dim = 4096
    c.model.dropout = 0.3
    c.model.init_stddev = 1024**-0.5
    c.optimizer.learning_rate = 5e-4  # (dim * warmup)^-0.5
    c.training.num_steps = 300_000
    c.training.keep_last = 20
    return bert_base.with_variant(c, variant, smoke=transformer_base.smoke)


def get_expected(variant: str = "") -> list[dict]:
    """On newstest2014, tokenized, which is not quite how sacrebleu counts."""
    source = {"source": "Vaswani et al. 2017, table 2 (tokenized BLEU)", "hardware": "8 P100 GPUs"}
    return [] if variant else [{"split": "test", "metric": "bleu", "value": 28.4, **source}]

"""BERT large (Devlin et al. 2018): 24 layers, 1024 wide, 340M parameters.

    python -m experiments.train --config=configs/bert_large.py --config.data.store=data/bert --workdir=runs/bert_large

Everything else is as in `bert_base.py`, `:smoke` included.
Hardware: 16 Cloud TPUs (64 chips), 4 days (paper, A.2).
Published: GLUE test average 82.1 (paper); masked accuracy at least .720 (MLPerf's target). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.model.dim = 1024
    c.model.num_layers = 24
    c.model.num_heads = 16
    c.model.mlp_dim = 4096
    return bert_base.with_variant(c, variant, smoke=bert_base.smoke)


def get_expected(variant: str = "") -> list[dict]:
    source = {"source": "the target of MLPerf's reference", "hardware": "not told"}
    return [] if variant else [{"split": "validation", "metric": "masked_lm_accuracy", "low": 0.72, **source}]

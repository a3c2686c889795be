"""RoBERTa large (Liu et al. 2019): 24 layers, 1024 wide.

    python -m experiments.train --config=configs/roberta_large.py --config.data.store=data/roberta --workdir=runs/large

`:smoke` is a small version for a CPU.

Published, development sets: MNLI 90.2, QNLI 94.7, QQP 92.2, RTE 86.6, SST-2 96.4, MRPC 90.9, CoLA 68.0, STS-B 92.4;
SQuAD 1.1 EM/F1 88.9/94.6, SQuAD 2.0 86.5/89.4. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, roberta_base


def get_config(variant: str = "") -> ConfigDict:
    c = roberta_base.get_config()
    c.model.num_layers = 24
    c.model.dim = 1024
    c.model.num_heads = 16
    c.model.mlp_dim = 4096
    c.optimizer.learning_rate = 4e-4
    c.optimizer.warmup_steps = 30_000
    return bert_base.with_variant(c, variant, smoke=bert_base.smoke)

"""KantaiBERT, a small RoBERTa with its own tokenizer, trained on one text file (course material).

    python -m experiments.prepare --source=kant.txt --documents=file --store=data/kant --tokenizer_kind=byte_bpe \\
        --vocab_size=52000
    python -m experiments.train --config=configs/kantaibert.py --workdir=runs/kantaibert

Six layers, 83,504,416 parameters. `:smoke` is a small version for a CPU. The course trains for one epoch on some
megabytes; `training.num_steps` is right for about 10 MB.

Published: none. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, roberta_base


def get_config(variant: str = "") -> ConfigDict:
    c = roberta_base.get_config()
    c.model.vocab_size = 52_000
    c.model.num_layers = 6
    c.model.dtype = "float32"
    c.data.store = "data/kant"
    c.data.sequence_length = 128
    c.data.max_predictions = 20
    c.optimizer.learning_rate = 5e-5
    c.optimizer.warmup_steps = 0
    c.optimizer.beta2 = 0.999
    c.optimizer.eps = 1e-8
    c.optimizer.weight_decay = 0.0
    c.optimizer.clip_norm = 1.0
    c.training.num_steps = 2_700
    c.training.batch_size = 64
    c.training.log_every = 50
    c.training.eval_every = 500
    c.training.eval_batch_size = 64
    c.training.checkpoint_every = 500
    return bert_base.with_variant(c, variant, smoke=bert_base.smoke)

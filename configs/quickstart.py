"""A small BERT that learns in minutes on two CPU cores: what `make quickstart` trains.

python -m experiments.prepare --source=embedded --store=data/quickstart --vocab_size=4096 --lowercase
python -m experiments.train --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.model.vocab_size = 4096
    c.model.dim = 128
    c.model.num_layers = 2
    c.model.num_heads = 2
    c.model.mlp_dim = 512
    c.model.max_length = 128
    c.model.dropout = 0.1
    c.model.attention_dropout = 0.1
    c.model.dtype = "float32"
    c.data.store = "data/quickstart"
    c.data.sequence_length = 64
    c.data.max_predictions = 10
    c.data.masking = "dynamic"
    c.optimizer.learning_rate = 1e-3
    c.optimizer.warmup_steps = 200
    c.training.num_steps = 2000
    c.training.batch_size = 64
    c.training.log_every = 20
    c.training.eval_every = 500
    c.training.eval_batch_size = 64
    c.training.eval_batches = 20
    c.training.checkpoint_every = 500
    if variant == "smoke":
        bert_base.smoke(c)
    elif variant:
        raise ValueError(f"unknown variant {variant!r}; known: smoke")
    return c

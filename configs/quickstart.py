"""A small BERT that learns in minutes on two CPU cores: what `make quickstart` trains.

python -m experiments.prepare --source=embedded --store=data/quickstart --vocab_size=2048
python -m experiments.train --config=configs/quickstart.py --workdir=runs/quickstart
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.model.vocab_size = 2048
    c.model.dim = 128
    c.model.num_layers = 2
    c.model.num_heads = 4
    c.model.mlp_dim = 256
    c.model.max_length = 128
    c.model.dropout = 0.0  # minutes are too short to overfit much
    c.model.attention_dropout = 0.0
    c.model.init_stddev = 0.1  # about 1 / sqrt(dim); with BERT's 0.02 a model this narrow hardly starts to learn
    c.model.dtype = "float32"
    c.data.store = "data/quickstart"
    c.data.sequence_length = 128
    c.data.short_sequence_probability = 0.0
    c.data.max_predictions = 20
    c.data.masking = "dynamic"
    c.optimizer.learning_rate = 2.5e-3
    c.optimizer.beta2 = 0.98
    c.optimizer.warmup_steps = 200
    c.optimizer.weight_decay = 0.1  # thirty epochs of a small corpus
    c.training.num_steps = 8400
    c.training.batch_size = 16
    c.training.log_every = 50
    c.training.eval_every = 2100
    c.training.eval_batch_size = 32
    c.training.eval_batches = 10
    c.training.checkpoint_every = 2100
    # Short sequences teach words first. On long sequences alone, next-sentence prediction has more evidence, dominates
    # early, and the masked LM stays near the unigram distribution for thousands of steps.
    c.phases.steps = (5400, 3000)
    c.phases.sequence_length = (64, 128)
    c.phases.max_predictions = (10, 20)
    c.phases.batch_size = (32, 16)
    return bert_base.with_variant(c, variant, smoke=bert_base.smoke)


def get_expected(variant: str = "") -> list[dict]:
    # What it must reach to be clearly better than the baselines: 1.5 nats below the unigram entropy, and 7 of 10 pairs.
    values = {
        "masked_lm_loss": {"value": 3.526, "deviation": 0.074, "high": 4.53},
        "masked_lm_accuracy": {"value": 0.352, "deviation": 0.011},
        "next_sentence_accuracy": {"value": 0.794, "deviation": 0.039, "low": 0.70},
    }
    return [] if variant else bert_base.measured(values, step=8400)

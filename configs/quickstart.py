"""A small BERT that learns in two minutes on two CPU cores, `make quickstart`; `:long` is `make quickstart-long`.

python -m experiments.prepare --source=embedded --store=data/quickstart --vocab_size=2048 --validation_fraction=0.1
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
    # At random, the first layer takes a million tokens to find neighbors, and millions more to compare both segments.
    c.model.initial_attention = ("same", "same", "previous", "next")
    c.model.scale_residual_init = True
    c.model.dtype = "float32"
    c.data.store = "data/quickstart"
    c.data.sequence_length = 128
    c.data.short_sequence_probability = 0.0
    c.data.max_predictions = 32
    c.data.masking = "dynamic"
    c.data.mask_rate_end = 0.25  # more to predict in each step; from the start, masks would hide what segments share
    c.data.mask_rate_steps = 600
    c.optimizer.learning_rate = 3e-3
    c.optimizer.rate_scale = ("layer_0/attention/(query|key)/=0.2",)  # those heads keep what they begin with
    c.optimizer.beta2 = 0.95
    c.optimizer.warmup_steps = 250
    c.optimizer.weight_decay = 0.1  # more than four epochs of a small corpus
    c.training.num_steps = 1200
    c.training.batch_size = 16
    c.training.log_every = 50
    c.training.eval_every = 600
    c.training.eval_batch_size = 32
    c.training.eval_batches = 10
    c.training.checkpoint_every = 600
    # Short sequences are cheaper; on long ones both segments share more.
    c.phases.steps = (920, 280)
    c.phases.sequence_length = (64, 128)
    c.phases.max_predictions = (16, 32)
    c.phases.batch_size = (32, 16)
    return bert_base.with_variant(c, variant, long=long, smoke=smoke)


def long(c: ConfigDict) -> None:
    """Begins at random, as BERT does: 8,400 steps, thirty epochs, and a lower loss."""
    c.model.initial_attention = ()
    c.model.scale_residual_init = False
    c.data.max_predictions = 20
    c.data.mask_rate_end = 0.0
    c.data.mask_rate_steps = 0
    c.optimizer.learning_rate = 2.5e-3
    c.optimizer.rate_scale = ()
    c.optimizer.beta2 = 0.98
    c.optimizer.warmup_steps = 200
    c.training.num_steps = 8400
    c.training.eval_every = 2100
    c.training.checkpoint_every = 2100
    # Short sequences teach words first. On long sequences alone, next-sentence prediction has more evidence, dominates
    # early, and the masked LM stays near the unigram distribution for thousands of steps.
    c.phases.steps = (5400, 3000)
    c.phases.max_predictions = (10, 20)


def smoke(c: ConfigDict) -> None:
    """A few steps of the long one, in seconds."""
    long(c)
    bert_base.smoke(c)


def get_expected(variant: str = "") -> list[dict]:
    # What it must reach to be clearly better than the baselines: 1.5 nats below the unigram entropy, and 7 of 10 pairs.
    high, low = {"high": 4.53}, {"low": 0.70}
    values = {
        "": {
            "masked_lm_loss": {"value": 4.393, "deviation": 0.048, **high},
            "masked_lm_accuracy": {"value": 0.255, "deviation": 0.002},
            "next_sentence_accuracy": {"value": 0.839, "deviation": 0.016, **low},
        },
        "long": {
            "masked_lm_loss": {"value": 3.526, "deviation": 0.074, **high},
            "masked_lm_accuracy": {"value": 0.352, "deviation": 0.011},
            "next_sentence_accuracy": {"value": 0.794, "deviation": 0.039, **low},
        },
    }
    last = get_config(variant).training.num_steps
    return bert_base.measured(values[variant], step=last) if variant in values else []

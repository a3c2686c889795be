"""The Transformer, base size (Vaswani et al. 2017): 6 + 6 layers, 512 wide, 65M parameters, on WMT14 English-German.

    python -m experiments.prepare_pairs --train=tfds:wmt14_translate/de-en#train --columns=en,de \\
        --validation=tfds:wmt14_translate/de-en#validation --test=tfds:wmt14_translate/de-en#test \\
        --store=data/wmt14_en_de --vocab_size=37000
    python -m experiments.train --config=configs/transformer_base.py --workdir=runs/transformer_base
    python -m experiments.translate --model=runs/transformer_base --average_checkpoints=5 \\
        --input=test.en --output=test.de

Any two files whose lines belong together will do: see `experiments.prepare_pairs`. A batch has 24,960 tokens of either
side, padding included, of pairs of about the same length. The paper averages the last 5 checkpoints, written every 10
minutes, and decodes with 4 beams, a length penalty of 0.6 and at most 50 tokens more than the source has; all these are
what `experiments.translate` does unless told otherwise, but for the averaging.

`:smoke` is a small version for a CPU, on any store of pairs at data/pairs.

Hardware: 8 P100 GPUs, 12 hours (paper, 5.2).
Published: BLEU 27.3 on newstest2014, tokenized (paper, table 2). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    bert_base.one_phase(c)
    c.task = "translation"
    c.model.architecture = "encoder_decoder"
    c.model.heads = ("causal_lm",)
    c.model.vocab_size = 37_000
    c.model.dim = 512
    c.model.num_layers = 6
    c.model.num_decoder_layers = 6
    c.model.num_heads = 8
    c.model.mlp_dim = 2048
    c.model.max_length = 512  # of sinusoidal positions, which have no table
    c.model.num_segments = 0
    c.model.activation = "relu"
    c.model.norm_position = "post"
    c.model.layer_norm_eps = 1e-6
    c.model.embedding_norm = False
    c.model.embedding_scale = True
    c.model.position_embedding = "sinusoidal"
    c.model.dropout = 0.1
    c.model.attention_dropout = 0.0
    c.model.init_stddev = 512**-0.5  # so that scaled embeddings have variance 1, and kernels that of Glorot & Bengio

    c.data = ConfigDict()
    c.data.store = "data/wmt14_en_de"
    c.data.sequence_length = 240  # of either side, special token included; longer pairs are left out
    c.data.buckets = (20, 30, 40, 60, 80, 120, 240)  # the lengths of batches; each divides the last
    c.data.label_smoothing = 0.1
    c.data.metrics = ("bleu", "chrf")  # of greedy translations, at every evaluation; empty: nothing is translated
    c.data.read_ahead = 4
    c.data.skip_batches = ""  # see bert_base.py

    c.optimizer.learning_rate = 7e-4  # the paper's (dim * warmup)^-0.5
    c.optimizer.warmup_steps = 4000
    c.optimizer.schedule = "inverse_sqrt"
    c.optimizer.beta2 = 0.98
    c.optimizer.eps = 1e-9
    c.optimizer.weight_decay = 0.0
    c.optimizer.no_decay = ()
    c.optimizer.clip_norm = 0.0
    c.training.num_steps = 100_000
    c.training.batch_size = 104  # pairs of the longest bucket: 24,960 tokens a side; of shorter buckets more
    c.training.eval_batch_size = 32
    c.training.eval_every = 5000
    c.training.eval_batches = 20
    c.training.checkpoint_every = 1500
    c.training.keep_last = 5  # what --average_checkpoints can average
    c.training.keep_best = 0
    c.training.best_metric = "causal_lm_loss"
    return bert_base.with_variant(c, variant, smoke=smoke)


def get_expected(variant: str = "") -> list[dict]:
    """On newstest2014, tokenized, which is not quite how sacrebleu counts."""
    source = {"source": "Vaswani et al. 2017, table 2 (tokenized BLEU)", "hardware": "8 P100 GPUs"}
    return [] if variant else [{"split": "test", "metric": "bleu", "value": 27.3, **source}]


def smoke(c: ConfigDict) -> None:
    """A small version: a few steps in seconds on a CPU."""
    c.model.vocab_size = 300
    c.model.dim = 32
    c.model.num_layers = 1
    c.model.num_decoder_layers = 1
    c.model.num_heads = 2
    c.model.mlp_dim = 64
    c.model.max_length = 96
    c.model.init_stddev = 32**-0.5
    c.model.dtype = "float32"
    c.data.store = "data/pairs"
    c.data.sequence_length = 32
    c.data.buckets = (16, 32)
    c.optimizer.warmup_share = 0.25
    c.optimizer.warmup_steps = 0
    c.training.num_steps = 20
    c.training.batch_size = 8
    c.training.log_every = 5
    c.training.eval_every = 10
    c.training.eval_batch_size = 8
    c.training.eval_batches = 2
    c.training.checkpoint_every = 10

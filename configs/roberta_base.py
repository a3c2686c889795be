"""RoBERTa base (Liu et al. 2019): BERT base without next-sentence prediction, on rows filled with whole sentences.

    python -m experiments.prepare --source='text/*.txt' --store=data/roberta \\
        --tokenizer_kind=byte_bpe --vocab_size=50265
    python -m experiments.train --config=configs/roberta_base.py --workdir=runs/roberta

`:smoke` is a small version for a CPU, `:mini` one that learns something in minutes (python -m experiments.reproduce
roberta_mini); `:fairseq` is the smaller recipe in fairseq's documentation (batch 2048, 125k steps).

Hardware: 1024 V100 GPUs, about a day (paper, section 5).
Published, development sets: MNLI 87.6, QNLI 92.8, QQP 91.9, RTE 78.7, SST-2 94.8, MRPC 90.2, CoLA 63.6, STS-B 91.2.
Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.model.vocab_size = 50265
    c.model.num_segments = 1
    c.model.position_offset = 2
    c.model.layer_norm_eps = 1e-5
    c.model.heads = ("masked_lm",)
    c.data.store = "data/roberta"
    c.data.packing = "full_sentences"
    c.data.sequence_length = 512
    c.data.max_predictions = 77
    c.data.masking = "dynamic"
    c.optimizer.learning_rate = 6e-4
    c.optimizer.warmup_steps = 24_000
    c.optimizer.beta2 = 0.98
    c.optimizer.clip_norm = 0.0
    c.training.num_steps = 500_000
    c.training.batch_size = 8192
    bert_base.one_phase(c)
    return bert_base.with_variant(c, variant, fairseq=fairseq, mini=mini, smoke=bert_base.smoke)


def get_expected(variant: str = "") -> list[dict]:
    values = {
        "masked_lm_loss": {"value": 3.830, "deviation": 0.080},
        "masked_lm_accuracy": {"value": 0.314, "deviation": 0.013},
    }
    return bert_base.measured(values) if variant == "mini" else []


def fairseq(c: ConfigDict) -> None:
    """The smaller recipe in fairseq's documentation."""
    c.optimizer.learning_rate = 5e-4
    c.optimizer.warmup_steps = 10_000
    c.training.num_steps = 125_000
    c.training.batch_size = 2048


def mini(c: ConfigDict) -> None:
    """The size of the quickstart, on its text with a byte-level BPE of 2,048 tokens."""
    c.model.vocab_size = 2048
    c.model.dim = 128
    c.model.num_layers = 2
    c.model.num_heads = 4
    c.model.mlp_dim = 256
    c.model.max_length = 64
    c.model.dropout = 0.0
    c.model.attention_dropout = 0.0
    c.model.init_stddev = 0.1  # see quickstart.py
    c.model.dtype = "float32"
    c.data.store = "data/roberta_mini"
    c.data.sequence_length = 64
    c.data.max_predictions = 10
    c.optimizer.learning_rate = 2.5e-3
    c.optimizer.warmup_steps = 200
    c.optimizer.weight_decay = 0.1
    c.optimizer.clip_norm = 1.0
    c.training.num_steps = 4000
    c.training.batch_size = 32
    c.training.log_every = 50
    c.training.eval_every = 1000
    c.training.eval_batch_size = 32
    c.training.eval_batches = 0
    c.training.checkpoint_every = 1000

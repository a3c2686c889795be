"""GPT-2 small (Radford et al. 2019): 12 layers, 768 wide, 124M parameters, trained as nanoGPT trains it.

    python -m experiments.prepare --source='text/*.txt' --store=data/gpt2 \\
        --tokenizer_kind=gpt2_bpe --vocab_size=50257
    python -m experiments.train --config=configs/gpt2_small.py --workdir=runs/gpt2

`:smoke` is a small version for a CPU, on a store with this kind of tokenizer:

    python -m experiments.prepare --source=embedded --store=data/quickstart_gpt2 --tokenizer_kind=gpt2_bpe \\
        --vocab_size=2048
    python -m experiments.train --config=configs/gpt2_small.py:smoke --workdir=runs/gpt2_smoke

Hardware of nanoGPT: 8 A100 GPUs, about 4 days. Its result: OpenWebText validation loss about 2.85 at 600k steps.
Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.model.architecture = "decoder"
    c.model.vocab_size = 50257
    c.model.max_length = 1024
    c.model.num_segments = 0
    c.model.activation = "gelu_tanh"
    c.model.norm_position = "pre"
    c.model.embedding_norm = False
    c.model.layer_norm_eps = 1e-5
    c.model.dropout = 0.0
    c.model.attention_dropout = 0.0
    c.model.scale_residual_init = True
    c.task = "causal_lm"
    c.model.heads = ("causal_lm",)
    c.data.store = "data/gpt2"
    c.data.packing = "chunks"
    c.data.sequence_length = 1024
    c.optimizer.learning_rate = 6e-4
    c.optimizer.warmup_steps = 2000
    c.optimizer.schedule = "cosine"
    c.optimizer.final_share = 0.1
    c.optimizer.beta2 = 0.95
    c.optimizer.eps = 1e-8
    c.optimizer.weight_decay = 0.1
    c.training.num_steps = 600_000
    c.training.batch_size = 480  # 491,520 tokens
    c.training.eval_batch_size = 96
    c.training.best_metric = "causal_lm_loss"
    bert_base.one_phase(c)
    return bert_base.with_variant(c, variant, mini=mini, smoke=smoke)


def get_expected(variant: str = "") -> list[dict]:
    """Of OpenWebText at 600,000 steps of nanoGPT's recipe; of mini on the quickstart's text."""
    if variant == "mini":
        values = {
            "causal_lm_loss": {"value": 4.243, "deviation": 0.006},
            "bits_per_byte": {"value": 1.771, "deviation": 0.0025},
        }
        return bert_base.measured(values)
    source = {"source": "nanoGPT (OpenWebText, 600,000 steps)", "hardware": "8 A100 GPUs"}
    return [] if variant else [{"split": "validation", "metric": "causal_lm_loss", "value": 2.85, **source}]


def mini(c: ConfigDict) -> None:
    """Learns in minutes on a CPU: on the quickstart's text, with a vocabulary of 2,048."""
    c.model.vocab_size = 2048
    c.model.dim = 128
    c.model.num_layers = 3
    c.model.num_heads = 4
    c.model.mlp_dim = 512
    c.model.max_length = 128
    c.model.dtype = "float32"
    c.data.store = "data/gpt_mini"
    c.data.sequence_length = 128
    c.optimizer.learning_rate = 2e-3
    c.optimizer.warmup_steps = 100
    c.training.num_steps = 3000
    c.training.batch_size = 16
    c.training.log_every = 50
    c.training.eval_every = 500
    c.training.eval_batch_size = 32
    c.training.eval_batches = 0
    c.training.checkpoint_every = 500


def smoke(c: ConfigDict) -> None:
    """A small version, on a store with GPT-2's kind of tokenizer."""
    bert_base.smoke(c)
    c.data.store = "data/quickstart_gpt2"

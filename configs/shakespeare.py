"""A GPT of 3 million parameters that writes like Shakespeare: tinyshakespeare (Karpathy 2015), on a CPU within minutes.

    python -m experiments.prepare --source=tinyshakespeare/input.txt --store=data/shakespeare \\
        --tokenizer_kind=gpt2_bpe --vocab_size=512 --sentences=verbatim --validation_fraction=0.1
    python -m experiments.train --config=configs/shakespeare.py --workdir=runs/shakespeare
    python -m experiments.generate --model=runs/shakespeare --prompt="KING RICHARD III:" --top_p=0.95 --seed=1

A document is a speech, so the end token ends one. Small vocabularies suit so little text: 1.1 MB. The held-out tenth of
the speeches is evaluated in bits a byte of text, line ends included.

Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, gpt2_small


def get_config(variant: str = "") -> ConfigDict:
    c = gpt2_small.get_config()
    c.model.vocab_size = 512
    c.model.dim = 192
    c.model.num_layers = 6
    c.model.num_heads = 6
    c.model.mlp_dim = 768
    c.model.max_length = 256
    c.model.dropout = 0.2
    c.model.attention_dropout = 0.0
    c.model.dtype = "float32"
    c.data.store = "data/shakespeare"
    c.data.sequence_length = 128
    c.optimizer.learning_rate = 2e-3
    c.optimizer.warmup_steps = 100
    c.training.num_steps = 2500
    c.training.batch_size = 16
    c.training.log_every = 50
    c.training.eval_every = 250
    c.training.eval_batch_size = 32
    c.training.eval_batches = 0  # all
    c.training.checkpoint_every = 250
    c.training.keep_best = 1
    c.training.best_metric = "causal_lm_loss"
    return bert_base.with_variant(c, variant, smoke=gpt2_small.smoke)

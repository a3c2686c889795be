"""GPT-3 (Brown et al. 2020, table 2.1), from 125M to 175B parameters.

    python -m experiments.prepare --source='text/*.txt' --store=data/gpt3 \\
        --tokenizer_kind=gpt2_bpe --vocab_size=50257
    python -m experiments.train --config=configs/gpt3.py:1.3b --workdir=runs/gpt3_1.3b

Variants: 125m (the default), 350m, 760m, 1.3b, 2.7b, 6.7b, 13b, 175b, and smoke, for a CPU. In the paper the learning
rate decays to 10% along a cosine over 260 billion of 300 billion tokens; here training ends with the decay, after 260
billion. The paper increases the batch size over the first tokens and alternates dense and banded sparse attention
layers; here all layers are dense. 13b has 40 heads of size 128, so its width is 5120, not the table's 5140.

Published: see the paper's appendix H. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import gpt2_small

CONTEXT = 2048
TOKENS = 260e9
# Variant -> layers, width, heads, tokens per batch, learning rate.
SIZES = {
    "125m": (12, 768, 12, 0.5e6, 6.0e-4),
    "350m": (24, 1024, 16, 0.5e6, 3.0e-4),
    "760m": (24, 1536, 16, 0.5e6, 2.5e-4),
    "1.3b": (24, 2048, 16, 1e6, 2.0e-4),
    "2.7b": (32, 2560, 32, 1e6, 1.6e-4),
    "6.7b": (32, 4096, 32, 2e6, 1.2e-4),
    "13b": (40, 5120, 40, 2e6, 1.0e-4),
    "175b": (96, 12288, 96, 3.2e6, 0.6e-4),
}


def get_config(variant: str = "125m") -> ConfigDict:
    smoke = variant == "smoke"
    if not smoke and variant not in SIZES:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(SIZES)}, smoke")
    layers, dim, heads, tokens, rate = SIZES["125m" if smoke else variant]
    c = gpt2_small.get_config()
    c.model.num_layers = layers
    c.model.dim = dim
    c.model.num_heads = heads
    c.model.mlp_dim = 4 * dim
    c.model.max_length = CONTEXT
    c.model.remat = "block"
    c.data.store = "data/gpt3"
    c.data.sequence_length = CONTEXT
    c.optimizer.learning_rate = rate
    # 375 million tokens of warmup (appendix B). Batch sizes are multiples of 64 sequences.
    c.training.batch_size = 64 * round(tokens / CONTEXT / 64)
    c.optimizer.warmup_steps = round(375e6 / CONTEXT / c.training.batch_size)
    c.training.num_steps = round(TOKENS / CONTEXT / c.training.batch_size)
    if smoke:
        gpt2_small.smoke(c)
    return c

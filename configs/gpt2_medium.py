"""GPT-2 medium (Radford et al. 2019): 24 layers, 1024 wide, 354,823,168 parameters; otherwise configs/gpt2_small.py.

    python -m experiments.train --config=configs/gpt2_medium.py --config.data.store=data/gpt2 --workdir=runs/gpt2_medium

`:smoke` is a small version for a CPU. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, gpt2_small


def get_config(variant: str = "") -> ConfigDict:
    c = gpt2_small.get_config()
    c.model.num_layers = 24
    c.model.dim = 1024
    c.model.num_heads = 16
    c.model.mlp_dim = 4 * 1024
    return bert_base.with_variant(c, variant, smoke=gpt2_small.smoke)

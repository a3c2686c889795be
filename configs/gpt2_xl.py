"""GPT-2 xl (Radford et al. 2019): 48 layers, 1600 wide, 1,557,611,200 parameters; otherwise configs/gpt2_small.py.

    python -m experiments.train --config=configs/gpt2_xl.py --config.data.store=data/gpt2 --workdir=runs/gpt2_xl

`:smoke` is a small version for a CPU. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, gpt2_small


def get_config(variant: str = "") -> ConfigDict:
    c = gpt2_small.get_config()
    c.model.num_layers = 48
    c.model.dim = 1600
    c.model.num_heads = 25
    c.model.mlp_dim = 4 * 1600
    return bert_base.with_variant(c, variant, smoke=gpt2_small.smoke)

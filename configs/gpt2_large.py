"""GPT-2 large (Radford et al. 2019): 36 layers, 1280 wide, 774,030,080 parameters; otherwise configs/gpt2_small.py.

    python -m experiments.train --config=configs/gpt2_large.py --config.data.store=data/gpt2 --workdir=runs/gpt2_large

`:smoke` is a small version for a CPU. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, gpt2_small


def get_config(variant: str = "") -> ConfigDict:
    c = gpt2_small.get_config()
    c.model.num_layers = 36
    c.model.dim = 1280
    c.model.num_heads = 20
    c.model.mlp_dim = 4 * 1280
    return bert_base.with_variant(c, variant, smoke=gpt2_small.smoke)

"""BETO (Cañete et al. 2020): a Spanish BERT base, whole words masked, a vocabulary of 31 thousand.

    python -m experiments.prepare --source='tfds:wikipedia/20230601.es' --store=data/beto --vocab_size=31002 \\
        --lowercase --strip_accents=false
    python -m experiments.train --config=configs/beto.py --workdir=runs/beto

`--strip_accents=false` keeps "año" from becoming "ano"; without --lowercase it is the cased model. The authors trained
on 3 billion words (Wikipedia and the Spanish part of OPUS); `:smoke` is a small version for a CPU.

Published, cased/uncased: POS 98.97/98.44, NER-C 88.43/82.67, MLDoc 95.60/96.12, PAWS-X 89.05/89.55, XNLI 82.01/80.15.
Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.model.vocab_size = 31_002
    c.model.heads = ("masked_lm",)
    c.data.store = "data/beto"
    c.data.packing = "full_sentences"
    c.data.masking = "dynamic"
    c.data.mask_unit = "whole_word"
    c.training.num_steps = 2_000_000
    bert_base.one_phase(c)
    return bert_base.with_variant(c, variant, smoke=bert_base.smoke)

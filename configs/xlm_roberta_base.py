"""XLM-RoBERTa base (Conneau et al. 2020): RoBERTa in a hundred languages, sampled with exponent 0.3.

    python -m experiments.prepare --source='es/*.txt' --store=data/es --tokenizer_kind=unigram --vocab_size=250002
    python -m experiments.prepare --source='fr/*.txt' --store=data/fr --tokenizer=data/es/tokenizer
    python -m experiments.train --config=configs/xlm_roberta_base.py \\
        --config.data.store=data/es,data/fr --workdir=runs/xlmr

The stores of a mixture share one tokenizer; train it on text in all languages. `:smoke` is a small version for a CPU.

Published (paper, table 1, the base model): XNLI average 76.2. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, roberta_base


def get_config(variant: str = "") -> ConfigDict:
    c = roberta_base.get_config()
    c.model.vocab_size = 250_002
    c.data.store = "data/xlmr"
    c.data.mixture_alpha = 0.3
    return bert_base.with_variant(c, variant, smoke=bert_base.smoke)

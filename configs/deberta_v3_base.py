"""A DeBERTa of v3's size (He et al. 2021), trained by masked LM with the enhanced mask decoder.

    python -m experiments.prepare --source='text/*.txt' --store=data/deberta \\
        --tokenizer_kind=unigram --vocab_size=128100
    python -m experiments.train --config=configs/deberta_v3_base.py --workdir=runs/deberta

The published v3 learns to detect replaced tokens instead; this is v2's objective at v3's size. transformers has no
enhanced mask decoder, so export omits it and says so: in transformers the body and its fine-tuned heads are the same,
the masked LM is not. `:smoke` is a small version for a CPU.

Published: none for this objective at this size. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, roberta_base


def get_config(variant: str = "") -> ConfigDict:
    c = roberta_base.get_config()
    c.model.vocab_size = 128_100
    c.model.num_segments = 0
    c.model.position_embedding = "none"
    c.model.position_offset = 0
    c.model.layer_norm_eps = 1e-7
    c.model.pooler = "gelu"
    c.model.relative_attention = ("c2p", "p2c")
    c.model.relative_distance = 512
    c.model.relative_buckets = 256
    c.model.relative_norm = True
    c.model.share_relative_projections = True
    c.model.enhanced_mask_decoder = True
    c.data.store = "data/deberta"
    c.data.mask_unit = "span"
    c.optimizer.learning_rate = 6e-4
    c.optimizer.warmup_steps = 10_000
    c.optimizer.clip_norm = 1.0
    return bert_base.with_variant(c, variant, smoke=smoke)


def smoke(c: ConfigDict) -> None:
    """A small version, also with fewer relative positions."""
    bert_base.smoke(c)
    c.model.relative_distance = 16
    c.model.relative_buckets = 8

"""DistilBERT (Sanh et al. 2019): half the layers of BERT base, its teacher; dynamic masking, no next sentences.

    python -m experiments.prepare --source='text/*.txt' --tokenizer=models/bert/tokenizer --store=data/bert
    python -m experiments.train --config=configs/distilbert.py --workdir=runs/distilbert \\
        --config.start_from=models/bert --config.data.store=data/bert

`start_from` is the teacher: a run directory, a converted model or a Hugging Face model. Steps and learning rate are our
own choice: the paper only gives batches of up to 4,000 examples, on 8 GPUs for about 90 hours.
Published: 97% of BERT base on GLUE with 66,985,530 parameters (masked LM). Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base


def get_config(variant: str = "") -> ConfigDict:
    c = bert_base.get_config()
    c.start_from = "models/bert"  # the teacher; the student has its shape except for the number of layers
    c.task = "distillation"
    c.model.heads = ("masked_lm",)
    c.model.num_layers = 6
    c.model.num_segments = 0
    c.model.pooler = "relu"
    c.distillation.layers = 6
    c.data.packing = "full_sentences"
    c.data.sequence_length = 512
    c.data.max_predictions = 77
    c.data.masking = "dynamic"
    c.optimizer.learning_rate = 5e-4
    c.optimizer.warmup_share = 0.05
    c.training.num_steps = 100_000
    c.training.batch_size = 4096
    c.training.accumulation_steps = 16
    bert_base.one_phase(c)
    return bert_base.with_variant(c, variant, smoke=smoke)


def smoke(c: ConfigDict) -> None:
    """A small version: a student with one layer, a few steps on short sequences."""
    bert_base.smoke(c)
    c.model.num_layers = 1
    c.distillation.layers = 1
    c.training.accumulation_steps = 1

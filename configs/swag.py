"""SWAG (Zellers et al. 2018): which of four endings continues a scene.

    python -m experiments.train --config=configs/swag.py --workdir=runs/swag

It reads the dataset's own train.csv and val.csv from data/swag. Values as in the paper (Devlin et al. 2018, 4.4):
batch size 16, learning rate 2e-5, 3 epochs. `:smoke` is a small version for a CPU.

Published, validation data (paper, table 4; BERT base): accuracy 81.6. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, classification


def get_config(variant: str = "") -> ConfigDict:
    c = classification.get_config()
    c.task = "multiple_choice"
    c.model.heads = ("multiple_choice",)
    c.data.train = "data/swag/train.csv"
    c.data.validation = "data/swag/val.csv"
    c.data.text = ("sent1", "sent2")  # the scene, and how all endings begin
    c.data.choices = ("ending0", "ending1", "ending2", "ending3")
    c.data.metrics = ("accuracy",)
    c.training.batch_size = 16
    c.training.eval_batch_size = 32
    c.training.best_metric = "accuracy"
    return bert_base.with_variant(c, variant, smoke=classification.smoke)


def get_expected(variant: str = "") -> list[dict]:
    source = {"source": "Devlin et al. 2018, table 4 (BERT base)", "hardware": "Cloud TPU"}
    return [] if variant else [{"split": "validation", "metric": "accuracy", "value": 0.816, **source}]

"""SQuAD 1.1 and 2.0 (Rajpurkar et al. 2016, 2018): questions whose answer is a span of a given text; in 2.0 some have
no answer.

    python -m experiments.train --config=configs/squad.py:v1 --workdir=runs/squad
    python -m experiments.train --config=configs/squad.py:v2 --workdir=runs/squad2

They read the datasets' own files from data/squad. For other files in the same format: --config.data.train=mine.json;
without --config.data.validation whole articles are held out. In 2.0, "no answer" must score better than the best span
by --config.data.null_threshold; evaluation reports the best threshold as best_f1_threshold.

Values as in the paper (Devlin et al. 2018): batch size 32, learning rate 5e-5 and 3 epochs (section 4.2); 48 and 2
epochs for 2.0 (section 4.3); lengths as in the authors' program. `:smoke` is a small v1 for a CPU.

Published, development data (paper, table 2; BERT base): 1.1: exact match 80.8, F1 88.5. 2.0 (table 3; BERT large):
exact match 78.7, F1 81.9. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, classification


def get_config(variant: str = "v1") -> ConfigDict:
    c = classification.get_config()
    c.task = "question_answering"
    c.model.heads = ("question_answering",)
    c.data.train = "data/squad/train-v1.1.json"
    c.data.validation = "data/squad/dev-v1.1.json"
    c.data.text = ("question", "context")
    c.data.label = "answers"
    c.data.metrics = ("f1", "exact_match")
    c.data.sequence_length = 384
    c.optimizer.learning_rate = 5e-5
    c.training.best_metric = "f1"
    return bert_base.with_variant(c, variant, v1=lambda c: None, v2=v2, smoke=smoke)


def get_expected(variant: str = "v1") -> list[dict]:
    table = {
        "v1": ({"exact_match": 0.808, "f1": 0.885}, "Devlin et al. 2018, table 2 (BERT base)"),
        "v2": ({"exact_match": 0.787, "f1": 0.819}, "Devlin et al. 2018, table 3 (BERT large)"),
    }
    values, source = table.get(variant, ({}, ""))
    return [
        {"split": "validation", "metric": name, "value": value, "source": source, "hardware": "Cloud TPU"}
        for name, value in values.items()
    ]


def v2(c: ConfigDict) -> None:
    c.data.train = "data/squad/train-v2.0.json"
    c.data.validation = "data/squad/dev-v2.0.json"
    c.data.unanswerable = True
    c.data.metrics = (
        "f1",
        "exact_match",
        "has_answer_f1",
        "has_answer_exact_match",
        "no_answer_accuracy",
        "best_f1",
        "best_f1_threshold",
        "best_exact_match",
        "best_exact_match_threshold",
    )
    c.training.batch_size = 48
    c.training.num_epochs = 2.0


def smoke(c: ConfigDict) -> None:
    classification.smoke(c)
    c.data.stride = 8
    c.data.max_question_length = 8
    c.training.eval_batches = 8  # a context has many windows: less than all of one question has no score

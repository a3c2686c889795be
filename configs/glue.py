"""GLUE (Wang et al. 2018): nine tasks on English sentences, each with its own metrics.

    python -m experiments.train --config=configs/glue.py:cola --workdir=runs/cola
    python -m experiments.evaluate --workdir=runs/cola

Variants: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli; they read the benchmark's own files, such as
data/glue/CoLA/train.tsv. tfds_cola and its like read TensorFlow Datasets, prepared with
`tfds.builder("glue/cola").download_and_prepare(file_format="array_record")`. smoke is a small cola for a CPU;
cola_minilm starts from all-MiniLM-L6-v2, at length 24, in minutes on a CPU (data/cola/in_domain_train.tsv and others).

The values are the paper's (Devlin et al. 2018, 4.1): batch size 32, 3 epochs, and the best of the learning rates 5e-5,
4e-5, 3e-5 and 2e-5 on validation data; small sets vary with the seed. MNLI is evaluated on both of its validation sets.

Published, test data (paper, table 1; BERT base): MNLI 84.6 and 83.4, QQP 71.2 (F1), QNLI 90.5, SST-2 93.5, CoLA 52.1
(MCC), STS-B 85.8 (Spearman), MRPC 88.9 (F1), RTE 66.4. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import bert_base, classification

ENTAILED = ("entailment", "not_entailment")
# Task: folder of the files, columns of the text and of the label there, labels there and in TFDS (of two, F1 is
# computed for the second), columns of the text in TFDS, metrics.
TASKS = {
    "cola": ("CoLA", ("sentence",), "label", ("0", "1"), ("unacceptable", "acceptable"), ("sentence",), ("mcc",)),
    "sst2": ("SST-2", ("sentence",), "label", ("0", "1"), ("negative", "positive"), ("sentence",), ("accuracy",)),
    "mrpc": (
        "MRPC",
        ("#1 String", "#2 String"),
        "Quality",
        ("0", "1"),
        ("not_equivalent", "equivalent"),
        ("sentence1", "sentence2"),
        ("f1", "accuracy"),
    ),
    "stsb": (
        "STS-B",
        ("sentence1", "sentence2"),
        "score",
        (),
        (),
        ("sentence1", "sentence2"),
        ("spearman", "pearson"),
    ),
    "qqp": (
        "QQP",
        ("question1", "question2"),
        "is_duplicate",
        ("0", "1"),
        ("not_duplicate", "duplicate"),
        ("question1", "question2"),
        ("f1", "accuracy"),
    ),
    "mnli": (
        "MNLI",
        ("sentence1", "sentence2"),
        "gold_label",
        ("entailment", "neutral", "contradiction"),
        ("entailment", "neutral", "contradiction"),
        ("premise", "hypothesis"),
        ("accuracy",),
    ),
    "qnli": ("QNLI", ("question", "sentence"), "label", ENTAILED, ENTAILED, ("question", "sentence"), ("accuracy",)),
    "rte": ("RTE", ("sentence1", "sentence2"), "label", ENTAILED, ENTAILED, ("sentence1", "sentence2"), ("accuracy",)),
    "wnli": (
        "WNLI",
        ("sentence1", "sentence2"),
        "label",
        ("0", "1"),
        ("not_entailment", "entailment"),
        ("sentence1", "sentence2"),
        ("accuracy",),
    ),
}


def get_config(variant: str = "cola") -> ConfigDict:
    small = {"smoke": classification.smoke, "cola_minilm": minilm}
    name = "cola" if variant in small else variant.removeprefix("tfds_")
    if name not in TASKS:
        raise ValueError(
            f"unknown variant {variant!r}; known: {', '.join(TASKS)}, tfds_ with each of them, {', '.join(small)}"
        )
    folder, text, label, labels, tfds_labels, tfds_text, metrics = TASKS[name]
    c = classification.get_config()
    if variant.startswith("tfds_"):
        c.data.text, c.data.label, c.data.labels = tfds_text, "label", tfds_labels
        source = f"tfds:glue/{name}#"
        names = ("train", "validation", "validation_matched", "validation_mismatched")
    else:
        c.data.text, c.data.label, c.data.labels = text, label, labels
        source = f"data/glue/{folder}/"
        names = ("train.tsv", "dev.tsv", "dev_matched.tsv", "dev_mismatched.tsv")
    train, validation, matched, mismatched = (source + name for name in names)
    c.data.train = train
    c.data.validation = matched if name == "mnli" else validation
    c.data.more_splits = (f"mismatched={mismatched}",) if name == "mnli" else ()
    c.data.columns = ("source", "label", "mark", "sentence") if name == "cola" else ()  # others name theirs
    c.data.bad_lines = "skip" if name == "qqp" else "error"  # a few lines of QQP are broken
    c.task = "regression" if name == "stsb" else "classification"
    c.data.metrics = metrics
    c.training.best_metric = metrics[0]
    if variant in small:
        small[variant](c)
    return c


def minilm(c: ConfigDict) -> None:
    """CoLA as published in parts, of which one is from other sources than the training data."""
    c.start_from = "sentence-transformers/all-MiniLM-L6-v2"
    c.model.dtype = "float32"
    c.data.train, c.data.validation = "data/cola/in_domain_train.tsv", "data/cola/in_domain_dev.tsv"
    c.data.more_splits = ("out_of_domain=data/cola/out_of_domain_dev.tsv",)
    c.data.sequence_length = 24
    c.optimizer.learning_rate = 5e-5


# Test data (Devlin et al. 2018, table 1; BERT base), and metrics there.
PUBLISHED = {
    "cola": {"mcc": 0.521},
    "sst2": {"accuracy": 0.935},
    "mrpc": {"f1": 0.889},
    "stsb": {"spearman": 0.858},
    "qqp": {"f1": 0.712},
    "mnli": {"accuracy": 0.846},
    "qnli": {"accuracy": 0.905},
    "rte": {"accuracy": 0.664},
}
# Validation data, means of 5 seeds of BERT base cased in transformers' Flax examples.
VALIDATION = {
    "cola": {"mcc": 0.5904},
    "sst2": {"accuracy": 0.9223},
    "mrpc": {"f1": 0.8897, "accuracy": 0.8436},
    "qqp": {"accuracy": 0.9076},
    "mnli": {"accuracy": 0.8380},
    "qnli": {"accuracy": 0.9082},
    "rte": {"accuracy": 0.6476},
}


# Means over three seeds of cola_minilm, on in-domain data, and their deviations; out of domain mcc 0.205 ± 0.038.
MINILM = {"mcc": {"value": 0.281, "deviation": 0.027}, "accuracy": {"value": 0.728, "deviation": 0.008}}


def get_expected(variant: str = "cola") -> list[dict]:
    if variant == "cola_minilm":
        return bert_base.measured(MINILM)
    name = variant.removeprefix("tfds_")
    paper = {"source": "Devlin et al. 2018, table 1 (BERT base)", "hardware": "Cloud TPU"}
    flax = {"source": "transformers' Flax examples (BERT base cased, 5 seeds)", "hardware": "Cloud TPU v3-8"}
    rows = [{"split": "test", "metric": key, "value": x, **paper} for key, x in PUBLISHED.get(name, {}).items()]
    return rows + [
        {"split": "validation", "metric": key, "value": x, **flax} for key, x in VALIDATION.get(name, {}).items()
    ]

"""GLUE (Wang et al. 2018): nine tasks on English sentences, each with its own metrics.

    python -m experiments.train --config=configs/glue.py:cola --workdir=runs/cola
    python -m experiments.evaluate --workdir=runs/cola

Variants: cola, sst2, mrpc, stsb, qqp, mnli, qnli, rte, wnli; they read the benchmark's own files, such as
data/glue/CoLA/train.tsv. tfds_cola and its like read TensorFlow Datasets, prepared with
`tfds.builder("glue/cola").download_and_prepare(file_format="array_record")`. smoke is a small cola for a CPU.

The values are the paper's (Devlin et al. 2018, 4.1): batch size 32, 3 epochs, and the best of the learning rates 5e-5,
4e-5, 3e-5 and 2e-5 on validation data; small sets vary with the seed. MNLI is evaluated on both of its validation sets.

Published, test data (paper, table 1; BERT base): MNLI 84.6 and 83.4, QQP 71.2 (F1), QNLI 90.5, SST-2 93.5, CoLA 52.1
(MCC), STS-B 85.8 (Spearman), MRPC 88.9 (F1), RTE 66.4. Not yet run here.
"""

from ml_collections import ConfigDict

from configs import classification

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
    smoke = variant == "smoke"
    name = "cola" if smoke else variant.removeprefix("tfds_")
    if name not in TASKS:
        raise ValueError(f"unknown variant {variant!r}; known: {', '.join(TASKS)}, tfds_ with each of them, smoke")
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
    if smoke:
        classification.smoke(c)
    return c

"""Metrics of whole splits that are not means over examples, by name.

All are from scikit-learn, scipy and seqeval. If a metric is undefined, such as a correlation with predictions that are
all the same, the score is 0.

Shapes: N examples.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from tx_jax.errors import InputError, did_you_mean

# scikit-learn, which seqeval also imports, takes a second to import, so each function imports it when it is needed.


def accuracy(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The share of predictions [N] that are the targets [N]."""
    return float(np.mean(targets == predictions))


def confusion(targets: np.ndarray, predictions: np.ndarray, num_labels: int) -> np.ndarray:
    """How often each label, the row, was taken for each, the column: int64 [L, L]."""
    counts = np.zeros((num_labels, num_labels), np.int64)
    np.add.at(counts, (targets, predictions), 1)
    return counts


def f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """F1 of the second of two labels (number 1): the harmonic mean of precision and recall."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, pos_label=1, average="binary", zero_division=0))


def macro_f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The mean of the F1 of every label that occurs among targets or predictions."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="macro", zero_division=0))


def mcc(targets: np.ndarray, predictions: np.ndarray) -> float:
    """Matthews' correlation coefficient, with any number of labels (Gorodkin 2004)."""
    from sklearn.metrics import matthews_corrcoef

    if len(np.union1d(targets, predictions)) < 2:
        return 0.0
    return float(matthews_corrcoef(targets, predictions))


def pearson(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The linear correlation of numbers."""
    from scipy.stats import pearsonr

    return _correlation(pearsonr, targets, predictions)


def spearman(targets: np.ndarray, predictions: np.ndarray) -> float:
    """The correlation of the ranks of numbers."""
    from scipy.stats import spearmanr

    return _correlation(spearmanr, targets, predictions)


def _correlation(function: Callable, targets: np.ndarray, predictions: np.ndarray) -> float:
    targets, predictions = np.asarray(targets, np.float64), np.asarray(predictions, np.float64)
    if len(targets) < 2 or not np.ptp(targets) or not np.ptp(predictions):
        return 0.0
    return float(function(targets, predictions).statistic)


def micro_f1(targets: np.ndarray, predictions: np.ndarray) -> float:
    """F1 over all pairs of an example and a label, from sets of labels, bool [N, L]."""
    from sklearn.metrics import f1_score

    return float(f1_score(targets, predictions, average="micro", zero_division=0))


def label_f1(targets: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """F1 of each label, [L], from sets of labels, bool [N, L]."""
    from sklearn.metrics import f1_score

    return f1_score(targets, predictions, average=None, zero_division=0)


Sentences = Sequence[Sequence[str]]  # the label of each word


def word_accuracy(targets: Sentences, predictions: Sentences) -> float:
    """The share of words with the right label."""
    return accuracy(np.array(list(itertools.chain(*targets))), np.array(list(itertools.chain(*predictions))))


def entity_f1(targets: Sentences, predictions: Sentences) -> float:
    """The harmonic mean of precision and recall of entities, as conlleval counts them: B-PER, I-PER is one entity, and
    it is right if its type, first and last word are (Tjong Kim Sang and De Meulder 2003, section 3.2)."""
    from seqeval.metrics import f1_score

    return float(f1_score(targets, predictions, zero_division=0))


def entity_precision(targets: Sentences, predictions: Sentences) -> float:
    """The share of the predicted entities that are right."""
    from seqeval.metrics import precision_score

    return float(precision_score(targets, predictions, zero_division=0))


def entity_recall(targets: Sentences, predictions: Sentences) -> float:
    """The share of the entities that are found."""
    from seqeval.metrics import recall_score

    return float(recall_score(targets, predictions, zero_division=0))


Score = Callable[..., float]
OF_LABELS: dict[str, Score] = {"accuracy": accuracy, "f1": f1, "macro_f1": macro_f1, "mcc": mcc}
OF_LABEL_SETS: dict[str, Callable] = {"micro_f1": micro_f1, "macro_f1": macro_f1, "label_f1": label_f1}
OF_NUMBERS: dict[str, Score] = {"pearson": pearson, "spearman": spearman}

OF_WORDS: dict[str, Score] = {
    "accuracy": word_accuracy,
    "entity_f1": entity_f1,
    "entity_precision": entity_precision,
    "entity_recall": entity_recall,
}


def check(names: Iterable[str], known: dict[str, Score], num_labels: int) -> None:
    """Raises InputError for an unknown name, and for F1 if there are not two labels."""
    for name in names:
        if name not in known:
            near = did_you_mean(name, known)
            if name in OF_NUMBERS:
                near = " It is for numbers: --config.task=regression"
            raise InputError(f"data.metrics: {name!r} is not one of {', '.join(known)}.{near}")
        if name == "f1" and num_labels != 2:
            raise InputError(f"data.metrics: f1 needs two labels, but there are {num_labels}: choose macro_f1")

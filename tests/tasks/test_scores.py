"""Against the definitions, written out; warnings are errors here."""

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from tx_jax.errors import InputError
from tx_jax.tasks import scores

# Targets, predictions: cases in which a division by zero lurks.
CASES = {
    "mixed": ([0, 1, 1, 0, 1, 1, 0], [0, 1, 0, 0, 1, 1, 1]),
    "all right": ([0, 1, 1], [0, 1, 1]),
    "all wrong": ([0, 1, 1], [1, 0, 0]),
    "one label predicted": ([0, 1, 1], [1, 1, 1]),
    "the other one": ([0, 1, 1], [0, 0, 0]),
    "one label there": ([1, 1, 1], [0, 1, 1]),
    "one label in all": ([1, 1], [1, 1]),
    "the other in all": ([0, 0], [0, 0]),
    "a single example": ([0], [0]),
    "none in common": ([0, 0], [1, 1]),
}


def confusion(targets, predictions):
    pairs = list(zip(targets, predictions, strict=True))
    return [pairs.count(pair) for pair in ((1, 1), (0, 1), (1, 0), (0, 0))]


@pytest.mark.parametrize("case", CASES)
def test_of_two_labels(case):
    targets, predictions = map(np.array, CASES[case])
    tp, fp, fn, tn = confusion(*CASES[case])
    assert scores.accuracy(targets, predictions) == pytest.approx((tp + tn) / (tp + fp + fn + tn))
    assert scores.f1(targets, predictions) == pytest.approx(2 * tp / (2 * tp + fp + fn) if tp else 0.0)
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    assert scores.mcc(targets, predictions) == pytest.approx((tp * tn - fp * fn) / product**0.5 if product else 0.0)


def test_of_many_labels():
    rng = np.random.default_rng(0)
    targets, predictions = rng.integers(0, 4, (2, 300))
    predictions[predictions == 3] = 2  # one that is never predicted
    assert scores.macro_f1(targets, predictions) == pytest.approx(
        metrics.f1_score(targets, predictions, average="macro", zero_division=0)
    )
    each = [scores.f1((targets == i).astype(int), (predictions == i).astype(int)) for i in range(4)]
    assert scores.macro_f1(targets, predictions) == pytest.approx(np.mean(each))
    assert scores.mcc(targets, predictions) == pytest.approx(metrics.matthews_corrcoef(targets, predictions))
    assert scores.macro_f1(np.array([0, 0]), np.array([0, 0])) == 1.0


def test_of_numbers():
    rng = np.random.default_rng(0)
    targets = rng.integers(0, 6, 200).astype(np.float32)  # with ties
    predictions = (targets + rng.normal(size=200)).astype(np.float32)
    assert scores.pearson(targets, predictions) == pytest.approx(np.corrcoef(targets, predictions)[0, 1])
    ranks = [stats.rankdata(values) for values in (targets, predictions)]
    assert scores.spearman(targets, predictions) == pytest.approx(np.corrcoef(*ranks)[0, 1])
    assert scores.pearson(targets, -targets) == pytest.approx(-1)
    assert scores.spearman(targets, targets**3) == pytest.approx(1)


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_what_is_all_the_same_correlates_with_nothing(name):
    score = scores.OF_NUMBERS[name]
    varied, same = np.array([1.0, 2.0, 5.0], np.float32), np.full(3, 0.3, np.float32)
    assert score(varied, same) == score(same, varied) == score(same, same) == score(varied[:1], varied[:1]) == 0.0


def test_check():
    scores.check(["accuracy", "f1"], scores.OF_LABELS, 2)
    with pytest.raises(InputError, match=r"'mc' is not one of accuracy, f1, macro_f1, mcc. Did you mean 'mcc'"):
        scores.check(["mc"], scores.OF_LABELS, 2)
    with pytest.raises(InputError, match=r"'pearson' is not one of .*mcc. It is for numbers: --config.task=regression"):
        scores.check(["pearson"], scores.OF_LABELS, 2)
    with pytest.raises(InputError, match="f1 needs two labels, but there are 3: choose macro_f1"):
        scores.check(["f1"], scores.OF_LABELS, 3)


def test_confusion_has_the_true_label_in_rows():
    counts = scores.confusion(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0]), 3)
    np.testing.assert_array_equal(counts, [[1, 1, 0], [0, 1, 0], [2, 0, 0]])

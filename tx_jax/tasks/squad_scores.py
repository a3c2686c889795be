"""Exact match and F1 of answers, as the evaluation scripts of SQuAD 1.1 and 2.0 define them.

Rajpurkar et al. 2016, section 6.1; 2018, appendix A. The scripts differ if nothing is left of an answer after
normalization, such as "the". 1.1 never gives it F1; 2.0 drops such a gold answer, and scores a question without another
one as having no answer, but still counts it among the questions that have one.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalized(answer: str) -> str:
    """The answer in lower case, without ASCII punctuation and English articles, with single spaces between words."""
    return " ".join(_ARTICLES.sub(" ", answer.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_and_f1(prediction: str, golds: Sequence[str], *, unanswerable: bool) -> tuple[float, float]:
    """The prediction's best exact match (0 or 1) and best F1 over words with any of the gold answers.

    Args:
      golds: empty: there is no answer.
      unanswerable: score as SQuAD 2.0's script does, else as 1.1's.
    """
    if unanswerable:
        golds = [gold for gold in golds if normalized(gold)] or [""]
    predicted = normalized(prediction)
    exact = max((predicted == normalized(gold) for gold in golds), default=False)
    f1 = max((_f1(predicted.split(), normalized(gold).split(), unanswerable) for gold in golds), default=0.0)
    return float(exact), f1


def _f1(predicted: list[str], gold: list[str], unanswerable: bool) -> float:
    if unanswerable and not (predicted and gold):
        return float(predicted == gold)
    shared = (Counter(predicted) & Counter(gold)).total()
    return 2 * shared / (len(predicted) + len(gold)) if shared else 0.0


def squad_scores(predictions: Sequence[str], golds: Sequence[Sequence[str]], *, unanswerable: bool) -> dict[str, float]:
    """Means over N questions: "exact_match" and "f1", from 0 to 1; with `unanswerable` also these means over the
    questions that have an answer, and over those that have none ("no_answer_accuracy").

    Args:
      predictions: "" for no answer.
      golds, unanswerable: see `exact_and_f1`.
    """
    values = np.array(
        [exact_and_f1(*pair, unanswerable=unanswerable) for pair in zip(predictions, golds, strict=True)]
    ).reshape(-1, 2)
    scores = {"exact_match": mean(values[:, 0]), "f1": mean(values[:, 1])}
    if unanswerable:
        has = has_answer(golds)
        scores |= {f"has_answer_{name}": mean(values[has, i]) for i, name in enumerate(("exact_match", "f1"))}
        scores["no_answer_accuracy"] = mean(values[~has, 0])
    return scores


def has_answer(golds: Sequence[Sequence[str]]) -> np.ndarray:
    """bool [N]: whether a question has a gold answer, even one that is empty after normalization."""
    return np.array(list(map(bool, golds)), bool)


def mean(values: np.ndarray) -> float:
    """NaN of nothing."""
    return float(values.mean()) if len(values) else float("nan")


def best_threshold(null_scores: np.ndarray, span_scores: np.ndarray, is_answerable: np.ndarray) -> tuple[float, float]:
    """The best mean score that any threshold reaches, and the lowest threshold that does.

    Where the null score exceeds the threshold, the answer is none; it scores 1 if there is none.

    Args:
      null_scores: [N], how much "no answer" scores above the best span.
      span_scores: [N], exact match or F1 of the best span.
      is_answerable: bool [N].
    """
    order = np.argsort(null_scores, kind="stable")
    thresholds, none_scores = null_scores[order], (~is_answerable[order]).astype(float)
    # At each place the total with spans up to there and none after it.
    totals = np.append([0.0], np.cumsum(span_scores[order] - none_scores)) + none_scores.sum()
    attainable = np.append(thresholds[1:] > thresholds[:-1], [True])  # questions with the same null score go together
    thresholds = np.append([thresholds[0] - 1], thresholds)
    totals = np.where(np.append([True], attainable), totals, -np.inf)
    best = int(totals.argmax())
    return float(totals[best] / len(order)), float(thresholds[best])

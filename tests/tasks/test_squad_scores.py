import numpy as np
import pytest

from tx_jax.tasks import squad_scores
from tx_jax.tasks.squad_scores import best_threshold, exact_and_f1, normalized

# By the definitions of the scripts, worked out by hand. prediction, golds, (exact, F1) in 1.1, in 2.0.
CASES = [
    ("Warsaw", ["Warsaw"], (1, 1), (1, 1)),
    ("the Warsaw!", ["warsaw"], (1, 1), (1, 1)),
    ("Warsaw,  Poland", ["Warsaw"], (0, 2 / 3), (0, 2 / 3)),
    ("in in Warsaw", ["in Warsaw"], (0, 4 / 5), (0, 4 / 5)),  # a word counts as often as both have it
    ("x y", ["y x"], (0, 1), (0, 1)),
    ("Poland", ["Warsaw", "Poland", "the Poland of old"], (1, 1), (1, 1)),  # the best of several
    ("of old", ["Warsaw", "Poland of old"], (0, 4 / 5), (0, 4 / 5)),
    ("U.S.", ["US"], (1, 1), (1, 1)),
    ("well-known", ["well known"], (0, 0), (0, 0)),  # the hyphen leaves no space
    ("théorème", ["théorème"], (1, 1), (1, 1)),
    ("theatre", ["atre"], (0, 0), (0, 0)),  # articles are whole words
    ("the-atre", ["theatre"], (1, 1), (1, 1)),  # punctuation goes before articles do
    ("“Warsaw”", ["Warsaw"], (0, 0), (0, 0)),  # only ASCII punctuation goes
    ("10\u00a0000", ["10 000"], (1, 1), (1, 1)),
    ("STRASSE", ["Straße"], (0, 0), (0, 0)),  # lower case, no Unicode case folding
    ("", ["Warsaw"], (0, 0), (0, 0)),
    # Nothing is left of one side or both.
    ("the", ["a"], (1, 0), (1, 1)),
    ("...", ["!?"], (1, 0), (1, 1)),
    ("", ["the"], (1, 0), (1, 1)),
    ("Warsaw", ["the"], (0, 0), (0, 0)),
    ("", ["the", "Warsaw"], (1, 0), (0, 0)),  # 2.0 drops the first
    ("Warsaw", ["the", "Warsaw"], (1, 1), (1, 1)),
    # No answer.
    ("", [], (0, 0), (1, 1)),
    ("Warsaw", [], (0, 0), (0, 0)),
    ("The", [], (0, 0), (1, 1)),
]


@pytest.mark.parametrize(("prediction", "golds", "first", "second"), CASES)
def test_exact_match_and_f1(prediction, golds, first, second):
    assert exact_and_f1(prediction, golds, unanswerable=False) == pytest.approx(first)
    assert exact_and_f1(prediction, golds, unanswerable=True) == pytest.approx(second)


def test_normalisation():
    assert normalized("  The quick -- a Brown\tan\n“Fox”'s ") == "quick brown “fox”s"
    assert normalized("An a the. ?!") == ""


def test_means_over_questions():
    predictions, golds = ["Warsaw", "Poland", "", "x"], [["Warsaw"], ["old Poland"], [], ["the"]]
    assert squad_scores.squad_scores(predictions, golds, unanswerable=False) == pytest.approx(
        {"exact_match": 1 / 4, "f1": (1 + 2 / 3) / 4}
    )
    assert squad_scores.squad_scores(predictions, golds, unanswerable=True) == pytest.approx(
        {
            "exact_match": 2 / 4,
            "f1": (2 + 2 / 3) / 4,
            "has_answer_exact_match": 1 / 3,  # "the" is an answer, too
            "has_answer_f1": (1 + 2 / 3) / 3,
            "no_answer_accuracy": 1,
        }
    )
    only = squad_scores.squad_scores(["x"], [["x"]], unanswerable=True)
    assert np.isnan(only["no_answer_accuracy"])


def test_the_best_threshold_is_that_of_a_search_over_all():
    rng = np.random.default_rng(0)
    for trial in range(50):
        count = int(rng.integers(1, 12))
        null = rng.integers(-3, 4, count).astype(float)  # many ties
        answerable = rng.random(count) < 0.6
        span = np.where(answerable, rng.random(count), 0.0)
        reached = {
            float(threshold): np.where(null > threshold, ~answerable, span).mean()
            for threshold in [null.min() - 1, *np.unique(null)]
        }
        best, threshold = best_threshold(null, span, answerable)
        assert best == pytest.approx(max(reached.values())), trial
        assert reached[threshold] == pytest.approx(best), trial

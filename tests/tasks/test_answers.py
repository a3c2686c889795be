import itertools
import json

import numpy as np
import pytest

from tests.data.labeled.test_questions import GOLDEN, config, record
from tests.golden import multilingual, tokenizers
from tx_jax.data.labeled import questions
from tx_jax.tasks import answers
from tx_jax.tasks.answers import Answers, Span, best_spans


def test_the_best_spans_are_those_of_a_search_over_all():
    rng = np.random.default_rng(0)
    for longest, count in itertools.product((1, 3, 50), (1, 7, 500)):
        start, end = rng.normal(size=(2, 20))
        inside = np.arange(20) >= 6
        inside[15:] = False
        every = [(i, j, start[i] + end[j]) for i in range(6, 15) for j in range(i, min(i + longest, 15))]
        every.sort(key=lambda span: -span[2])
        found = best_spans(start, end, inside, longest, count)
        assert [span[:2] for span in found] == [span[:2] for span in every[:count]]
        assert [span[2] for span in found] == pytest.approx([span[2] for span in every[:count]])
    assert best_spans(start, end, np.zeros(20, bool), 3, 5) == []


def outputs(table, rng):
    shape = (len(table), table.length)
    logits = {name: rng.normal(size=shape).astype(np.float32) for name in ("start_logits", "end_logits")}
    return logits | {"example": np.arange(len(table))}


@pytest.fixture(params=["wordpiece", "byte_bpe", "unigram"])
def tokenizer(request):
    return tokenizers.rebuild(request.param, GOLDEN[request.param])


CONTEXTS = [" ".join(multilingual.DOCUMENTS[:2]), "No word is lost.", " ".join(multilingual.DOCUMENTS[2:5])]


def test_windows_are_combined_into_one_answer(tokenizer):
    """Where the model points at the gold answer in the windows that have it, it is the answer, as it is written."""
    golds = ["number", "is lost", "garçon"]
    records = [record(context, gold) for context, gold in zip(CONTEXTS, golds, strict=True)]
    data = config(64, stride=24, n_best=5)
    table = questions.table(records, data, tokenizer, segments=True, labeled=True)
    assert len(table) > 6
    made = outputs(table, np.random.default_rng(0))
    batch = table.rows(np.arange(len(table)))
    sureness = [itertools.chain([10.0], itertools.repeat(9.0)) for _ in records]  # less where it comes again
    for row, (start, end) in enumerate(zip(batch["answer_start"], batch["answer_end"], strict=True)):
        if start > 0:
            made["start_logits"][row, start] = made["end_logits"][row, end] = next(
                sureness[table.alignment["record"][row]]
            )
        made["start_logits"][row, 0] = 30.0  # of no interest where every question has an answer
    found = dict(answers.answers(made, table, CONTEXTS, data))
    assert list(found) == [0, 1, 2]
    for number, gold in enumerate(golds):
        best = found[number].spans[0]
        assert gold in best.text
        assert len(best.text) <= len(gold) + 2
        assert CONTEXTS[number][best.start :].startswith(best.text)
        assert best.score == pytest.approx(20.0)
        assert len(found[number].spans) == len({(span.start, span.text) for span in found[number].spans}) == 5
        assert [span.score for span in found[number].spans] == sorted(
            (span.score for span in found[number].spans), reverse=True
        )
        assert found[number].best(data) == best.text


def test_a_record_counts_only_with_all_its_windows():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    records = [record(context, "o") for context in CONTEXTS]
    data = config(64, stride=24)
    table = questions.table(records, data, tokenizer, segments=True, labeled=True)
    made = outputs(table, np.random.default_rng(0))
    partial = {name: values[1:] for name, values in made.items()}
    assert [number for number, _ in answers.answers(partial, table, CONTEXTS, data)] == [1, 2]
    whole = dict(answers.answers(made, table, CONTEXTS, data))
    assert whole[2] == dict(answers.answers(partial, table, CONTEXTS, data))[2]


def test_no_answer_is_that_of_the_least_sure_window():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    data = config(64, stride=24, unanswerable=True)
    table = questions.table([record(CONTEXTS[0])], data, tokenizer, segments=True, labeled=True)
    made = outputs(table, np.random.default_rng(0))
    made["start_logits"][:, 0], made["end_logits"][:, 0] = 20 + np.arange(len(table)), 3
    ((_, found),) = answers.answers(made, table, CONTEXTS[:1], data)
    assert found.null_score == 23
    assert found.best(data) == ""
    margin = 23 - found.spans[0].score
    assert found.best(config(unanswerable=True, null_threshold=margin + 0.01)) == found.spans[0].text
    assert found.best(config(unanswerable=True, null_threshold=margin - 0.01)) == ""


def test_probabilities_are_a_softmax_over_the_candidates():
    found = Answers((Span("a", 0, 2.0), Span("b", 4, 1.0)), null_score=1.5)
    odds = np.exp([2.0, 1.0])
    assert [p for _, p in found.probabilities(config())] == pytest.approx(odds / odds.sum())
    with_null = found.probabilities(config(unanswerable=True))
    assert [span.text for span, _ in with_null] == ["a", "", "b"]
    assert sum(p for _, p in with_null) == pytest.approx(1)
    assert [(span.text, p) for span, p in Answers((), 3.0).probabilities(config())] == [("", 1.0)]
    assert Answers((), 3.0).best(config()) == ""
    assert json.dumps([p for _, p in with_null])


def test_an_answer_ends_after_a_whole_character():
    assert answers.cut("e\u0301te\u0301 and", 0, 4) == "e\u0301te\u0301"
    assert answers.cut("ete", 0, 3) == "ete"

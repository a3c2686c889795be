"""Windows and answers, against the definitions and from any tokenizer back to the text."""

import json

import numpy as np
import pytest

from tests.data.labeled.configs import labeled
from tests.golden import multilingual, tokenizers
from tests.golden.tokenizers import PATH
from tx_jax.data.labeled import questions
from tx_jax.data.labeled.sequences import Layout
from tx_jax.errors import InputError

GOLDEN = json.loads(PATH.read_text(encoding="utf-8"))


def config(length=512, **changes):
    return labeled(text=("question", "context"), label="answers", sequence_length=length, **changes)


def record(context, answer=None, start=None, question="What is lost?"):
    at = context.find(answer) if answer and start is None else start
    return {
        "question": question,
        "context": context,
        "answers": {"text": [answer] if answer else [], "answer_start": [at] if answer else []},
    }


@pytest.fixture(params=["wordpiece", "byte_bpe", "gpt2_bpe", "unigram", "deberta_v2"])
def tokenizer(request):
    return tokenizers.rebuild(request.param, GOLDEN[request.param])


def table(records, data, tokenizer, *, labeled=True):
    return questions.table(records, data, tokenizer, segments=True, labeled=labeled)


def test_every_answer_is_found_in_a_window_and_leads_back_to_the_text(tokenizer):
    contexts = [*multilingual.DOCUMENTS[:5], *multilingual.DOCUMENTS[7:9]]
    rng = np.random.default_rng(0)
    records, expected = [], []
    for context in contexts:
        words = context.split()
        for _ in range(5):
            i = int(rng.integers(0, len(words) - 2))
            at = context.index(" ".join(words[i : i + 2])) if " ".join(words[i : i + 2]) in context else None
            if at is not None:
                records.append(record(context, " ".join(words[i : i + 2]), at))
                expected.append(words[i : i + 2])
    data = config(48, stride=20)
    found = table(records, data, tokenizer)
    batch = found.rows(np.arange(len(found)))
    starts, ends = (found.alignment[name].rows(np.arange(len(found)), 48) for name in ("starts", "ends"))
    assert found.counts["in several windows"] > 10
    for number, one in enumerate(records):
        rows = np.flatnonzero(found.alignment["record"] == number)
        inside = [row for row in rows if batch["answer_start"][row] > 0]
        assert inside, one
        for row in inside:
            first, last = batch["answer_start"][row], batch["answer_end"][row]
            answer, start = one["answers"]["text"][0], one["answers"]["answer_start"][0]
            # Whole tokens: the span may reach into the next character of the text, never less than the answer.
            assert starts[row, first] <= start
            assert ends[row, last] >= start + len(answer)
            assert one["context"][starts[row, first] : ends[row, last]].strip(".,;:!?¿¡") == answer.strip(".,;:!?¿¡")
            assert batch["segments"][row, first] == 1
        for row in set(rows) - set(inside):
            assert (batch["answer_start"][row], batch["answer_end"][row]) == (0, 0)


def test_windows_overlap_by_the_stride_and_cover_the_context(tokenizer):
    context = " ".join(multilingual.DOCUMENTS[:2])
    one = record(context, "pieces")
    data = config(40, stride=10, max_question_length=4)
    found = table([one], data, tokenizer)
    layout, question = Layout.of(tokenizer), tokenizer.encode(one["question"])[:4]
    before = [*layout.before, *question, *layout.between]
    room = 40 - len(before) - len(layout.after)
    ids = tokenizer.encode(context)
    tokens = found.rows(np.arange(len(found)))["tokens"]
    begin = 0
    for row in range(len(found)):
        part = ids[begin : begin + room]
        expected = [*before, *part, *layout.after]
        assert tokens[row, : len(expected)].tolist() == expected
        assert found.lengths[row] == len(expected)
        is_last = begin + room >= len(ids)
        assert is_last == (row == len(found) - 1)
        begin += room - 10
    assert found.counts == {"question cut": 1, "in several windows": 1}


def test_questions_without_an_answer(tokenizer):
    records = [record("No word is lost."), record("No word is lost.", "word")]
    batch = table(records, config(unanswerable=True), tokenizer).rows(np.arange(2))
    assert batch["answer_start"][0] == batch["answer_end"][0] == 0
    assert batch["answer_start"][1] > 0
    with pytest.raises(InputError, match=r"example 1 is a question without an answer.*unanswerable=True"):
        table(records, config(), tokenizer)
    for one in records:
        del one["answers"]
    unlabeled = table(records, config(), tokenizer, labeled=False)
    assert (unlabeled.columns["answer_start"] == questions.UNKNOWN).all()


def test_answers_that_are_not_in_the_context_are_counted_and_not_learned():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    text = "No word \u00ad is lost."
    wrong = [record(text, "word", 4), record(text, "lost", 400), record(text, "word", -14), record(text, "\u00ad", 8)]
    found = table([*wrong, record(text, "word")], config(), tokenizer)
    assert found.counts == {
        "answer is not in the context where it should begin, not trained on": 3,
        "answer has no tokens, not trained on": 1,
    }
    assert found.columns["answer_start"].tolist()[:4] == [-1] * 4
    assert found.columns["answer_start"][4] > 0


def test_forms_of_answers():
    data = config()
    expected = [("a", 3), ("b c", 0)]
    for value in (
        {"text": ["a", "b c"], "answer_start": [3, 0]},
        {"answer_start": [3, 0], "text": ["a", "b c"]},
        [
            {"text": "a", "answer_start": 3, "more": 1},
            {"text": "b c", "answer_start": 0},
            {"text": " ", "answer_start": 0},
        ],
    ):
        assert questions.gold_answers({"answers": value}, 1, data) == expected
    assert questions.gold_answers(
        {"answers": [{"text": "a", "answer_start": start} for start in ("3", 3.0)]}, 1, data
    ) == [
        ("a", 3),
        ("a", 3),
    ]
    no_places = [[{"text": "a", "answer_start": start}] for start in (True, 3.5, "3.5", None)]
    others = ("a", {"text": ["a"]}, {"text": ["a"], "answer_start": []}, [{"text": "a"}], None, {"text": "a"})
    for value in (*others, *no_places):
        with pytest.raises(InputError, match="example 7: column 'answers' holds no answers as SQuAD has them"):
            questions.gold_answers({"answers": value}, 7, data)


def test_no_room():
    tokenizer = tokenizers.rebuild("wordpiece", GOLDEN["wordpiece"])
    one = record(multilingual.DOCUMENTS[0], "word")
    with pytest.raises(InputError, match=r"data.stride=128 must be below the \d+ tokens.*lower it"):
        table([one], config(32), tokenizer)
    with pytest.raises(InputError, match="leaves no room for text: with a question of"):
        table([one], config(8), tokenizer)
    short = table([record("No word.", "word")], config(32), tokenizer)
    assert len(short) == 1
    empty = table([record("", None)], config(32, unanswerable=True), tokenizer)
    assert empty.columns["answer_start"].tolist() == [0]

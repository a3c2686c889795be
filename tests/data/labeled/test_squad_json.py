import json

import pytest

from tests.data.labeled.configs import labeled
from tx_jax.data.labeled import readers
from tx_jax.errors import InputError

CONTEXT = "Warsaw is the capital of Poland.\u2028It lies on the Vistula."
QUESTIONS = [
    {"id": "q1", "question": "Where?", "answers": [{"text": "Poland", "answer_start": 25, "more": 1}]},
    {
        "id": 2,
        "question": "Who?",
        "answers": [],
        "is_impossible": True,
        "plausible_answers": [{"text": "Warsaw", "answer_start": 0}],
    },
    {"question": "What?"},
]
FILE = {"version": "1.1", "data": [{"title": "Warsaw", "paragraphs": [{"context": CONTEXT, "qas": QUESTIONS}]}]}


def read(path, content, **changes):
    path.write_text(content if isinstance(content, str) else json.dumps(content, ensure_ascii=False))
    return readers.read(
        str(path), labeled(text=("question", "context"), label="answers", **changes), labeled="q1" in path.read_text()
    )


def test_questions_with_their_contexts(tmp_path):
    first, second = read(tmp_path / "dev-v2.0.json", _with(QUESTIONS[:2]))
    assert first == {
        "id": "q1",
        "title": "Warsaw",
        "question": "Where?",
        "context": CONTEXT,
        "answers": {"text": ["Poland"], "answer_start": [25]},
        "is_impossible": False,
    }
    assert second["id"] == "2"
    assert second["answers"] == {"text": [], "answer_start": []}
    assert second["is_impossible"]


def test_questions_without_answers_are_for_prediction(tmp_path):
    (record,) = read(tmp_path / "a.json", _with(QUESTIONS[2:]))
    assert record == {"id": "1", "title": "Warsaw", "question": "What?", "context": CONTEXT}
    with pytest.raises(InputError, match="question 3: no column 'answers' among"):
        read(tmp_path / "b.json", FILE)


def _with(questions):
    return {"data": [{"title": "Warsaw", "paragraphs": [{"context": CONTEXT, "qas": questions}]}]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "a.json is empty"),
        ({"data": []}, "a.json is empty"),
        ("{", "a.json, line 1: not valid JSON"),
        (r'{"data": "\ud83d"}', "a.json: .* is half of a character"),
        ([1], "a.json, line 1: a int, not an object with named fields"),
        ({"rows": [], "version": 1}, "a.json, line 1: no column 'question' among 'rows', 'version'"),
        ({"data": {}}, "'data' is a dict, not a list"),
        ({"data": [{"text": "a", "label": "b"}]}, r"no 'paragraphs' .*of other examples give the list alone"),
        ({"data": [{"paragraphs": [{"qas": []}]}]}, r"data\[0\]\.paragraphs\[0\]: no 'context' among 'qas'"),
        (_with([{"id": "q1"}]), r"qas\[0\]: no 'question' among 'id'"),
        (_with([{"question": "q1", "answers": [{"text": "x"}]}]), r"answers\[0\]: no 'answer_start' among 'text'"),
        (_with([{"question": "q1", "answers": {"text": []}}]), "'answers' is a dict, not a list"),
    ],
)
def test_bad_input(tmp_path, content, expected):
    with pytest.raises(InputError, match=expected):
        read(tmp_path / "a.json", content)


@pytest.mark.parametrize(
    ("given", "expected"),
    [("false", False), ("False", False), ("TRUE", True), (True, True), (False, False), (None, False)],
)
def test_a_truth_value_is_read_by_its_meaning(tmp_path, given, expected):
    """Also where a program wrote it as a text, which would be true to Python whatever it says."""
    answers = [{"text": "Poland", "answer_start": 25}]
    (record,) = read(
        tmp_path / "a.json", _with([{"id": "q1", "question": "", "answers": answers, "is_impossible": given}])
    )
    assert record["is_impossible"] is expected
    assert record["answers"]["text"] == ([] if expected else ["Poland"])


def test_what_is_no_truth_value(tmp_path):
    for bad in ("no", "", 0, []):
        question = {"id": "q1", "question": "", "answers": [], "is_impossible": bad}
        with pytest.raises(InputError, match=r"qas\[0\]\.is_impossible is .*, not true or false"):
            read(tmp_path / "a.json", _with([question]))
    question = {"id": "q1", "question": "", "answers": [{"text": "x", "answer_start": True}]}
    with pytest.raises(InputError, match=r"'answer_start' is a bool, not a int"):
        read(tmp_path / "a.json", _with([question]))

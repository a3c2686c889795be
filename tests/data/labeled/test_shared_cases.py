"""The inputs in ../shared/cases on which reading went wrong; their README says what is right."""

import pathlib

import pytest

from tests.data.labeled.configs import labeled
from tx_jax.data.labeled import readers
from tx_jax.data.labeled.labels import label_ids, labels_of
from tx_jax.errors import InputError

CASES = pathlib.Path(__file__).parents[3] / ".." / "shared" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the folder ../shared/cases is not there")


def read(name, is_labeled=True, **changes):
    return readers.read(str(CASES / name), labeled(**changes), labeled=is_labeled)


def test_csv_bool_mix():
    parts = [
        [record["label"] for record in read(f"csv_bool_mix/{name}")]
        for name in ("train.csv", "dev.jsonl", "dev_lower.csv")
    ]
    labels = labels_of(parts[0])
    assert labels == ("False", "True")
    for part in parts:
        expected = [str(value).lower() == "true" for value in part]
        assert label_ids(part, labels).tolist() == expected
    assert labels_of([value for part in parts for value in part]) == labels


def test_conll_germeval():
    changes = {"text": ("1",), "label": "2"}
    records = read("conll_germeval/train.tsv", comment="#", **changes)
    text = (CASES / "conll_germeval/train.tsv").read_text()
    assert len(records) == text.count("http://") == len(text.strip().split("\n\n"))
    assert records[0] == {
        "0": ["1", "2", "3", "4", "5", "6"],
        "1": ["Anna", "Berg", "lives", "in", "Rome", "."],
        "2": ["B-PER", "I-PER", "O", "O", "B-LOC", "O"],
        "3": ["O"] * 6,
    }
    with pytest.raises(InputError, match=r"--config\.data\.comment="):
        read("conll_germeval/train.tsv", **changes)


def test_conll_txt():
    records = read("conll_txt/train.txt", text=("0",), label="3")
    assert records[0]["3"] == ["B-PER", "I-PER", "O", "O", "B-LOC", "O"]
    source = str(CASES / "conll_txt/train.txt")
    assert readers.notices(source, labeled(text=("0",), label="3")) == [
        f"{source}: taken for CoNLL's columns, one word per line"
    ]


def test_csv_pipe():
    for changes in ({}, {"delimiter": "|"}, {"delimiter": "|", "quote": "none"}):
        records = read("csv_pipe/train.csv", **changes)
        assert records[:2] == [{"text": "was bad 0", "label": "0"}, {"text": "the film was good 1", "label": "1"}]
    assert read("csv_pipe/train.csv", False, delimiter="|")[0]["text"] == "was bad 0"


def test_squad_string_bool():
    records = read("squad_string_bool/train.json", text=("question", "context"), label="answers")
    assert records
    assert not any(record["is_impossible"] for record in records)
    assert records[0]["answers"] == {"text": ["Tom"], "answer_start": [30]}


def test_jsonl_nan():
    with pytest.raises(InputError, match=r"train.jsonl, line \d+: no (label|text) in column"):
        read("jsonl_nan/train.jsonl")
    with pytest.raises(InputError, match=r"new.jsonl, line 1: no text in column 'text'"):
        read("jsonl_nan/new.jsonl", False)

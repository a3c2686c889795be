import pytest

from tests.data.labeled.configs import labeled
from tx_jax.data.labeled import readers, writers
from tx_jax.errors import InputError

RECORDS = [
    {"text": 'One, "two"\nthree', "prediction": "pos", "probability_pos": 0.1234567890123},
    {"text": "ñandú; 数学", "prediction": "neg", "probability_pos": 1e-9, "extra": ["a", None]},
]


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.jsonl", "a.jsonl.gz"])
def test_what_is_written_is_read(tmp_path, name):
    writers.write(tmp_path / name, RECORDS)
    found = readers.read(str(tmp_path / name), labeled(), labeled=False)
    if "csv" in name:
        assert [float(record.pop("probability_pos")) for record in found] == [0.1234567890123, 1e-9]
        assert [record.pop("extra") for record in found] == ["", '["a", null]']
        assert found == [{"text": record["text"], "prediction": record["prediction"]} for record in RECORDS]
    else:
        assert found == RECORDS


def test_tsv_holds_no_tabs_and_line_breaks(tmp_path):
    with pytest.raises(InputError, match=r"TSV cannot hold 'One, .* of record 1: write \.csv or \.jsonl"):
        writers.check(tmp_path / "a.tsv", RECORDS)
    writers.write(tmp_path / "a.tsv", RECORDS[1:])
    assert readers.read(str(tmp_path / "a.tsv"), labeled(), labeled=False)[0]["text"] == RECORDS[1]["text"]


def test_words_are_written_a_line_each(tmp_path):
    records = [
        {"text": "ñ .", "words": ["ñ", "."], "prediction": ["X", "PUNCT"], "probability": [0.25, 1.0]},
        {"words": ["a b"], "prediction": ["X"], "probability": [0.5]},
    ]
    writers.write(tmp_path / "a.conll", records)
    assert (tmp_path / "a.conll").read_text() == "ñ\tX\t0.25\n.\tPUNCT\t1.0\n\na b\tX\t0.5\n"
    found = readers.read(str(tmp_path / "a.conll"), labeled(text=("0",), label="1"))
    assert [(record["0"], record["1"]) for record in found] == [(["ñ", "."], ["X", "PUNCT"]), (["a b"], ["X"])]
    for bad in (RECORDS[0], {"n_best": [{"text": "a"}]}, {"words": ["a"], "prediction": ["X", "Y"]}):
        with pytest.raises(InputError, match="record 2 is not a sentence of words"):
            writers.write(tmp_path / "b.conll", [records[0], bad])
    for bad in ("", "a\tb", "a\nb"):
        with pytest.raises(InputError, match=r"CoNLL's columns cannot hold .* of record 2"):
            writers.write(tmp_path / "b.conll", [records[0], {"words": [bad], "prediction": ["X"]}])
    assert not (tmp_path / "b.conll").exists()


def test_bad_names(tmp_path):
    with pytest.raises(InputError, match=r"its extension must say what to write: \.csv"):
        writers.check(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="there is no folder"):
        writers.check(tmp_path / "none" / "a.csv")

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
        writers.write(tmp_path / "a.tsv", RECORDS)
    writers.write(tmp_path / "a.tsv", RECORDS[1:])
    assert readers.read(str(tmp_path / "a.tsv"), labeled(), labeled=False)[0]["text"] == RECORDS[1]["text"]


def test_bad_names(tmp_path):
    with pytest.raises(InputError, match=r"its ending must say what to write: \.csv"):
        writers.check(tmp_path / "a.xlsx")
    with pytest.raises(InputError, match="there is no folder"):
        writers.check(tmp_path / "none" / "a.csv")

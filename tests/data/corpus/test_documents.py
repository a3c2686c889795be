"""Every kind of file, in every compression, by its content; and what is refused."""

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from tx_jax.data.corpus import documents
from tx_jax.data.corpus.config import SourceConfig
from tx_jax.data.corpus.sources import Source
from tx_jax.errors import InputError

C4 = Path(__file__).parents[4] / "shared" / "cases" / "corpus_c4_shards"
TEXTS = ["El año, dijo.", "Dos; líneas\naquí.", 'Una "cita" | y\tmás.']
RECORDS = [{"id": i, "text": text, "meta": {"lang": "es", "text": text.upper()}} for i, text in enumerate(TEXTS)]


def table(delimiter: str) -> str:
    rows = [["id", "text"], *([str(i), '"{}"'.format(text.replace('"', '""'))] for i, text in enumerate(TEXTS))]
    return "\n".join(map(delimiter.join, rows)) + "\n"


# What a file holds -> its content; all hold TEXTS.
KINDS = {
    "jsonl": "\n".join(json.dumps(record, ensure_ascii=False) for record in RECORDS),
    "json_array": json.dumps(RECORDS),
    "json_array in lines": json.dumps(RECORDS, indent=2),
    "json": "\n".join(json.dumps(record, indent=2) for record in RECORDS),
    "table with commas": table(","),
    "table with semicolons": table(";"),
    "table with tabs": table("\t"),
    "table with bars": table("|"),
}
COMPRESS = {
    "plain": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: pyarrow.compress(data, codec="zstd", asbytes=True),
}


def write(path, content, compress=bytes):
    path.write_bytes(compress(content.encode() if isinstance(content, str) else content))
    return path


def read(path, **options):
    source = Source(SourceConfig((str(path),), **options))
    return list(source), source


def write_parquet(path, records, **options):
    parquet.write_table(pyarrow.Table.from_pylist(records), path, **options)
    return path


@pytest.mark.skipif(not C4.is_dir(), reason="../shared/cases is not there")
def test_the_shards_of_c4_are_json_lines():
    found, source = read(C4 / "*.json.gz")
    assert len(found) == 180
    assert found[0].startswith("the staff were kind to us the staff were kind to us 0 the train was late")
    assert not any("{" in document for document in found)
    (taken,) = source.taken_for()
    assert (taken["kind"], taken["files"], taken["documents"]) == ("jsonl", 3, 180)
    assert taken["as"] == "JSON lines, because its first 40 lines are each a JSON object"


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["a", "a.txt", "a.json.gz"])
def test_every_kind_in_every_compression_under_any_name(tmp_path, compression, kind, name):
    found, source = read(write(tmp_path / name, KINDS[kind], COMPRESS[compression]))
    assert found == TEXTS
    assert source.fraction_read == 1.0
    (taken,) = source.taken_for()
    assert (taken["kind"], taken["files"], taken["documents"]) == (kind.split()[0], 1, 3)


@pytest.mark.parametrize("name", ["a.ndjson", "a.JSONL", "a.jsonl.zst"])
def test_json_lines_of_other_names(tmp_path, name):
    assert read(write(tmp_path / name, KINDS["jsonl"]))[0] == TEXTS


def test_a_folder_and_a_zip_of_mixed_kinds(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("one.txt", "Uno.\n\nDos.\n")
        archive.writestr("two.csv", "text\nTres.\n")
        archive.writestr("three", "")
    write(tmp_path / "b.json", KINDS["json_array"])
    write_parquet(tmp_path / "c.parquet", RECORDS)
    write(tmp_path / "d.txt", "Cuatro.\n")
    found, source = read(tmp_path / "*")
    assert found == ["Uno.\n", "Dos.\n", "Tres.", *TEXTS, *TEXTS, "Cuatro.\n"]
    taken = {taken["kind"]: (taken["files"], taken["documents"]) for taken in source.taken_for()}
    assert taken == {"text": (2, 3), "empty": (1, 0), "table": (1, 1), "json_array": (1, 3), "parquet": (1, 3)}
    reasons = {taken["kind"]: taken["as"] for taken in source.taken_for()}
    assert reasons["table"] == "a table with commas between columns, because its name ends in .csv"
    assert reasons["parquet"] == "parquet, because it begins with PAR1"
    list(source)
    assert {taken["kind"]: taken["documents"] for taken in source.taken_for()}["text"] == 3  # and counted anew


def test_text_whose_lines_are_json_can_be_had_as_it_is(tmp_path):
    path = write(tmp_path / "a.json", KINDS["jsonl"])
    found, source = read(path, format="text", documents="line")
    assert "".join(found) == KINDS["jsonl"]
    assert source.taken_for()[0]["as"] == "plain text, because --format=text says so"


@pytest.mark.parametrize("kind", ["jsonl", "json_array", "json", "parquet"])
def test_fields_of_objects_in_fields(tmp_path, kind):
    path = tmp_path / "a"
    records = [*RECORDS]
    write_parquet(path, records) if kind == "parquet" else write(path, KINDS[kind])
    assert read(path, field="meta.text")[0] == [text.upper() for text in TEXTS]
    with pytest.raises(InputError, match=r"(line|row) 1: no field 'meta.body', found: (id, text, )?meta; .*--field"):
        read(path, field="meta.body")
    # A field of the very name goes first.
    records = [{"meta.text": "literal", "meta": {"text": "nested"}}]
    write_parquet(path, records) if kind == "parquet" else write(path, json.dumps(records))
    assert read(path, field="meta.text")[0] == ["literal"]


def test_parquet_is_read_by_some_rows_at_a_time(tmp_path, monkeypatch):
    records = [{"text": f"Texto {i}.", "other": i} for i in range(1000)]
    write_parquet(tmp_path / "a.parquet", records, row_group_size=300)
    found, source = read(tmp_path / "a.parquet")
    assert found == [record["text"] for record in records]
    read_rows = []
    monkeypatch.setattr(documents, "_PARQUET_ROWS", 10)
    iterator = iter(source)
    for _ in range(25):
        next(iterator)
        read_rows.append(source.fraction_read)
    assert 0 < read_rows[-1] < 0.03


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ([{"body": "x"}], "no field 'text', found: body"),
        ([{"text": 3}], "row 1: field 'text' is not text but int"),
        ([{"text": "x"}, {"text": None}], "row 2: field 'text' is not text but NoneType"),
    ],
)
def test_parquet_without_the_text_is_an_error(tmp_path, records, message):
    with pytest.raises(InputError, match=message):
        read(write_parquet(tmp_path / "a.parquet", records))


def test_damaged_and_packed_parquet_is_an_error(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", RECORDS)
    data = path.read_bytes()
    write(path, data[:-20])
    with pytest.raises(InputError, match=r"a\.parquet is damaged parquet \("):
        read(path)
    write(path, data, gzip.compress)
    with pytest.raises(InputError, match=r"a\.parquet is parquet inside gzip: unpack it first"):
        read(path)


def test_a_json_array_larger_than_the_buffer_is_read_in_pieces(tmp_path, monkeypatch):
    """Not a whole file, nor a whole line, is held: the array is one line."""
    pieces = []
    original = documents.byte_chunks

    def counted(stream):
        for chunk in original(stream):
            pieces.append(len(chunk))
            yield chunk

    monkeypatch.setattr(documents, "byte_chunks", counted)
    records = [{"text": f"Documento {i}. " * 20} for i in range(5_000)]
    path = write(tmp_path / "a.json", json.dumps(records))
    size = path.stat().st_size
    iterator = iter(Source(SourceConfig((str(path),))))
    for number, document in enumerate(iterator, start=1):
        assert document == records[number - 1]["text"]
        assert sum(pieces) <= size * number / len(records) + 3 * 2**16
    assert sum(pieces) == size
    assert len(pieces) > 20


@pytest.mark.parametrize(("policy", "texts"), [("replace", ["a", "Caf\ufffd", "b"]), ("skip", ["a", "b"])])
def test_invalid_utf8_in_a_json_array(tmp_path, policy, texts):
    path = write(tmp_path / "a.json", b'[{"text": "a"},\n{"text": "Caf\xe9"}, {"text": "b"}]')
    with pytest.raises(InputError, match=r"a\.json, line 2, byte 29: not valid UTF-8 \(0xe9\).*replace or skip"):
        read(path)
    found, source = read(path, encoding_errors=policy)
    assert found == texts
    assert source.counts == {"invalid_utf8": 1}


REFUSED = {
    "HTML": ("<!DOCTYPE html><p>x</p>", {}, "is HTML or XML, because it begins .*--format=text"),
    "CoNLL": ("Madrid B-LOC\nis O\n\n", {}, "is words in CoNLL columns, because .*--format=text"),
    "CoNLL-U": ("1\tSi\tsi\tX\t_\t_\t0\troot\t_\t_\n", {}, "is CoNLL-U, because .*--format=text"),
    "PDF": ("%PDF-1.7 text", {}, "is no text, because it is PDF: convert it"),
    "text as JSON lines": ("Hola.\n", {"format": "jsonl"}, "is plain text, because .*--format=jsonl cannot read"),
    "an array as JSON lines": (KINDS["json_array"], {"format": "jsonl"}, "is a JSON array, because .*cannot read"),
    "text as JSON": ("Hola.\n", {"format": "json"}, "is plain text, because .*--format=json cannot read"),
    "JSON as CSV": (KINDS["jsonl"], {"format": "csv"}, "is JSON lines, because .*--format=csv cannot read"),
    "text as parquet": ("Hola.\n", {"format": "parquet"}, "is plain text, because .*--format=parquet cannot read"),
    "a table without the column": (
        "id,body\n1,x\n",
        {"format": "csv"},
        r"line 1: no column 'text' among 'id', 'body';",
    ),
    "a near name": ("id,texts\n1,x\n", {"format": "csv"}, "Did you mean 'texts'"),
    "two columns of a name": ("text,text\n1,x\n", {"format": "csv"}, "several columns have the name 'text'"),
    "a long row": ("id,text\n1,x,y\n", {}, r"line 2: 3 fields, not 2 \(id, text\): texts that contain delimiters"),
    "an open quote": ('id,text\n1,"x\n', {}, r"line 2: a quote is opened and never closed.*--quote=none"),
    "delimiter for text": ("Hola.\n", {"delimiter": "tab"}, "delimiter is for tables, and no file looks like one"),
    "quote for text": ("Hola.\n", {"quote": "none"}, "quote is for tables, and no file looks like one"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_read_is_refused_with_what_helps(tmp_path, case):
    content, options, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        read(write(tmp_path / "a", content), **options)


def test_all_files_are_looked_at_before_the_first_is_read(tmp_path):
    write(tmp_path / "a.txt", "Good.\n")
    write(tmp_path / "b.txt", "<html><p>x</p></html>")
    write(tmp_path / "c.txt", "%PDF")
    with pytest.raises(InputError, match=r"b\.txt is HTML or XML.*\(1 more cannot be used either\)"):
        next(iter(Source(SourceConfig((str(tmp_path / "*"),)))))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("table")])
def test_tables_by_format(tmp_path, kind):
    path = write(tmp_path / "a", KINDS[kind])
    assert read(path, format="csv")[0] == TEXTS
    delimiter = {"commas": "comma", "semicolons": ";", "tabs": "\\t", "bars": "bar"}[kind.split()[-1]]
    assert read(path, format="csv", delimiter=delimiter, quote='"')[0] == TEXTS


def test_a_table_with_quotes_of_its_own(tmp_path):
    path = write(tmp_path / "a.csv", "id^text\n1^'dos ^ tres'\n2^cuatro\n")
    assert read(path, delimiter="^", quote="'")[0] == ["dos ^ tres", "cuatro"]
    path = write(tmp_path / "a.tsv", 'text\tid\n"Ay, dijo\t1\n')
    assert read(path, quote="none")[0] == read(path)[0] == ['"Ay, dijo']


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "jsnl"}, "format='jsnl': expected one of .*Did you mean 'jsonl'"),
        ({"delimiter": "ab"}, "delimiter='ab': expected one character, or one of tab, comma"),
        ({"quote": "quotes"}, "quote='quotes': expected one character, or none"),
        ({"quote": ",", "delimiter": "comma"}, "quote=',': expected"),
        ({"format": "json", "delimiter": ","}, "delimiter is for tables, but format=json"),
        ({"format": "text", "quote": "none"}, "quote is for tables, but format=text"),
        ({"format": "tsv", "delimiter": ","}, "format=tsv is a table with tabs, but delimiter=','"),
    ],
)
def test_bad_options_are_errors(options, message):
    with pytest.raises(InputError, match=message):
        SourceConfig(("a",), **options)


def test_options_of_files_do_nothing_without_files():
    with pytest.raises(InputError, match="format is for files, and embedded is not one"):
        Source(SourceConfig(("embedded",), format="text"))

"""A file is what its content is, whatever its name says; and what it was taken for is said."""

import bz2
import datetime
import decimal
import gzip
import json
import lzma
import zipfile

import pyarrow
import pytest
from pyarrow import parquet

from tests.data.labeled.configs import labeled
from tx_jax.data.labeled import readers
from tx_jax.errors import InputError, InputWarning

RECORDS = [{"text": "one, two", "label": "a"}, {"text": "three", "label": "b"}]
JSONL = "".join(json.dumps(record) + "\n" for record in RECORDS)
CONLL = "-DOCSTART- -X- O\n\nAnna NNP B-PER\nlives VBZ O\n\nIn IN O\nRome NNP B-LOC\n"
GERMEVAL = "#\thttp://x.org\t[2009-10-17]\n1\tAnna\tB-PER\tO\n2\t#lives\tO\tO\n3\t#\tO\tO\n\n#\tn-tv.de\t[2010]\n1\tRome\tB-LOC\tO\n"
CONLLU = "# text = Anna\n1\tAnna\tAnna\tPROPN\t_\t_\t0\troot\t_\t_\n2\tva\tir\tVERB\t_\t_\t0\troot\t_\t_\n\n"
SQUAD = {"data": [{"paragraphs": [{"context": "A b.", "qas": [{"question": "q", "id": "1", "answers": []}]}]}]}
WORDS = {"text": ("0",), "label": "2"}
QUESTIONS = {"text": ("question", "context"), "label": "answers"}


def make(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


def read(path, content, is_labeled=True, **changes):
    """The records, and what the file was taken for where that is said."""
    source, config = make(path, content), labeled(**changes)
    return readers.read(source, config, labeled=is_labeled), [
        line.removeprefix(f"{source}: ") for line in readers.notices(source, config, labeled=is_labeled)
    ]


@pytest.mark.parametrize(
    ("name", "content", "notice"),
    [
        ("a.jsonl", JSONL, []),
        ("a.ndjson", JSONL, []),
        ("a.JSONL", JSONL, []),
        ("a.json", JSONL, ["taken for JSON lines"]),
        ("a.txt", JSONL, ["taken for JSON lines"]),
        ("a.csv", JSONL, ["taken for JSON lines"]),
        ("a", JSONL, ["taken for JSON lines"]),
        ("a.json", json.dumps(RECORDS), ["taken for a JSON list"]),
        ("a.json", json.dumps(RECORDS, indent=2), ["taken for a JSON list"]),
        ("a.jsonl", json.dumps(RECORDS, indent=2), ["taken for a JSON list"]),
        ("a.json", "\n".join(json.dumps(record, indent=2) for record in RECORDS), ["taken for a JSON list"]),
        ("a.csv", 'text,label\n"one, two",a\nthree,b\n', []),
        ("a.csv", "text;label\none, two;a\nthree;b\n", ["taken for a table with semicolons between its columns"]),
        ("a.csv", "text|label\none, two|a\nthree|b\n", ["taken for a table with vertical bars between its columns"]),
        ("a.csv", "text\tlabel\none, two\ta\nthree\tb\n", ["taken for a table with tabs between its columns"]),
        ("a.tsv", "text\tlabel\none, two\ta\nthree\tb\n", []),
        ("a.tsv", 'text,label\n"one, two",a\nthree,b\n', ["taken for a table with commas between its columns"]),
        ("a.tsv", '"text"\t"label"\n"one, two"\t"a"\n"three"\t"b"\n', []),
        ("a.txt", "text\tlabel\none, two\ta\nthree\tb\n", ["taken for a table with tabs between its columns"]),
        ("a.dat", 'label,text\na,"one, two"\nb,three\n', ["taken for a table with commas between its columns"]),
    ],
)
def test_records_whatever_the_name(tmp_path, name, content, notice):
    records, found = read(tmp_path / name, content)
    assert [dict(sorted(record.items(), reverse=True)) for record in records] == RECORDS
    assert found == notice


@pytest.mark.parametrize("name", ["a.parquet", "a.parq", "a.csv"])
def test_parquet(tmp_path, name):
    table = pyarrow.table({"text": ["one, two", "three"], "label": [1.0, float("nan")]})
    parquet.write_table(table, tmp_path / name)
    config = labeled()
    with pytest.raises(InputError, match="record 2: no label in column 'label'"):
        readers.read(str(tmp_path / name), config)
    assert readers.read(str(tmp_path / name), config, labeled=False)[0] == {"text": "one, two", "label": 1.0}
    assert bool(readers.notices(str(tmp_path / name), config)) is (name != "a.parquet")
    more = {
        "text": [b"a\xff"],
        "label": [decimal.Decimal("1.0")],
        "day": [datetime.date(2020, 1, 2)],
        "more": [[{"x": None}]],
    }
    parquet.write_table(pyarrow.table(more), tmp_path / "more.parquet")
    plain = {"text": "a\\xff", "label": "1.0", "day": "2020-01-02", "more": [{"x": None}]}
    assert readers.read(str(tmp_path / "more.parquet"), config) == [plain]
    data = (tmp_path / name).read_bytes()
    with pytest.raises(InputError, match="is damaged after record 0"):
        read(tmp_path / "b.parquet", data[: len(data) // 2])


def test_every_compression_of_every_name(tmp_path):
    data = JSONL.encode()
    for number, packed in enumerate((gzip.compress(data), bz2.compress(data), lzma.compress(data))):
        assert read(tmp_path / f"a{number}.jsonl", packed) == (RECORDS, [])
        assert read(tmp_path / f"a{number}.json.gz", packed)[0] == RECORDS
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.jsonl", JSONL)
        archive.writestr("y.csv", "text,label\nfour,c\n")
    found = readers.read(str(tmp_path / "a.zip"), labeled())
    assert found == [*RECORDS, {"text": "four", "label": "c"}]


@pytest.mark.parametrize(
    ("name", "content", "changes", "notice"),
    [
        ("a.conll", CONLL, {}, []),
        ("train.txt", CONLL, {}, ["taken for CoNLL's columns, one word per line"]),
        ("train.tsv", CONLL.replace(" ", "\t"), {}, ["taken for CoNLL's columns, one word per line"]),
        ("eng.train", CONLL, {}, ["taken for CoNLL's columns, one word per line"]),
        ("eng.train", CONLL, {"format": "conll"}, []),
        ("a.txt", CONLL, {"columns": ("0", "pos", "2")}, ["taken for CoNLL's columns, one word per line"]),
        ("a.csv", CONLL, {"columns": ("0", "pos", "2")}, ["taken for CoNLL's columns, one word per line"]),
    ],
)
def test_words_whatever_the_name(tmp_path, name, content, changes, notice):
    records, found = read(tmp_path / name, content, **WORDS, **changes)
    assert [(record["0"], record["2"]) for record in records] == [
        (["Anna", "lives"], ["B-PER", "O"]),
        (["In", "Rome"], ["O", "B-LOC"]),
    ]
    assert found == notice


@pytest.mark.parametrize("name", ["a.tsv", "a.conll", "train.txt", "a"])
def test_comments_in_columns(tmp_path, name):
    """A comment stands before a sentence, and has white space after its sign: #word and # are words."""
    columns = {"text": ("1",), "label": "2"}
    records, _ = read(tmp_path / name, GERMEVAL, **columns, comment="#")
    # The third line of the sentence begins with its number, so here also a line that begins with # is a word.
    assert [record["1"] for record in records] == [["Anna", "#lives", "#"], ["Rome"]]
    with pytest.raises(InputError, match=r"line 2: 4 columns, not 3 .*--config.data.comment='#'"):
        read(tmp_path / name, GERMEVAL, **columns)
    by_name = {"text": ("word",), "label": "outer", "columns": ("number", "word", "outer", "inner")}
    assert read(tmp_path / name, GERMEVAL, **by_name, comment="#")[0][0]["word"] == ["Anna", "#lives", "#"]


def test_a_word_that_is_the_sign_of_comments(tmp_path):
    content = "% newdoc\n#a O\n% O\nb O\n\n%\n%a O\n% O\n"
    records, _ = read(tmp_path / "a.conll", content, text=("0",), label="1", comment="%")
    assert [record["0"] for record in records] == [["#a", "%", "b"], ["%a", "%"]]


def test_conllu_whatever_the_name(tmp_path):
    for name, notice in {"a.conllu": [], "a.txt": ["taken for CoNLL-U"], "a.conll": ["taken for CoNLL-U"]}.items():
        records, found = read(tmp_path / name, CONLLU, text=("form",), label="upos")
        assert records[0]["upos"] == ["PROPN", "VERB"]
        assert found == notice


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize(("name", "said"), [("a.json", False), ("a.txt", True), ("a.jsonl", True)])
@pytest.mark.parametrize("count", [1, 3000])  # more than the beginning that is looked at
def test_squad_whatever_the_name(tmp_path, name, said, indent, count):
    content = json.dumps({"data": SQUAD["data"] * count}, indent=indent)
    records, notice = read(tmp_path / name, content, **QUESTIONS)
    assert len(records) == count
    assert notice == (["taken for SQuAD's JSON"] if said else [])


def test_records_may_have_a_field_data(tmp_path):
    records, _ = read(tmp_path / "a.json", '{"text": "x", "label": 1, "data": [{"paragraphs": []}]}')
    assert records[0]["label"] == 1


@pytest.mark.filterwarnings("ignore:.*empty lines are skipped")
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("new.txt", "Anna lives\nin Rome\n\nBerg sells\n", "txt"),  # as many words in every line
        ("new.txt", "text, and more\nsecond line\n", "txt"),
        ("new.txt", "[1] Smith\n{a} b\n", "txt"),
        ("new.txt", "<p>a</p>\n<p>b</p>\n<p>c</p>\n", "txt"),
        ("new.txt", CONLL, "conll"),
        ("new.txt", CONLL.replace("B-PER", "X").replace("B-LOC", "Y"), "conll"),
        ("new.txt", '{"0": "a"}\n', "jsonl"),
    ],
)
def test_a_text_a_line_unless_it_is_something_else(tmp_path, name, content, expected):
    records, notice = read(tmp_path / name, content, False, labels=("O", "X", "Y"), **WORDS)
    lines = [line for line in content.splitlines() if line]
    assert bool(notice) == (expected != "txt")
    assert (records == [{"0": line} for line in lines]) == (expected == "txt")


def test_words_for_a_model_of_texts_are_texts(tmp_path):
    with pytest.warns(InputWarning, match="empty lines are skipped"):
        records, notice = read(tmp_path / "new.txt", CONLL, False)
    assert (records[0], notice) == ({"text": "-DOCSTART- -X- O"}, [])


def test_delimiter_and_quote_are_options(tmp_path):
    for given in ("\t", "\\t"):
        assert read(tmp_path / "a.csv", "text\tlabel\n'a\tb'\tx\n", delimiter=given, quote="'")[0] == [
            {"text": "a\tb", "label": "x"}
        ]
    found, notice = read(tmp_path / "a.csv", 'text^label\n"a^x\n5" b^y\n', delimiter="^", quote="none")
    assert ([record["text"] for record in found], notice) == (['"a', '5" b'], [])
    assert read(tmp_path / "a.tsv", 'text\tlabel\n"a ""b"""\tx\n', quote='"')[0][0]["text"] == 'a "b"'
    rows = "1;one, two;x\n2;three;y\n"  # without a first line of names: as many fields as columns
    assert [r["text"] for r in read(tmp_path / "b.csv", rows, columns=("id", "text", "label"))[0]] == [
        "one, two",
        "three",
    ]
    rows = "gj04\t1\t*\tone, two, three, four\ngj04\t0\t\tfive\n"  # as many fields between commas
    assert read(tmp_path / "b.tsv", rows, columns=("source", "label", "mark", "text"))[0][1]["text"] == "five"
    with pytest.raises(InputError, match=r"quote is opened and never closed.*, give --config.data.quote=none"):
        read(tmp_path / "c.csv", 'text,label\n"a,x\n')
    with pytest.raises(InputError, match=r"3 fields, not 2.* taken to be commas, with --config.data.delimiter"):
        read(tmp_path / "c.csv", "text,label\na,b,x\n")


@pytest.mark.parametrize(
    ("name", "content", "changes", "option"),
    [
        ("a.jsonl", JSONL, {"delimiter": "|"}, "delimiter"),
        ("a.json", json.dumps(RECORDS), {"quote": "none"}, "quote"),
        ("a.csv", "text,label\na,b\n", {"comment": "#"}, "comment"),
        ("a.conllu", CONLLU, {"text": ("form",), "label": "upos", "comment": "#"}, "comment"),
        ("a.conll", CONLL, {**WORDS, "delimiter": "\t"}, "delimiter"),
        ("a.json", json.dumps(SQUAD), {**QUESTIONS, "quote": "'"}, "quote"),
    ],
)
def test_an_option_that_means_nothing(tmp_path, name, content, changes, option):
    with pytest.raises(InputError, match=rf"--config.data.{option} does not apply: leave it out"):
        read(tmp_path / name, content, **changes)


def test_columns_of_what_names_its_own(tmp_path):
    """Trainings from before this was checked have them, and must still be read."""
    with pytest.raises(InputError, match=r"is JSON lines, to which --config.data.columns does not apply"):
        read(tmp_path / "a.jsonl", JSONL, False, columns=("text", "label"))
    assert read(tmp_path / "a.jsonl", JSONL, columns=("text", "label"))[0] == RECORDS


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"delimiter": "||"}, "data.delimiter='||' must be one character"),
        ({"quote": "no"}, "data.quote='no' must be one character"),
        ({"quote": "|", "delimiter": "|"}, "is the delimiter too"),
        ({"comment": "# "}, "data.comment='# ' must not contain white space"),
        ({"format": "jsonl", "delimiter": "|"}, "data.delimiter='|' means nothing in data.format=jsonl"),
        ({"format": "csv", "comment": "#"}, "data.comment='#' means nothing in data.format=csv"),
        ({"format": "tsv", "delimiter": "|"}, "data.format=tsv has tabs between its columns"),
        ({"null_values": ("NA", "NA")}, "has the same value twice"),
    ],
)
def test_options_that_do_not_go_together(changes, expected):
    with pytest.raises(InputError) as error:
        labeled(**changes)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        (
            "a.txt",
            "one\ntwo\n",
            r"a.txt: its format is unclear: it begins with 'one.*its first line does not name the columns ",
        ),
        ("a.txt", "lable|text\na|b\n", r"--config.data.format=csv\|tsv\|jsonl\|json\|parquet\|conll\|conllu\|squad$"),
        ("a.txt", CONLL, "line 3: no column 'text' among '0', '1', '2'"),
        ("a.pdf", "%PDF-1.7\n", "it is PDF; examples are in tables"),
        ("a.xlsx", b"PK\x05\x06" + bytes(18), "a zip that contains no files"),
        ("a.txt", "text,label\n".encode("utf-16"), "in UTF-16"),
    ],
)
def test_what_cannot_be_told(tmp_path, name, content, expected):
    with pytest.raises(InputError, match=expected):
        read(tmp_path / name, content)


@pytest.mark.parametrize(
    ("name", "make_nan"), [("a.jsonl", json.dumps), ("a.json", lambda record: f"[{json.dumps(record)}]")]
)
def test_nan_in_json_is_null(tmp_path, name, make_nan):
    nan = float("nan")
    with pytest.raises(InputError, match="line 1: no label in column 'label'"):
        read(tmp_path / name, make_nan({"text": "a", "label": nan}))
    with pytest.raises(InputError, match="line 1: no text in column 'text'"):
        read(tmp_path / name, make_nan({"text": nan, "label": 1}), False)
    assert read(tmp_path / name, make_nan({"text": "a", "label": 1, "more": nan}))[0][0]["more"] is None


def test_null_values_are_those_that_are_named(tmp_path):
    table = "text,label\nnan,NA\nb,nan\nc,x\n"
    assert [record["label"] for record in read(tmp_path / "a.csv", table)[0]] == ["NA", "nan", "x"]
    with pytest.raises(InputError, match="line 2: no text in column 'text'"):
        read(tmp_path / "a.csv", table, null_values=("nan",))
    with pytest.raises(InputError, match="line 2: no label in column 'label'"):
        read(tmp_path / "a.csv", table, null_values=("NA",))
    assert len(read(tmp_path / "a.csv", table, False, null_values=("NA",))[0]) == 3  # labels are not needed
    with pytest.warns(InputWarning, match="2 lines without a text or a label are skipped: 2, 3$"):
        records = readers.read(str(tmp_path / "a.csv"), labeled(null_values=("NA", "nan"), bad_lines="skip"))
    assert [record["label"] for record in records] == ["x"]

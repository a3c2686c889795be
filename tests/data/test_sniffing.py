import json

import pytest

from tx_jax.data.reading import files_in
from tx_jax.data.sniffing import KINDS, sniff
from tx_jax.errors import InputError

RECORDS = [{"id": i, "text": f"Número {i}, con coma."} for i in range(5)]
CONLL = "-DOCSTART- -X- O O\n\nMadrid NNP B-NP B-LOC\nis VBZ B-VP O\n\nFine JJ O O\n"
GERMEVAL = "#\tn-tv.de vom 26.02.2005\n1\tGut\tO\tO\n2\t#Merkel\tB-PER\tO\n\n"
CONLLU = "# text = Si\n1\tSi\tsi\tINTJ\t_\t_\t0\troot\t_\t_\n\n"
CSV = 'text,label\n"Hola, tú",a\nAdiós,b\n'
PROSE = "It was late, and the train, as always, did not come.\nWe waited, and waited.\n\nText, they said, is cheap.\n"

# name, content -> kind, part of the reason
CASES = {
    "C4's shards": (
        "c4.json",
        "\n".join(map(json.dumps, RECORDS)),
        "jsonl",
        "first 5 lines are each a JSON object",
    ),
    "JSON lines of any name": ("a", "\n".join(map(json.dumps, RECORDS)) + "\n", "jsonl", "first 5 lines"),
    "a broken first line": ("a.txt", '{"text": "x"\n{"text": "y"}\n', "jsonl", "though not the first"),
    "broken JSON lines": ("a.jsonl", "text\n", "jsonl", "its name ends in .jsonl"),
    "broken JSON": ("a.JSON", "text\n", "json", "its name ends in .json"),
    "an array": ("a.json", json.dumps(RECORDS), "json_array", 'it begins with [{"id": 0, "text": "N'),
    "an array in lines": ("a.jsonl", json.dumps(RECORDS, indent=1), "json_array", 'it begins with [ { "id": 0'),
    "one object": ("a.txt", json.dumps(RECORDS[0], indent=2), "json", 'it begins with { "id": 0'),
    "one object in a line": ("a.json", json.dumps({"data": RECORDS}), "json", 'it begins with {"data": ['),
    "one JSON line": ("a.jsonl", json.dumps(RECORDS[0]), "jsonl", "its first line is a JSON object"),
    "a long first line": ("a", json.dumps({"text": "no " * 99_999}) + '\n{"text": "b"}', "jsonl", "first line is"),
    "a brace in text": ("a.txt", "{sic} he said.\n", "text", "nothing in it says"),
    "a bracket in text": ("a.txt", "[1] Smith, 2004\n[2] Jones\n", "text", "nothing"),
    "CSV": ("a.csv", CSV, "table", "names the column 'text' among 2"),
    "CSV of any name": ("a.txt", CSV, "table", "names the column 'text' among 2"),
    "CSV without that name": ("a.csv", "body,x\nHola,1\n", "table", "its name ends in .csv"),
    "CSV with one column": ("a.csv", "text\nHola\n", "table", "its name ends in .csv"),
    "vertical bars": ("a.txt", "id|text\n1|Hola, tú\n2|Adiós\n", "table", "names the column 'text'"),
    "a table with a broken row": ("a.txt", "id,text\n1,Hola, tú\n", "table", "names the column 'text'"),
    "prose with commas": ("a.txt", PROSE, "text", "nothing"),
    "lines with tabs": ("a.txt", "1\tHola.\n2\tAdiós.\n", "text", "nothing"),
    "HTML": ("a.txt", "<!DOCTYPE html>\n<p>Hola", "markup", "it begins with <!DOCTYPE html> <p>Hola"),
    "XML": ("a.txt", '<?xml version="1.0"?><TEI/>', "markup", "it begins with <?xml"),
    "tags": ("a.html", "<div><p>Hola</p><p>tú</p></div>", "markup", "it begins with <div>"),
    "HTML without an end": ("a.txt", "Uno <b>dos</b> <i>tres</i> <a href='x'>x</a>", "markup", "of it are tags such"),
    "less-than signs": ("a.txt", "a < b and b > c\n<3 you\n", "text", "nothing"),
    "CoNLL": ("train.txt", CONLL, "conll", "column 3 of 4"),
    "CoNLL with comments": ("a.tsv", GERMEVAL, "conll", "column 3 of 4"),
    "CoNLL-U": ("a.txt", CONLLU, "conllu", "ten columns"),
    "white space": ("a.txt", " \n\n", "text", "only white space"),
    "nothing": ("a.json", "", "empty", "there is nothing in it"),
    "parquet": ("a.bin", "PAR1\0\0\0", "parquet", "begins with PAR1"),
    "PDF": ("a.txt", "%PDF-1.7\n", "binary", "it is PDF"),
    "bytes": ("a.txt", "".join(map(chr, range(128))) * 9, "binary", "are control characters"),
    "NULs in text": ("a.txt", "tw\0o\0 words here", "text", "nothing"),
}


@pytest.mark.parametrize("case", CASES)
def test_the_content_says_what_a_file_is(tmp_path, case):
    name, content, kind, reason = CASES[case]
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    (file,) = files_in(tmp_path / name)
    found = sniff(file, names=("text",))
    assert (found.kind, reason in found.because) == (kind, True), found
    assert str(found).startswith(KINDS[kind])
    assert (found.table is not None) == (kind == "table" or case == "lines with tabs")


@pytest.mark.parametrize(
    ("content", "delimiter", "quote"),
    [
        ("id;text\n1;1,5 y más\n2;Hola, tú\n", ";", '"'),
        ("id|text\n1|Hola, tú; y más\n2|Adiós\n", "|", '"'),
        ('text\tid\n"Ay", dijo\t1\nNo\t2\n', "\t", ""),  # GLUE's way: a quote is a part of the text
        ('text\tid\n"Ay ""no"""\t1\nNo\t2\n', "\t", '"'),  # as pandas writes it
        ('"text"\t"id"\n"Ay"\t"1"\n', "\t", '"'),
        ("\ttext\n0\tHola, tú\n1\tx\n", "\t", ""),  # a column without a name
        ('text,id\n"una\ndos",1\n', ",", '"'),
    ],
)
def test_delimiters_and_quotes(tmp_path, content, delimiter, quote):
    (tmp_path / "a").write_text(content)
    (file,) = files_in(tmp_path / "a")
    shape = sniff(file, names=("text",)).table
    assert (shape.delimiter, shape.quote) == (delimiter, quote)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_utf16_is_refused(tmp_path, encoding):
    (tmp_path / "a.txt").write_bytes("El año que viene.\n".encode(encoding))
    (file,) = files_in(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a.txt is in UTF-16, not UTF-8: .*iconv"):
        sniff(file)


def test_a_byte_order_mark_and_a_character_cut_at_the_end_of_the_head_do_not_matter(tmp_path):
    (tmp_path / "a").write_bytes(b"\xef\xbb\xbf" + b'{"text": "' + "ñ".encode() * 70_000 + b'"}\n{"text": "b"}\n')
    (file,) = files_in(tmp_path / "a")
    assert sniff(file).kind == "jsonl"

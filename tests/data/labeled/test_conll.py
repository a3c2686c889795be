import gzip

import pytest

from tests.data.labeled.configs import labeled
from tx_jax.data.labeled import readers
from tx_jax.errors import InputError

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP B-ORG
rejects VBZ B-VP O

-DOCSTART- -X- -X- O


# # B-NP O
. . O O
"""

CONLLU = """# newdoc id = a
# text = del gato
1-2\tdel\t_\t_\t_\t_\t_\t_\t_\t_
1\tde\tde\tADP\tE\t_\t3\tcase\t_\t_
2\tel\tel\tDET\tD\t_\t3\tdet\t_\t_
2.1\tgran\tgran\tADJ\t_\t_\t_\t_\t_\t_
3\t10 000\t10 000\tNUM\tN\t_\t0\troot\t_\tSpaceAfter=No

# text = #
1\t#\t#\tSYM\t_\t_\t0\troot\t_\t_"""


def read(path, content, **changes):
    data = content.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return readers.read(str(path), labeled(**changes))


@pytest.mark.parametrize("separator", [" ", "\t", "  "])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_conll_columns(tmp_path, separator, end):
    columns = {"columns": ("word", "pos", "chunk", "ner"), "text": ("word",), "label": "ner"}
    text = CONLL_2003.replace(" ", separator).replace("\n", end)
    found = read(tmp_path / "a.conll", text, **columns)
    assert [(record["word"], record["ner"]) for record in found] == [
        (["EU", "rejects"], ["B-ORG", "O"]),
        (["#", "."], ["O", "O"]),
    ]
    assert found[0]["pos"] == ["NNP", "VBZ"]


def test_conll_columns_without_names_are_numbered(tmp_path):
    found = read(tmp_path / "esp.train", "Melbourne B-LOC\n( O", format="conll", text=("0",), label="1")
    assert found == [{"0": ["Melbourne", "("], "1": ["B-LOC", "O"]}]


def test_a_word_may_hold_any_other_space(tmp_path):
    found = read(tmp_path / "a.conll", "10\u00a0000 NUM\n\u2028 X\n", text=("0",), label="1")
    assert found[0]["0"] == ["10\u00a0000", "\u2028"]


def test_conllu_gives_the_syntactic_words(tmp_path):
    found = read(tmp_path / "a.conllu.gz", CONLLU, text=("form",), label="upos")
    assert [record["form"] for record in found] == [["de", "el", "10 000"], ["#"]]
    assert [record["upos"] for record in found] == [["ADP", "DET", "NUM"], ["SYM"]]
    assert found[0]["misc"] == ["_", "_", "SpaceAfter=No"]


@pytest.mark.parametrize(
    ("name", "text", "changes", "expected"),
    [
        ("a.conll", "", {}, "a.conll is empty"),
        ("a.conll", "\n\n-DOCSTART- O\n", {}, "a.conll is empty"),
        ("a.conllu", "# text = a\n", {}, "a.conllu is empty"),
        ("a.conll", "a O\nb\n", {}, r"a.conll, line 2: 1 columns, not 2 \(0, 1\)"),
        ("a.conll", "a O\n\nb O B-PER\n", {}, "line 3: 3 columns, not 2"),
        ("a.conll", "a O\n", {"columns": ("word", "pos", "ner")}, r"line 1: 2 columns, not 3 \(word, pos, ner\)"),
        ("a.conll", "a O\n", {"label": "ner"}, "a.conll, line 1: no column 'ner' among '0', '1'"),
        ("a.conllu", "1\ta\tb\n", {}, r"line 1: 3 columns, not 10 \(id, form"),
        ("a.conllu", "a O\n", {}, "line 1: begins with 'a O' where CoNLL-U has a word's number"),
        ("a.conllu", CONLLU, {"text": ("word",), "label": "upos"}, "line 4: no column 'word' among 'id', 'form'"),
    ],
)
def test_bad_input(tmp_path, name, text, changes, expected):
    with pytest.raises(InputError, match=expected):
        read(tmp_path / name, text, **{"text": ("0",), "label": "1"} | changes)

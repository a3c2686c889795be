"""Pairs from every kind of file, and files that are no pairs."""

import gzip
import json

import pytest

from tests.data.translation.pairs import made, write
from tx_jax.data.translation import sources
from tx_jax.data.translation.sources import PairSource
from tx_jax.errors import InputError

PAIRS = [*made(5), ('mit "Anführung", Komma', 'with "quotes", comma'), ("leer", "")]


def test_every_kind_of_file(tmp_path):
    spec = write(tmp_path, "a", PAIRS)
    assert list(PairSource(spec).pairs()) == PAIRS
    for part in spec.split(","):
        with open(part, "rb") as file, gzip.open(f"{part}.gz", "wb") as packed:
            packed.write(file.read())
    assert list(PairSource(",".join(f"{part}.gz" for part in spec.split(","))).pairs()) == PAIRS

    (tmp_path / "a.tsv").write_text("".join(f"{a}\t{b}\n" for a, b in PAIRS))
    assert list(PairSource(str(tmp_path / "a.tsv")).pairs()) == PAIRS
    (tmp_path / "b.tsv").write_text("en\tde\n" + "".join(f"{b}\t{a}\n" for a, b in PAIRS))
    assert list(PairSource(str(tmp_path / "b.tsv"), ("de", "en")).pairs()) == PAIRS
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"en": b, "de": a}) + "\n" for a, b in PAIRS))
    assert list(PairSource(str(tmp_path / "a.jsonl"), ("de", "en")).pairs()) == PAIRS
    (tmp_path / "a.csv").write_text('source,target\n"ein ""Wort"", ja",yes\n')
    assert list(PairSource(str(tmp_path / "a.csv")).pairs()) == [('ein "Wort", ja', "yes")]


def test_a_tfds_data_set(monkeypatch):
    """Texts are bytes there, by column name, as in wmt14_translate."""
    records = [{"de": a.encode(), "en": b.encode()} for a, b in PAIRS]
    asked = []
    monkeypatch.setattr(sources, "open_tfds", lambda *arguments: asked.append(arguments) or records)
    assert list(PairSource("tfds:wmt14_translate/de-en#validation", ("de", "en"), "folder").pairs()) == PAIRS
    assert asked == [("wmt14_translate/de-en", "validation", "folder")]
    with pytest.raises(InputError, match="has no column 'source', but de, en: give --columns"):
        list(PairSource("tfds:wmt14_translate/de-en").pairs())


@pytest.mark.parametrize(("more", "counts"), [("de", (9, 7)), ("en", (7, 9))])
def test_both_counts_of_lines_are_named(tmp_path, more, counts):
    spec = write(tmp_path, "a", PAIRS)
    with (tmp_path / f"a.{more}").open("a") as file:
        file.write("eins\nzwei\n")
    with pytest.raises(InputError, match=rf"a\.de has {counts[0]} lines and .*a\.en {counts[1]}: the lines of both"):
        list(PairSource(spec).pairs())


def test_bad_files(tmp_path):
    spec = write(tmp_path, "a", PAIRS)
    with pytest.raises(InputError, match=r"missing\.en is not a file of pairs"):
        list(PairSource(f"{tmp_path}/a.de,{tmp_path}/missing.en").pairs())
    with pytest.raises(InputError, match="give two files whose lines belong together, or one with both sides"):
        list(PairSource(f"{spec},{tmp_path}/a.de").pairs())
    with pytest.raises(InputError, match=r"one file of pairs ends in \.tsv"):
        list(PairSource(f"{tmp_path}/a.de").pairs())
    (tmp_path / "a.en").write_bytes("café\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"a\.en, line 1, byte 3: not valid UTF-8"):
        list(PairSource(spec).pairs())
    (tmp_path / "a.tsv").write_text("eins\tone\nzwei\n")
    with pytest.raises(InputError, match=r"a\.tsv, line 2: 1 columns, but a pair needs 2"):
        list(PairSource(str(tmp_path / "a.tsv")).pairs())
    (tmp_path / "a.jsonl").write_text('{"source": "eins"}\n')
    with pytest.raises(InputError, match="line 1 has no texts with the keys 'source' and 'target'"):
        list(PairSource(str(tmp_path / "a.jsonl")).pairs())

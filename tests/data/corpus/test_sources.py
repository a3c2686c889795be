import gzip
import json
import subprocess
import sys
import tracemalloc

import pytest

from tx_jax.data.corpus.sources import Source, SourceConfig
from tx_jax.errors import InputError


def read(*specs, **options):
    source = Source(SourceConfig(tuple(map(str, specs)), **options))
    return list(source), source


def write(path, data: bytes):
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


TEXT = b"First line.\nSecond.\n\n \t\nNext document\n"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize(
    ("documents", "expected"),
    [
        ("blank_line", ["First line.\nSecond.\n", "Next document\n"]),
        ("file", [TEXT.decode()]),
        ("line", ["First line.\n", "Second.\n", "Next document\n"]),
    ],
)
def test_what_ends_a_document(tmp_path, name, documents, expected):
    found, source = read(write(tmp_path / name, TEXT), documents=documents)
    assert found == expected
    assert source.fraction_read == 1.0
    assert list(source) == expected  # and again from the start


def test_globs_come_in_the_order_given_and_files_sorted(tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("b.txt", "a.txt", "c.txt.gz", "deep/d.txt", "other.md"):
        write(tmp_path / name, name.encode())
    found, source = read(tmp_path / "other.md", tmp_path / "**/*.txt", tmp_path / "*.gz")
    assert found == ["other.md", "a.txt", "b.txt", "deep/d.txt", "c.txt.gz"]
    assert [name for name, _ in source.signature] == [
        str(tmp_path / name) for name in ("other.md", "a.txt", "b.txt", "deep/d.txt", "c.txt.gz")
    ]


def test_a_byte_order_mark_carriage_returns_and_nuls_are_removed(tmp_path):
    found, source = read(write(tmp_path / "a.txt", b"\xef\xbb\xbfOne\r\ntw\0o\0\r\n\r\nThree \xef\xbb\xbf kept\r\n"))
    assert found == ["One\ntwo\n", "Three \ufeff kept\n"]
    assert dict(source.counts) == {"nul": 2}


INVALID = b"Fine.\nCaf\xe9 here.\nAlso fine.\n\nLast \xff\xfe.\n"


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_invalid_utf8_is_an_error_that_says_where(tmp_path, name):
    path = write(tmp_path / name, INVALID)
    with pytest.raises(InputError, match=rf"{name}, line 2, byte 9: not valid UTF-8 .*iconv.*replace or skip"):
        read(path)


def test_invalid_utf8_replaced_or_skipped_is_counted(tmp_path):
    path = write(tmp_path / "a.txt", INVALID)
    found, source = read(path, encoding_errors="replace")
    assert found == ["Fine.\nCaf\ufffd here.\nAlso fine.\n", "Last \ufffd\ufffd.\n"]
    assert dict(source.counts) == {"invalid_utf8": 2}
    found, source = read(path, encoding_errors="skip")
    assert found == ["Fine.\nAlso fine.\n"]
    assert dict(source.counts) == {"invalid_utf8": 2}


def test_utf16_is_recognised(tmp_path):
    with pytest.raises(InputError, match=r"a.txt is in UTF-16, not UTF-8: .*iconv"):
        read(write(tmp_path / "a.txt", "Año".encode("utf-16")))


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_json_lines(tmp_path, name):
    records = [{"body": "One.\n\nStill one. \u00f1\0"}, {"body": "Two.", "text": "no"}]
    path = write(tmp_path / name, "\n\n".join(map(json.dumps, records)).encode())
    found, source = read(path, field="body")
    assert found == ["One.\n\nStill one. ñ", "Two."]
    assert dict(source.counts) == {"nul": 1}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"title": "x", "body": "y"}', r"line 2: no field 'text', found: title, body; name the field"),
        (b"{}", r"line 2: no field 'text', found: none"),
        (b'["text"]', r"line 2: no field 'text', found: a list"),
        (b'{"text": 3}', r"line 2: field 'text' is not text but int"),
        (b'{"text": null}', r"line 2: field 'text' is not text but NoneType"),
        (b'{"text": "x"', r"line 2: not valid JSON \("),
        (b'{"text": "\xff"}', r"line 2, byte 25: not valid UTF-8"),
        (b'{"text": "\\ud800"}', r"line 2: not valid UTF-8"),
    ],
)
def test_bad_json_lines_are_errors_that_say_where(tmp_path, line, message):
    with pytest.raises(InputError, match=rf"a.jsonl, {message}"):
        read(write(tmp_path / "a.jsonl", b'{"text": "ok"}\n' + line + b"\n"))


def test_skipping_invalid_utf8_drops_the_record_and_keeps_line_numbers(tmp_path):
    path = write(tmp_path / "a.jsonl", b'{"text": "\xff"}\n{"text": "\\ud800"}\n{"text": "ok"}\n{"text": 1}\n')
    source = Source(SourceConfig((str(path),), encoding_errors="skip"))
    documents = iter(source)
    assert next(documents) == "ok"
    assert source.counts["invalid_utf8"] == 2
    with pytest.raises(InputError, match="line 4: field 'text' is not text"):
        next(documents)


@pytest.mark.parametrize("damage", ["truncated", "scrambled", "wrong checksum"])
def test_a_damaged_gz_file_is_named(tmp_path, damage):
    lines = "".join(f"Line {i * i} of the text.\n" for i in range(1000))
    data = bytearray(gzip.compress(lines.encode()))
    if damage == "truncated":
        del data[-20:]
    elif damage == "scrambled":
        data[20:200] = bytes(180)
    else:
        data[-6] ^= 0xFF
    (tmp_path / "a.txt.gz").write_bytes(data)
    with pytest.raises(InputError, match=r"a.txt.gz is damaged after line \d+ \(.*download or compress it again"):
        read(tmp_path / "a.txt.gz")


def test_bad_settings_are_errors(tmp_path):
    with pytest.raises(InputError, match=r"no file matches '.*nothing\*'"):
        read(tmp_path / "nothing*")
    with pytest.raises(InputError, match="no file matches"):
        read(tmp_path)  # a folder is not a file
    with pytest.raises(InputError, match="no source of documents"):
        read()
    with pytest.raises(InputError, match=r"documents='blank_lines'.*Did you mean 'blank_line'"):
        read("embedded", documents="blank_lines")
    with pytest.raises(InputError, match=r"encoding_errors='ignore': expected one of"):
        read("embedded", encoding_errors="ignore")


def test_reading_is_streaming(tmp_path):
    path = write(tmp_path / "a.txt.gz", b"A sentence of some words.\n\n" * 400_000)  # 11 MB
    documents = iter(Source(SourceConfig((str(path),))))
    next(documents)
    tracemalloc.start()
    count = sum(1 for _ in zip(range(50_000), documents, strict=False))
    assert count == 50_000
    assert tracemalloc.get_traced_memory()[1] < 500_000
    tracemalloc.stop()


def test_nothing_is_read_ahead(tmp_path):
    write(tmp_path / "a.txt", b"Good.\n\n")
    write(tmp_path / "b.txt", b"\xff\n")
    documents = iter(Source(SourceConfig((str(tmp_path / "*.txt"),))))
    assert next(documents) == "Good.\n"
    with pytest.raises(InputError, match=r"b\.txt"):
        next(documents)


@pytest.fixture(scope="module")
def tfds_folder(tmp_path_factory):
    """A small local TFDS data set in ArrayRecord form, made in a process of its own: building one needs more of TFDS
    than reading it, and warns."""
    folder = tmp_path_factory.mktemp("tfds")
    script = """
import sys
import numpy as np
import tensorflow_datasets as tfds

class TinyPages(tfds.core.GeneratorBasedBuilder):
    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="es")]
    pkg_dir_path = sys.argv[1]

    def _info(self):
        features = {"text": tfds.features.Text(), "views": tfds.features.Scalar(np.int64)}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, _):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        for i in range(7):
            yield i, {"text": f"Página {i}.", "views": i}

TinyPages(data_dir=sys.argv[1], file_format="array_record").download_and_prepare()
"""
    subprocess.run([sys.executable, "-c", script, str(folder)], check=True, capture_output=True)
    return folder


def test_tfds(tfds_folder):
    found, source = read("tfds:tiny_pages/es", tfds_data_dir=str(tfds_folder))
    assert sorted(found) == [f"Página {i}." for i in range(7)]
    assert source.fraction_read is None
    part, _ = read("tfds:tiny_pages/es:1.0.0#train[:3]", tfds_data_dir=str(tfds_folder))
    assert part == found[:3]


def test_tfds_errors_name_the_remedy(tfds_folder, tmp_path):
    options = {"tfds_data_dir": str(tfds_folder)}
    with pytest.raises(InputError, match="record 0: no field 'body', found: text, views"):
        read("tfds:tiny_pages/es", field="body", **options)
    with pytest.raises(InputError, match="record 0: field 'views' is not text"):
        read("tfds:tiny_pages/es", field="views", **options)
    with pytest.raises(InputError, match=r"cannot open tfds:tiny_pages/es#test in .*Unknown split 'test'"):
        read("tfds:tiny_pages/es#test", **options)
    with pytest.raises(InputError, match=r"cannot open tfds:no_such_set#train .*download_and_prepare\(file_format="):
        read("tfds:no_such_set", **options)
    # The same data set, stored the way that needs TensorFlow.
    folder = tmp_path / "tiny_pages" / "es" / "1.0.0"
    folder.mkdir(parents=True)
    for path in (tfds_folder / "tiny_pages/es/1.0.0").iterdir():
        data = path.read_bytes().replace(b'"array_record"', b'"tfrecord"')
        (folder / path.name.replace("array_record", "tfrecord")).write_bytes(data)
    with pytest.raises(InputError, match=r"stored as TFRecord, which needs TensorFlow; prepare it with"):
        read("tfds:tiny_pages/es", tfds_data_dir=str(tmp_path))

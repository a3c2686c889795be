import bz2
import gzip
import io
import itertools
import lzma
import zipfile
from collections import Counter

import pyarrow
import pytest

from tx_jax.data.reading import files_in, lines
from tx_jax.errors import InputError


def zstd(data: bytes) -> bytes:
    return pyarrow.compress(data, codec="zstd", asbytes=True)


def zipped(data: bytes) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.txt", data)
    return sink.getvalue()


COMPRESS = {"gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress, "zstd": zstd, "zip": zipped}
TEXT = "".join(f"Línea {i * i}.\n" for i in range(20_000))


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("name", ["a.txt", "a.gz", "noending"])
def test_the_first_bytes_say_how_a_file_is_compressed(tmp_path, compression, name):
    (tmp_path / name).write_bytes(COMPRESS[compression](TEXT.encode()))
    (file,) = files_in(tmp_path / name)
    assert file.compression == compression
    assert list(lines(file)) == list(enumerate(TEXT.splitlines(keepends=True), start=1))


@pytest.mark.parametrize("compression", ["gzip", "bzip2", "xz", "zstd"])
def test_several_compressed_files_in_a_row_are_one(tmp_path, compression):
    (tmp_path / "a").write_bytes(COMPRESS[compression](b"One\ntw") + COMPRESS[compression](b"o\n"))
    (file,) = files_in(tmp_path / "a")
    assert [text for _, text in lines(file)] == ["One\n", "two\n"]


@pytest.mark.parametrize("compression", COMPRESS)
@pytest.mark.parametrize("damage", ["cut off", "scrambled"])
def test_damage_is_one_error_with_the_line(tmp_path, compression, damage):
    data = bytearray(COMPRESS[compression](TEXT.encode()))
    if damage == "cut off":
        del data[-30:]
    else:
        data[10:210] = b"\xff" * 200
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(InputError, match=r"a\.txt\S* is damaged after line \d+ \(.+\): download or compress it again"):
        list(itertools.chain.from_iterable(map(lines, files_in(tmp_path / "a.txt"))))


def test_text_that_damage_makes_invalid_is_called_so(tmp_path):
    """zstd without a checksum, as some programs write it, decompresses to other bytes."""
    (tmp_path / "a.zst").write_bytes(zstd(b"Caf\xe9"))
    (file,) = files_in(tmp_path / "a.zst")
    with pytest.raises(InputError, match=r"not valid UTF-8 .*unless the file is damaged"):
        list(lines(file))


def test_a_plain_file_named_gz_is_read_as_it_is(tmp_path):
    (tmp_path / "a.txt.gz").write_bytes(b"plain")
    (file,) = files_in(tmp_path / "a.txt.gz")
    assert (file.compression, file.ending, list(lines(file))) == (None, ".txt", [(1, "plain")])


def test_a_zip_holds_several_files(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.mkdir("deep")
        for name in ("b.CSV", "deep/a.txt", "__MACOSX/deep/._a.txt", "deep/.DS_Store"):
            archive.writestr(name, name)
    files = files_in(tmp_path / "a.zip")
    assert [str(file) for file in files] == [f"{tmp_path}/a.zip/b.CSV", f"{tmp_path}/a.zip/deep/a.txt"]
    assert [file.ending for file in files] == [".csv", ".txt"]
    assert [list(lines(file)) for file in files] == [[(1, "b.CSV")], [(1, "deep/a.txt")]]


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([], "is a zip that contains no files"),
        (["__MACOSX/x"], "is a zip that contains no files"),
        (["[Content_Types].xml", "word/document.xml"], "is an office document"),
        (["mimetype", "content.xml"], "is an office document"),
    ],
)
def test_zips_without_text_are_refused(tmp_path, members, message):
    with zipfile.ZipFile(tmp_path / "a.docx", "w") as archive:
        for name in members:
            archive.writestr(name, name)
    with pytest.raises(InputError, match=message):
        files_in(tmp_path / "a.docx")


def test_an_encrypted_zip_is_refused(tmp_path):
    data = bytearray(zipped(b"text"))
    data[data.index(b"PK\x01\x02") + 8] |= 1
    data[6] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(InputError, match=r"inside\.txt is encrypted"):
        files_in(tmp_path / "a.zip")


def test_invalid_utf8_by_policy(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfFine.\nCaf\xe9.\nLast")
    (file,) = files_in(tmp_path / "a.txt")
    with pytest.raises(InputError, match=r"a.txt, line 2, byte 12: not valid UTF-8 \(0xe9\); save it .* a.txt"):
        list(lines(file))
    counts = Counter()
    assert list(lines(file, invalid="replace", counts=counts)) == [(1, "Fine.\n"), (2, "Caf\ufffd.\n"), (3, "Last")]
    assert list(lines(file, invalid="skip", counts=counts)) == [(1, "Fine.\n"), (3, "Last")]
    assert counts == {"invalid_utf8": 2}


def test_how_far_the_file_on_disk_is_read(tmp_path):
    (tmp_path / "a").write_bytes(gzip.compress(TEXT.encode()))
    (file,) = files_in(tmp_path / "a")
    with file.open() as stream:
        seen = [stream.bytes_on_disk for _ in lines(file, stream=stream)]
    assert seen == sorted(seen)
    assert len(set(seen)) > 2
    assert seen[-1] == (tmp_path / "a").stat().st_size

"""Paths as they are given, files replaced whole, and what JSON they hold."""

import json
import math
import os
import re
import tempfile
from pathlib import Path

import pytest

from tx_jax.errors import InputError
from tx_jax.files import (
    check_writable,
    json_text,
    local_path,
    nearest_folder,
    path_of,
    reason_against_writing,
    write_atomically,
)


def test_the_text_is_on_disk_before_it_takes_the_name(tmp_path, monkeypatch):
    done, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda number: (done.append("sync"), fsync(number)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "a.json", "niño\n")
    assert (tmp_path / "a.json").read_text(encoding="utf-8") == "niño\n"
    assert done == ["sync", "replace", "sync"]
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_failure_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "a.json").write_text("old")

    def full(number):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_atomically(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_what_is_not_finite_is_null():
    values = {"a": math.nan, "b": [1.5, -math.inf, {"c": (math.inf, 2)}], "d": "NaN", "e": True}
    text = json_text(values)
    assert json.loads(text, parse_constant=pytest.fail) == {
        "a": None,
        "b": [1.5, None, {"c": [None, 2]}],
        "d": "NaN",
        "e": True,
    }
    assert json.loads(json_text(0.1 + 0.2)) == 0.1 + 0.2


# What goes to other programs or into a digest, and the definitions of tokenizers and models in a form of their own.
NOT_FILES_OF_OURS = (
    "text/",
    "convert/",
    "hosts/distributed.py",
    "tasks/supervised.py",
    "data/json_values.py",
    "data/corpus/index.py",
)


def test_every_file_of_json_is_made_in_one_place():
    """So that none can hold NaN."""
    root = Path(__file__).parent.parent
    found = []
    for path in sorted([*(root / "tx_jax").rglob("*.py"), *(root / "experiments").rglob("*.py")]):
        name = path.relative_to(root).as_posix().removeprefix("tx_jax/")
        if re.search(r"\bjson\.dumps?\(", path.read_text()) and not name.startswith(NOT_FILES_OF_OURS):
            found.append(name)
    assert found == ["files.py"], "use tx_jax.files.json_text, or say here why not"


@pytest.mark.parametrize(
    "given",
    ["gs://bucket/run", "s3://b/k", "hdfs://host:9000/x", "http://x.org/a.csv", "file:///tmp/x", "GS://b", "gs:/b"],
)
def test_what_must_be_here_is_on_no_store(given):
    with pytest.raises(InputError, match=rf"--field={given}: this cannot be on \w+://, only in this machine's file"):
        local_path(given, "--field")


def test_an_address_on_the_hub_is_answered_with_its_name():
    with pytest.raises(InputError, match=r"by its name alone, google-bert/bert-base-cased$"):
        path_of("https://huggingface.co/google-bert/bert-base-cased/tree/main", "start_from")


@pytest.mark.parametrize(
    "given",
    ["runs/a", "/tmp/a", "C:/a", "google-bert/bert-base-cased", "tfds:glue/cola#train", "a:b", "texts/*.txt", ""],
)
def test_any_other_text_is_a_path_as_it_is(given):
    assert local_path(given, "x") == path_of(given, "x") == path_of(given, "x", reads=True) == Path(given)


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    assert reason_against_writing(tmp_path / "file" / "run").endswith("is not a folder")
    assert reason_against_writing(tmp_path / "new" / "run") is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert nearest_folder(tmp_path / "new" / "run") == tmp_path
    assert nearest_folder(Path("no-such-folder")) == Path.cwd()
    assert "File name too long" in reason_against_writing(tmp_path / ("x" * 300))

    def refused(dir):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)  # to root nothing is refused
    with pytest.raises(InputError, match=r"^workdir=.*new: .* cannot be written \(Permission denied\): give another"):
        check_writable(tmp_path / "new", "workdir")

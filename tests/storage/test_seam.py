"""The seam, on a store in memory: what callers do with a path does there what it does here."""

import contextlib
import errno
import fcntl
import gzip
import json
import logging

import numpy as np
import pytest

from tests.conftest import write_corpus
from tests.convert import folders
from tests.data.labeled import configs
from tests.storage.memory import MemoryStore
from tx_jax import text
from tx_jax.convert import model_dir
from tx_jax.data.corpus.config import PrepareConfig, SourceConfig
from tx_jax.data.corpus.prepare import prepare
from tx_jax.data.corpus.sources import Source
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.data.labeled import readers, writers
from tx_jax.errors import InputError
from tx_jax.files import (
    check_free,
    check_writable,
    local_folder,
    move_folder,
    new_folder,
    path_of,
    remove_folder,
    replace_folder,
    write_atomically,
)
from tx_jax.runs import manifest, metrics_log
from tx_jax.runs.metrics_log import MetricsLog
from tx_jax.runs.open_model import locate, open_model
from tx_jax.storage import cache, schemes
from tx_jax.storage.failures import AccessDenied, StoreError

pytestmark = pytest.mark.usefixtures("memory")


def at(address="gs://bucket/a folder/ü"):
    return path_of(address, "--x")


def test_a_path_on_a_store_is_used_like_one_of_this_machine():
    folder = at()
    file = folder / "sub" / "x.tar.gz"
    assert not folder.exists()
    assert not folder.is_dir()
    file.write_text("one\ntwo\n")
    assert folder.is_dir()
    assert file.is_file()
    assert not file.is_dir()
    assert (file.name, file.stem, file.suffix, file.suffixes) == ("x.tar.gz", "x.tar", ".gz", [".tar", ".gz"])
    assert str(file.parent) == "gs://bucket/a folder/ü/sub"
    assert file.relative_to(folder).as_posix() == "sub/x.tar.gz"
    assert file.stat().st_size == 8
    assert file.stat().st_mtime > 1e9
    assert file.with_name("y") == folder / "sub/y"
    assert list(folder.iterdir()) == [folder / "sub"]
    assert list(folder.glob("s*/*.gz")) == [file]
    assert [found.name for found in folder.objects()] == ["sub/x.tar.gz"]
    with file.open() as lines:
        assert list(lines) == ["one\n", "two\n"]
    with file.open("rb") as stream:
        assert (stream.read(2), stream.tell(), stream.seek(4), stream.read()) == (b"on", 2, 4, b"two\n")
    file.unlink()
    file.unlink(missing_ok=True)
    with pytest.raises(FileNotFoundError, match="no such object"):
        file.read_text()
    assert str(at("gs://bucket").parent) == "gs://bucket"


def test_a_path_on_a_store_is_not_taken_for_one_of_this_machine():
    """Such as by open(), which would make a folder `gs:` here."""
    with pytest.raises(TypeError):
        open(at())  # noqa: SIM115


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("gs://bucket/../x", r"cannot contain `\.\.`"),
        ("gs://bucket/./x", r"cannot contain `\.\.` or `\.`"),
        ("gs:/bucket/x", "two slashes"),
        ("gs://", "a part of it is empty"),
        ("gs://bucket//x", "a part of it is empty"),
        ("gs://bucket/x[1]", r"'\[' has another meaning"),
        ("gs://bucket/x\ny", "another meaning"),
        ("memory://x/y", "not supported here.*files to read may"),
        ("nowhere://x/y", "not supported here, only gs:// and s3://"),
        ("file:///x", "not supported here"),
    ],
)
def test_bad_addresses_are_refused_without_asking_the_store(address, problem):
    MemoryStore.failing["list"] = AssertionError("asked")
    with pytest.raises(InputError, match=problem):
        path_of(address, "--x")


def test_a_missing_library_is_named(monkeypatch):
    def missing(scheme):
        raise ImportError("no module")

    monkeypatch.setattr(schemes.fsspec, "get_filesystem_class", missing)
    schemes.filesystem.cache_clear()
    with pytest.raises(InputError, match=r"--workdir=gs://bucket/x: gs:// needs gcsfs, which is missing: pip install"):
        path_of("gs://bucket/x", "--workdir")


@pytest.mark.parametrize(("asked_for", "logs"), [(logging.NOTSET, False), (logging.DEBUG, True)])
def test_a_library_does_not_log_what_it_raises(asked_for, logs):
    logger = logging.getLogger("gcsfs")
    logger.setLevel(asked_for)
    schemes.filesystem.cache_clear()
    try:
        path_of("gs://bucket/x", "--workdir")
        assert logger.isEnabledFor(logging.ERROR) == logs
    finally:
        logger.setLevel(logging.NOTSET)


def test_a_missing_bucket_and_missing_permission_are_input_errors():
    with pytest.raises(InputError, match=r"--workdir=gs://nobody/x: there is no bucket gs://nobody"):
        schemes.check_reachable("gs://nobody/x", "--workdir")
    schemes.check_reachable("gs://bucket/x", "--workdir")
    MemoryStore.failing["write"] = OSError("Forbidden: b/bucket/o\nno storage.objects.create access")
    with pytest.raises(InputError, match=r"--out=gs://bucket/x: no permission \(Forbidden: .*gcloud auth application"):
        check_writable(at("gs://bucket/x"), "--out")


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (OSError("Forbidden: b/bucket/o"), AccessDenied, "no permission"),
        (
            type("DefaultCredentialsError", (Exception,), {"__module__": "google.auth"})("none"),
            AccessDenied,
            "no usable",
        ),
        (
            type("HttpError", (Exception,), {"__module__": "gcsfs.retry", "code": 401})("x"),
            AccessDenied,
            "no permission",
        ),
        (
            type("HttpError", (Exception,), {"__module__": "gcsfs.retry", "code": 503})("x"),
            StoreError,
            "does not do it",
        ),
        (TimeoutError(), StoreError, "does not do it"),
    ],
)
def test_what_libraries_raise_names_the_object(error, kind, text):
    MemoryStore.failing["write"] = error
    with pytest.raises(kind, match=text) as raised:
        write_atomically(at(), "x")
    assert raised.value.filename == str(at())
    assert isinstance(raised.value, OSError)


def test_an_error_of_the_program_stays_what_it_is():
    MemoryStore.failing["write"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        write_atomically(at(), "x")


def test_folders_are_made_replaced_moved_and_removed(tmp_path):
    def fill(folder, **files):
        for name, content in files.items():
            (folder / name).write_text(content)

    folder = at()
    replace_folder(folder, lambda made: fill(made, a="1", b="2"))
    replace_folder(folder, lambda made: fill(made, b="3"))
    assert [(found.name, (folder / found.name).read_text()) for found in folder.objects()] == [("b", "3")]
    move_folder(folder, at("gs://bucket/moved"))
    assert not folder.exists()
    assert at("gs://bucket/moved/b").read_text() == "3"
    with pytest.raises(InputError, match="exists and is not empty"):
        check_free(at("gs://bucket/moved"))
    remove_folder(at("gs://bucket/moved"))
    with new_folder(at("gs://bucket/new"), last="last.json") as made:
        fill(made, **{"last.json": "{}", "z": "z"})
        assert not at("gs://bucket/new").exists()
    assert list(MemoryStore.store)[-1] == "/bucket/new/last.json"


def test_an_upload_that_fails_half_way_leaves_nothing_that_looks_whole(monkeypatch):
    uploads = []

    def put_file(self, lpath, rpath, **kwargs):
        uploads.append(rpath)
        if len(uploads) == 2:
            raise OSError("connection reset")
        return super(MemoryStore, self).put_file(lpath, rpath, **kwargs)

    monkeypatch.setattr(MemoryStore, "put_file", put_file)
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(new_folder(at(), last="c"))
        for name in "abc":
            (made / name).write_text(name)
        with pytest.raises(StoreError, match="connection reset"):
            stack.close()
    assert len(uploads) == 2
    assert not at().exists()


def test_metrics_are_there_after_a_sync_and_a_resumed_run_drops_later_ones():
    workdir = at("gs://bucket/run")
    with MetricsLog(workdir, start_step=0) as log:
        log.write(1, "train", {"loss": 1.0})
        assert not metrics_log.read(workdir)
        log.sync()
        assert [record["step"] for record in metrics_log.read(workdir)] == [1]
        for step in (2, 3):
            log.write(step, "train", {"loss": 1.0})
    assert [record["step"] for record in metrics_log.read(workdir)] == [1, 2, 3]
    with MetricsLog(workdir, start_step=2) as log:
        log.write(3, "train", {"loss": 2.0})
    assert [record["loss"] for record in metrics_log.read(workdir)] == [1.0, 1.0, 2.0]
    assert any((workdir / "tb").iterdir())


def test_a_log_that_cannot_be_written_is_an_error_at_the_sync(tmp_path):
    log = MetricsLog(at("gs://bucket/run"), start_step=0)
    log.write(1, "train", {"loss": 1.0})
    MemoryStore.failing["write"] = OSError("Forbidden: b/bucket/o")
    with pytest.raises(AccessDenied, match="no permission"):
        log.sync()
    MemoryStore.failing.clear()
    log.__exit__(None, None, None)


@pytest.mark.parametrize("damage", ["none", "missing", "truncated", "changed", "manifest missing"])
def test_a_checkpoint_on_a_store_is_verified(damage):
    folder = at("gs://bucket/checkpoints/5")
    (folder / "_CHECKPOINT_METADATA").write_text(json.dumps({"custom_metadata": manifest.MARK}))
    (folder / "default/ocdbt.process_0/d/x").write_bytes(b"0123")
    (folder / "default/y").write_bytes(b"4567")
    manifest.hash_own(folder / "default", 0)
    manifest.write(folder)
    assert not list(folder.glob("default/hashes*"))
    x = folder / "default/ocdbt.process_0/d/x"
    if damage == "missing":
        x.unlink()
    elif damage == "truncated":
        x.write_bytes(b"01")
    elif damage == "changed":
        x.write_bytes(b"0124")
    elif damage == "manifest missing":
        (folder / manifest.NAME).unlink()
    problems = {
        "none": None,
        "missing": "default/ocdbt.process_0/d/x is missing",
        "truncated": "default/ocdbt.process_0/d/x has 2 bytes, not 4",
        "changed": "default/ocdbt.process_0/d/x has another checksum",
        "manifest missing": "manifest.json is missing",
    }
    assert manifest.problem(folder) == problems[damage]


def test_what_the_store_has_a_checksum_of_is_not_read_again(monkeypatch):
    info = MemoryStore.find
    monkeypatch.setattr(
        MemoryStore, "find", lambda *a, **k: {n: i | {"crc32c": "abc"} for n, i in info(*a, **k).items()}
    )
    folder = at("gs://bucket/checkpoints/5")
    (folder / "default/y").write_bytes(b"4567")
    manifest.write(folder)
    opened = []
    monkeypatch.setattr(MemoryStore, "open", lambda self, path, *a, **k: opened.append(path))
    assert manifest.problem(folder) is None
    assert opened == []


def labeled(*lines):
    return "text\tlabel\n" + "".join(f"{line}\n" for line in lines)


def test_labeled_files_are_read_and_written():
    config = configs.labeled()
    at("gs://bucket/data/a.tsv").write_text(labeled("good\tyes", "bad\tno"))
    at("gs://bucket/data/b.tsv.gz").write_bytes(gzip.compress(labeled("ñ\tyes").encode()))
    records = readers.read("gs://bucket/data/*", config)
    assert [record["text"] for record in records] == ["good", "bad", "ñ"]
    out = at("gs://bucket/out/labeled.csv")
    writers.check(out, records, source="gs://bucket/data/*")
    writers.write(out, records)
    assert readers.read(str(out), config) == records
    with pytest.raises(InputError, match="is an input file, which would be lost"):
        writers.check(at("gs://bucket/data/a.tsv"), source="gs://bucket/data/*")
    with pytest.raises(InputError, match="no file matches 'gs://bucket/none/\\*'"):
        readers.read("gs://bucket/none/*", config)


def test_other_schemes_of_fsspec_are_read():
    import fsspec

    fsspec.filesystem("memory").pipe_file("/elsewhere/text.txt", b"One.\n\nTwo.\n")
    try:
        assert list(Source(SourceConfig(specs=("memory://elsewhere/*.txt",)))) == ["One.\n", "Two.\n"]
    finally:
        fsspec.filesystem("memory").rm_file("/elsewhere/text.txt")


def corpus(tmp_path):
    write_corpus(tmp_path / "text.txt", documents=60)
    at("gs://bucket/texts/text.txt").upload(tmp_path / "text.txt")


def config_of(store, source, **more):
    settings = {"sentences": "line", "vocab_size": 150, "validation_fraction": 0.15, "workers": 1}
    return PrepareConfig(store=store, source=SourceConfig(specs=(str(source),)), **settings | more)


def test_a_token_store_is_prepared_on_a_store_and_read_from_a_copy(tmp_path):
    corpus(tmp_path)
    place = at("gs://bucket/tokens")
    made = prepare(config_of(place, "gs://bucket/texts/*.txt"))
    here = prepare(config_of(tmp_path / "here", tmp_path / "text.txt"))
    assert made.meta["splits"] == here.meta["splits"]
    assert prepare(config_of(place, "gs://bucket/texts/*.txt")).was_complete
    store, local = TokenStore.open("gs://bucket/tokens"), TokenStore.open(tmp_path / "here")
    assert store.fingerprint == local.fingerprint
    np.testing.assert_array_equal(store.split("train").sentence_offsets, local.split("train").sentence_offsets)
    assert store.split("train").name == "gs://bucket/tokens (train)"
    assert store.folder.is_relative_to(cache.root())
    store.verify()
    assert Stores.open("gs://bucket/tokens").tokenizer().fingerprint == local.tokenizer().fingerprint
    assert text.load("gs://bucket/tokens/tokenizer").fingerprint == local.tokenizer().fingerprint
    with pytest.raises(InputError, match=r"made with different settings .*vocab_size"):
        prepare(config_of(place, "gs://bucket/texts/*.txt", vocab_size=140))
    assert (
        prepare(config_of(place, "gs://bucket/texts/*.txt", vocab_size=140, overwrite=True)).meta["vocab_size"] == 140
    )


@pytest.mark.parametrize("damage", ["missing", "truncated", "changed"])
def test_a_token_store_that_is_damaged_or_changes_is_refused(damage, tmp_path):
    corpus(tmp_path)
    place = at("gs://bucket/tokens")
    prepare(config_of(place, "gs://bucket/texts/*.txt"))
    tokens = place / "train/tokens-00000.npy"
    content = tokens.read_bytes()
    if damage == "missing":
        tokens.unlink()
    elif damage == "truncated":
        tokens.write_bytes(content[:-1])
    else:
        tokens.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(InputError, match=r"tokens-00000.npy (is missing|has \d+ bytes instead|has another checksum)"):
        TokenStore.open("gs://bucket/tokens").split("train")


def test_a_foreign_folder_on_a_store_stays_as_it_is(tmp_path):
    corpus(tmp_path)
    with pytest.raises(InputError, match="is not a token store but contains text"):
        prepare(config_of(at("gs://bucket/texts"), "gs://bucket/texts/*.txt"))


def test_copies_are_shared_and_the_cache_has_a_limit(monkeypatch):
    for name in "abc":
        at(f"gs://bucket/{name}/file").write_bytes(name.encode() * 600)
    first = local_folder(at("gs://bucket/a"))
    assert (first / "file").read_bytes() == b"a" * 600
    MemoryStore.failing["read"] = AssertionError("copied again")
    assert local_folder(at("gs://bucket/a")) == first
    MemoryStore.failing.clear()
    (lock,) = cache.root().glob("*.lock")
    with lock.open() as other:  # as another process that uses the copy does
        fcntl.flock(other, fcntl.LOCK_SH)
        cache.forget()
        assert local_folder(at("gs://bucket/a")) == first
    monkeypatch.setenv("TX_JAX_CACHE_GB", "0.000001")
    with pytest.raises(
        InputError, match=r"gs://bucket/b must be copied .* needs 600 bytes, .* has room for 400: delete"
    ):
        local_folder(at("gs://bucket/b"))  # the first is in use
    cache.forget()
    second = local_folder(at("gs://bucket/b"))
    assert not first.exists()
    at("gs://bucket/b/file").write_bytes(b"x" * 300)  # other content is another copy
    cache.forget()
    assert (local_folder(at("gs://bucket/b")) / "file").read_bytes() == b"x" * 300
    assert second != local_folder(at("gs://bucket/b"))
    with pytest.raises(FileNotFoundError):
        local_folder(at("gs://bucket/none"))


def test_a_full_disk_is_told_with_what_helps(monkeypatch):
    at("gs://bucket/a/file").write_bytes(b"a")

    def full(self, file):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("tx_jax.storage.store_path.StorePath.download", full)
    with pytest.raises(InputError, match=r"needs 1 bytes, .*name one on a larger disk with TX_JAX_CACHE"):
        local_folder(at("gs://bucket/a"))


def test_a_model_is_saved_and_loaded():
    model = folders.model()
    model_dir.save(model, at("gs://bucket/model"))
    assert list(MemoryStore.store)[-1] == "/bucket/model/model.json"
    place = locate("gs://bucket/model")
    assert (place.kind, place.source) == ("converted model", "model")
    opened = open_model("gs://bucket/model")
    assert opened.config == model.config
    for path, value in model.params.items():
        np.testing.assert_array_equal(opened.params[path], value)

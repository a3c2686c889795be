"""Indexes: made once, found by later starts, never half of one, and never in the way where nothing can be written."""

import errno
import json
import logging
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from tx_jax.data.corpus import index
from tx_jax.data.corpus.index import Recipe, delete_indexes, open_index
from tx_jax.data.corpus.token_store import TokenStore
from tx_jax.data.corpus.writer import GrowingArray
from tx_jax.errors import InputWarning

COLUMNS = {"squares": np.dtype("<u4"), "signs": np.dtype("<i4")}
EXPECTED = {"squares": np.arange(100) ** 2, "signs": np.tile([1, -1], 30)}


def blocks():
    for begin in range(0, 100, 10):
        yield {"squares": np.arange(begin, begin + 10) ** 2}
        if begin < 60:
            yield {"signs": np.tile([1, -1], 5)}


def recipe(make=blocks, **settings):
    return Recipe("squares", "squares of numbers", settings, COLUMNS, make)


def never():
    raise AssertionError("made again")
    yield {}


def check(found):
    for name, values in EXPECTED.items():
        assert found[name].dtype == COLUMNS[name]
        np.testing.assert_array_equal(found[name], values)


@pytest.fixture
def split(tiny_store, tmp_path, monkeypatch):
    """Of a store that is large enough for an index, and a home of its own."""
    monkeypatch.setattr(index, "SMALL", 0)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    shutil.copytree(tiny_store.path, tmp_path / "store", ignore=shutil.ignore_patterns("index"))
    return TokenStore.open(tmp_path / "store").split("train")


def kept(split):
    """What there is in STORE/index, one folder an index."""
    return sorted((split.folder.parent / "index").glob("*/*"))


def test_an_index_is_made_once_and_mapped_afterwards(split):
    first = open_index(split, recipe(target=126))
    check(first)
    assert open_index(split, recipe(never, target=126)) is first  # phases share it
    del first
    again = open_index(split, recipe(never, target=126))
    check(again)
    assert again.nbytes == 0
    assert not again["squares"].flags.owndata
    (folder,) = kept(split)
    assert sorted(path.name for path in folder.iterdir()) == ["index.json", "signs.npy", "squares.npy"]
    TokenStore.open(split.folder.parent).verify()


def test_what_it_is_made_of_tells_indexes_apart(split):
    store = TokenStore.open(split.folder.parent)
    one, other = recipe(target=126), recipe(target=510)
    for chosen in (one, other):
        open_index(split, chosen)
        open_index(store.split("validation"), chosen)
    assert len(kept(split)) == 4


def test_a_small_split_and_one_of_no_store_stay_in_memory(split, monkeypatch):
    monkeypatch.setattr(index, "SMALL", split.num_tokens + 1)
    found = open_index(split, recipe())
    check(found)
    assert found.nbytes == 100 * 4 + 60 * 4
    monkeypatch.setattr(index, "SMALL", 0)
    monkeypatch.setattr(split, "fingerprint", "")
    check(open_index(split, recipe()))
    assert kept(split) == []


def test_columns_may_be_empty(split):
    for _ in range(2):
        found = open_index(split, recipe(lambda: iter(())))
        assert (len(found["squares"]), found["signs"].dtype) == (0, np.dtype("<i4"))
        del found


def cut(folder):
    path = folder / "squares.npy"
    path.write_bytes(path.read_bytes()[:-4])


def empty(folder):
    (folder / "signs.npy").write_bytes(b"")


def shorter_array(folder):
    np.save(folder / "squares.npy", np.arange(99, dtype=np.uint32))


def other_type(folder):
    np.save(folder / "squares.npy", np.arange(100, dtype=np.int64))


def missing(folder):
    (folder / "signs.npy").unlink()


def no_record(folder):
    (folder / "index.json").unlink()


def half_a_record(folder):
    path = folder / "index.json"
    path.write_text(path.read_text()[:50])


def of_another_version(folder):
    path = folder / "index.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 0}))


@pytest.mark.parametrize(
    "damage", [cut, empty, shorter_array, other_type, missing, no_record, half_a_record, of_another_version]
)
def test_what_is_damaged_is_made_again(split, damage):
    open_index(split, recipe())
    (folder,) = kept(split)
    damage(folder)
    made = []
    check(open_index(split, recipe(lambda: made.append(True) or blocks())))
    assert made
    assert kept(split) == [folder]  # in the place of the damaged one
    check(open_index(split, recipe(never)))


def test_an_error_on_the_way_leaves_nothing(split):
    def failing():
        yield {"squares": np.arange(5)}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        open_index(split, recipe(failing))
    assert kept(split) == []


def test_what_a_kill_leaves_is_not_taken_for_an_index_and_is_deleted_in_time(split, monkeypatch):
    script = f"""
import os, signal
import numpy as np
from tests.data.corpus import test_index
from tx_jax.data.corpus import index
from tx_jax.data.corpus.token_store import TokenStore

def blocks():
    yield {{"squares": np.arange(100_000)}}
    os.kill(os.getpid(), signal.SIGKILL)

index.SMALL = 0
index.open_index(TokenStore.open({str(split.folder.parent)!r}).split("train"), test_index.recipe(blocks))
"""
    assert subprocess.run([sys.executable, "-c", script], timeout=60).returncode == -signal.SIGKILL
    (partial,) = kept(split)
    check(open_index(split, recipe()))
    assert len(kept(split)) == 2  # another process might still be at work on it
    monkeypatch.setattr(index, "ABANDONED_SECONDS", -1)
    open_index(split, recipe(another=1))
    assert len(kept(split)) == 2
    assert partial not in kept(split)


def test_processes_that_make_the_same_do_not_hinder_each_other(split):
    both, found = threading.Barrier(2, timeout=30), []

    def at_once():
        both.wait()
        yield from blocks()
        both.wait()

    threads = [threading.Thread(target=lambda: found.append(open_index(split, recipe(at_once)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        check(one)
    assert len(found) == 2
    assert len(kept(split)) == 1


def test_a_store_that_cannot_be_written_has_its_indexes_in_the_cache(split, tmp_path):
    (split.folder.parent / "index").write_text("in the way")
    with pytest.warns(InputWarning, match=r"store/index cannot be written \(.*\): what is computed .* in .*/home/"):
        first = open_index(split, recipe())
    check(first)
    assert first.nbytes == 0
    open_index(split, recipe(another=1))  # one warning is enough
    del first
    check(open_index(split, recipe(never)))
    cache = tmp_path / "home" / ".cache" / "tx_jax" / "index"
    assert len(list(cache.glob(f"{split.fingerprint[:16]}/train-squares-*"))) == 2


def test_where_nothing_can_be_written_indexes_are_held_in_memory(split, tmp_path):
    (split.folder.parent / "index").write_text("in the way")
    (tmp_path / "home").write_text("in the way")
    with pytest.warns(InputWarning, match=r"store/index cannot .*, .*/home.* cannot .*: what .* is held in memory"):
        found = open_index(split, recipe())
    check(found)
    assert found.nbytes == 100 * 4 + 60 * 4
    assert open_index(split, recipe(never)) is found  # phases share it, too


def test_a_full_disk_leaves_nothing_behind(split, monkeypatch):
    append = GrowingArray.append

    def full(array, items):
        if "home" not in str(array.path) and array.length >= 50:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(array, items)

    monkeypatch.setattr(GrowingArray, "append", full)
    with pytest.warns(InputWarning, match=r"store/index cannot be written \(No space left on device\)"):
        check(open_index(split, recipe()))
    assert kept(split) == []


def test_the_indexes_of_what_the_store_held_before_go(split):
    open_index(split, recipe())
    (old,) = kept(split)
    shutil.copytree(old.parent, old.parent.with_name("0123456789abcdef"))
    half_deleted = old.parent.with_name(f".0123456789abcdef-{'0' * 32}")
    for folder in (half_deleted, old.parent.with_name("mine"), old.parent.with_name(".mine")):
        folder.mkdir()
    open_index(split, recipe(another=1))
    assert sorted(path.name for path in old.parent.parent.iterdir()) == [".mine", old.parent.name, "mine"]
    check(open_index(split, recipe(never)))
    delete_indexes(split.folder.parent)
    assert sorted(path.name for path in old.parent.parent.iterdir()) == [".mine", "mine"]


def test_the_user_is_told_where_it_takes_long(split, monkeypatch, caplog):
    caplog.set_level(logging.INFO, logger="tx_jax")
    monkeypatch.setattr(logging.getLogger("tx_jax"), "propagate", True)
    open_index(split, recipe())
    assert caplog.messages == []
    monkeypatch.setattr(index, "LONG", 0)
    found = open_index(split, recipe(another=1))
    assert caplog.messages == [
        f"{split.name}, {split.num_tokens:,} tokens: building the squares of numbers, once for all later starts"
    ]
    del found
    open_index(split, recipe(never, another=1))
    assert len(caplog.messages) == 1

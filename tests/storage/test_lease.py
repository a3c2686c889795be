"""One process a run directory, on a store in memory."""

import json
import threading
import time

import pytest

from tx_jax.errors import InputError
from tx_jax.files import path_of
from tx_jax.runs.run_dir import RunDir
from tx_jax.storage import lease

ELSEWHERE = {"token": "theirs", "beat": 3, "pid": 7, "host": "another", "boot": "", "began": "1"}


@pytest.fixture
def folder(memory, monkeypatch):
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.05)
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0.5)
    return path_of("gs://bucket/run", "--workdir")


def records(folder):
    place = folder / lease.FOLDER
    return {path.name: json.loads(path.read_bytes()) for path in place.iterdir()} if place.is_dir() else {}


def test_it_is_held_renewed_and_given_back(folder):
    with lease.held(folder, pytest.fail):
        (name,) = records(folder)
        before = records(folder)[name]
        assert lease.holder(folder) == before["token"]
        time.sleep(0.2)
        assert records(folder)[name]["beat"] > before["beat"]
    assert records(folder) == {}
    assert lease.holder(folder) is None


def test_a_second_process_is_refused_while_the_first_lives(folder):
    with lease.held(folder, pytest.fail):
        (record,) = records(folder).values()
        problem = rf"process {record['pid']} on .* is training in gs://bucket/run: wait"
        with pytest.raises(InputError, match=problem), lease.held(folder, pytest.fail):
            pass
        assert lease.holder(folder) == record["token"]


def test_a_run_directory_on_a_store_is_locked_by_it(folder):
    with RunDir(folder).lock():
        RunDir(folder).check_shared()
        with pytest.raises(InputError, match="is training in"), RunDir(folder).lock():
            pass
    with RunDir(folder).lock():
        pass


def test_who_was_killed_on_another_host_is_taken_over_after_the_lease(folder):
    (folder / "LOCK/000004").write_text(json.dumps(ELSEWHERE))
    began = time.monotonic()
    with lease.held(folder, pytest.fail):
        assert time.monotonic() - began >= lease.LEASE_SECONDS
        assert list(records(folder)) == ["000005"]


def test_who_is_gone_on_this_host_is_taken_over_at_once(folder, monkeypatch):
    monkeypatch.setattr(lease, "LEASE_SECONDS", 100)
    gone = json.loads(lease._record("theirs", 0)) | {"began": "1"}  # another process has its number now
    (folder / "LOCK/000001").write_text(json.dumps(gone))
    with lease.held(folder, pytest.fail):
        assert list(records(folder)) == ["000002"]


def test_who_was_asleep_learns_that_the_lease_is_lost(folder):
    told = threading.Event()
    with lease.held(folder, lambda reason: told.set()):
        (folder / "LOCK/000002").write_text(json.dumps(ELSEWHERE))
        assert told.wait(5)
    assert list(records(folder)) == ["000002"]


@pytest.mark.parametrize("start", ["free", "left by a killed one"])
def test_of_several_that_start_at_once_one_gets_it(folder, start):
    if start != "free":
        (folder / "LOCK/000001").write_text(json.dumps(ELSEWHERE))
    got, refused, ready = [], [], threading.Barrier(5)

    def run():
        ready.wait()
        try:
            with lease.held(folder, pytest.fail):
                got.append(1)
                done.wait(10)
        except InputError:
            refused.append(1)

    done = threading.Event()
    threads = [threading.Thread(target=run) for _ in range(5)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 10
    while len(got) + len(refused) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    done.set()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 4)

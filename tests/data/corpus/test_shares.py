"""A store prepared by several processes is the one that one process makes, bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.corpus.test_prepare import Interrupted, contents, interrupt_at, settings, write_text
from tx_jax.data.corpus import shares
from tx_jax.data.corpus.prepare import prepare
from tx_jax.data.corpus.shares import launched, prepare_share
from tx_jax.data.corpus.sources import Source, SourceConfig
from tx_jax.errors import InputError
from tx_jax.files import path_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Files of several kinds and sizes, one of them empty; with invalid UTF-8 and a document longer than a block."""
    folder = tmp_path_factory.mktemp("corpus")
    for number, documents in enumerate((40, 7, 90, 3, 25)):
        write_text(folder / f"{number}.txt", documents=documents, seed=number)
    (folder / "5.jsonl").write_text("".join(json.dumps({"text": f"Ba na {i}."}) + "\n" for i in range(9)))
    (folder / "6.txt").write_text("")
    (folder / "7.txt").write_bytes(b"Lo re \xff so.\n\n" + b"Mu vi. " * 900 + b"\n\nKe so\0 ba.\n")
    return folder


def of(corpus, store, **options):
    return settings(store, corpus / "*", encoding_errors="replace", **options)


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    store = tmp_path_factory.mktemp("alone") / "store"
    prepare(of(corpus, store))
    return contents(store)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(shares, "POLL_SECONDS", 0.01)


def in_turn(config, count):
    """Each process after the other: process 0 first begins, as it would, and waits at the end."""

    class Waits(Exception):
        pass

    def until_it_waits(progress):
        if progress.stage == "wait":
            raise Waits

    with pytest.raises(Waits):
        prepare_share(config, 0, count, until_it_waits)
    for number in range(1, count):
        prepare_share(config, number, count)
    return prepare_share(config, 0, count)


@pytest.mark.parametrize("count", [2, 4, 11])
def test_the_store_is_the_same_bit_for_bit(corpus, alone, tmp_path, count):
    config = of(corpus, tmp_path / "store")
    made = in_turn(config, count)
    assert contents(tmp_path / "store") == alone
    assert [path.name for path in tmp_path.iterdir()] == ["store"]
    assert prepare_share(config, 0, count).was_complete
    assert prepare(config).was_complete
    assert made.meta["documents_read"] > 170


def test_it_is_the_same_on_an_object_store(corpus, alone, memory, tmp_path):
    for path in corpus.iterdir():
        path_of(f"gs://bucket/texts/{path.name}", "x").upload(path)
    config = settings(path_of("gs://bucket/store", "x"), "gs://bucket/texts/*", encoding_errors="replace")
    in_turn(config, 3)
    made = {found.name: (config.store / found.name).read_bytes() for found in config.store.objects()}
    for name in made.keys() - {"meta.json"}:  # which names the files of the source
        assert made[name] == alone[name]
    assert made.keys() == alone.keys()
    assert not path_of("gs://bucket/store.shares", "x").exists()


def test_the_shares_are_the_whole_in_its_order(corpus):
    config = SourceConfig((str(corpus / "*"),), encoding_errors="replace")
    whole = list(Source(config))
    for count in (2, 3, 20):
        assert [document for number in range(count) for document in Source(config, (number, count))] == whole


def test_a_killed_process_continues(corpus, alone, tmp_path):
    config = of(corpus, tmp_path / "store")
    with pytest.raises(Interrupted):
        prepare_share(config, 0, 2, interrupt_at("encode", 20))
    with pytest.raises(Interrupted):
        prepare_share(config, 1, 2, interrupt_at("encode", 10))
    resumed = []
    prepare_share(config, 1, 2, lambda progress: resumed.append(progress.stage))
    assert "resume" in resumed
    prepare_share(config, 0, 2)
    assert contents(tmp_path / "store") == alone


def test_process_0_killed_while_it_puts_together_does_it_again(corpus, alone, tmp_path, monkeypatch):
    config = of(corpus, tmp_path / "store")

    def killed(split, writer):
        raise Interrupted

    with monkeypatch.context() as patched:
        patched.setattr(shares, "_copy", killed)
        with pytest.raises(Interrupted):
            in_turn(config, 2)
    assert not (tmp_path / "store/meta.json").exists()
    prepare_share(config, 0, 2)
    assert contents(tmp_path / "store") == alone


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"count": 3}, "was begun for another number of processes"),
        ({"code": "other"}, "was begun by another version of the code"),
        ({"vocab_size": 110}, "was begun with other settings"),
    ],
)
def test_shares_that_do_not_belong_together_are_refused(corpus, tmp_path, monkeypatch, change, problem):
    config = of(corpus, tmp_path / "store")
    with pytest.raises(Interrupted):
        prepare_share(config, 0, 2, interrupt_at("encode", 1))
    if "code" in change:
        monkeypatch.setattr(shares, "code_fingerprint", lambda: change["code"])
        with pytest.raises(InputError, match=problem):
            prepare_share(config, 1, 2)
    with pytest.raises(InputError, match=problem):
        prepare_share(replace(config, vocab_size=change.get("vocab_size", 120)), 0, change.get("count", 2))


@pytest.mark.parametrize("key", ["code", "tokenizer_fingerprint"])
def test_a_share_of_another_commit_or_tokenizer_is_refused(corpus, tmp_path, key):
    config = of(corpus, tmp_path / "store")
    with pytest.raises(Interrupted):
        prepare_share(config, 0, 2, interrupt_at("encode", 1))
    prepare_share(config, 1, 2)
    path = tmp_path / "store.shares/00001-of-00002/meta.json"
    meta = json.loads(path.read_text())
    if key == "code":
        meta["settings"]["code"] = "other"
    else:
        meta[key] = "other"
    path.write_text(json.dumps(meta))
    with pytest.raises(InputError, match=r"00001-of-00002 was made (by another version|with another tokenizer)"):
        prepare_share(config, 0, 2)


def test_a_changed_source_is_refused(corpus, tmp_path):
    texts = tmp_path / "texts"
    shutil.copytree(corpus, texts)
    config = of(texts, tmp_path / "store")
    with pytest.raises(Interrupted):
        prepare_share(config, 0, 2, interrupt_at("encode", 1))
    write_text(texts / "8.txt", documents=9)
    with pytest.raises(InputError, match="was begun with other source signature"):
        prepare_share(config, 0, 2)


def test_an_index_that_is_not_there_is_refused(corpus, tmp_path):
    with pytest.raises(InputError, match="--process_id=2, --num_processes=2: give each process an index"):
        prepare_share(of(corpus, tmp_path / "store"), 2, 2)


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (0, 1)),
        ({"SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}, (3, 4)),
        ({"SLURM_NTASKS": "4", "SLURM_PROCID": "0"}, (0, 1)),  # a batch script, not started by srun
        ({"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "1"}, (1, 2)),
    ],
)
def test_launchers_are_recognized(environment, expected):
    assert launched(environment) == expected


def test_processes_of_their_own_one_of_which_is_killed(corpus, tmp_path):
    """As a user starts them, at once, with the tokenizer trained by process 0."""
    root = Path(__file__).parents[3]

    def start(number):
        flags = [f"--source={corpus}/*", f"--store={tmp_path / 'store'}", "--vocab_size=120", "--workers=1"]
        flags += ["--encoding_errors=replace", "--num_processes=2", f"--process_id={number}"]
        command = [sys.executable, "-m", "experiments.prepare", *flags]
        return subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    first, second = start(0), start(1)
    deadline = time.monotonic() + 60
    while not list(tmp_path.glob("store.shares/00001*")) and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(second.pid, signal.SIGKILL)
    second.communicate()
    again = start(1)
    for process in (again, first):
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    one = settings(tmp_path / "alone", corpus / "*", encoding_errors="replace")
    one = replace(one, block_characters=1 << 19, shard_tokens=1 << 26)
    prepare(one)
    assert contents(tmp_path / "store") == contents(tmp_path / "alone")

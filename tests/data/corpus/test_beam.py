"""Shares handed out by Apache Beam's local runner; needs the extra `beam`."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.data.corpus.test_prepare import contents, settings, write_text
from tx_jax.data.corpus.prepare import prepare

pytest.importorskip("apache_beam", reason="Apache Beam is not installed: pip install -e '.[beam]'")
pytestmark = pytest.mark.long

LOCAL = "--runner=DirectRunner --direct_num_workers=2 --direct_running_mode=multi_processing"


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    for number, documents in enumerate((40, 7, 90, 3, 25)):
        write_text(folder / f"{number}.txt", documents=documents, seed=number)
    return folder


@pytest.fixture(scope="module")
def alone(corpus, tmp_path_factory):
    store = tmp_path_factory.mktemp("alone") / "store"
    prepare(replace(settings(store, corpus / "*"), block_characters=1 << 19, shard_tokens=1 << 26))
    return contents(store)


def start(corpus, store, *more):
    flags = [f"--source={corpus}/*", f"--store={store}", "--vocab_size=120", "--workers=1", "--num_processes=3", *more]
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.prepare", *flags],
        cwd=Path(__file__).parents[3],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("options", ["--runner=DirectRunner", LOCAL])
def test_the_store_is_the_same_bit_for_bit(corpus, alone, tmp_path, options):
    out, errors = (process := start(corpus, tmp_path / "store", f"--beam={options}")).communicate(timeout=300)
    assert process.returncode == 0, errors
    assert "vocabulary: 63 tokens" in out
    assert contents(tmp_path / "store") == alone
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


def test_shares_of_lost_workers_are_made_again(corpus, alone, tmp_path):
    process = start(corpus, tmp_path / "store", f"--beam={LOCAL}")
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("store.shares/0000*")) and time.monotonic() < deadline:
        time.sleep(0.001)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "store/meta.json").exists()
    process = start(corpus, tmp_path / "store", f"--beam={LOCAL}")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert contents(tmp_path / "store") == alone


def test_a_share_of_ones_own_is_refused(corpus, tmp_path):
    process = start(corpus, tmp_path / "store", "--process_id=1", "--beam=")
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 2
    assert "--beam needs --num_processes, the number of shares, and no --process_id" in errors
    assert not list(tmp_path.iterdir())

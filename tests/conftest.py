"""Settings and the small store that several tests share."""

import atexit
import gc
import os
import shutil
import signal
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["HF_HUB_OFFLINE"] = "1"
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    # Many tests, and the commands that they start, compile the same steps: once a session is enough.
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="tx_jax_tests_")
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
    atexit.register(shutil.rmtree, os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)

from pathlib import Path

import numpy as np
import pytest

from tests.xla_flags import xla_flags
from tx_jax.data.corpus.token_store import TokenStore

os.environ.setdefault("XLA_FLAGS", xla_flags())

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    # A shell starts what runs in the background so, and a process that a test starts would inherit it; commands that
    # start others handle this signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish(session):
    """Tracing makes many objects: the collector would look through those of all modules and tests again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)


# Their tests share an expensive fixture: one process runs all tests of such a file, before the other tests.
TOGETHER = {
    "tests/data/corpus/test_embedded.py",
    "tests/evaluation/test_report.py",
    "tests/experiments/test_command_lines.py",
    "tests/experiments/test_convert_command.py",
    "tests/experiments/test_fine_tuning_commands.py",
    "tests/experiments/test_generate_command.py",
    "tests/experiments/test_interpret_command.py",
    "tests/experiments/test_sweep_command.py",
    "tests/experiments/test_translate_command.py",
    "tests/faults/test_faults.py",
    "tests/interpret/test_capture.py",
    "tests/interpret/test_causes.py",
    "tests/multihost/test_faults.py",
    "tests/nn/attention/test_sharded.py",
    "tests/runs/test_open_model.py",
    "tests/test_documented.py",
    "tests/training/test_lora.py",
    "tests/training/test_phases.py",
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return file if file in TOGETHER else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="session", autouse=True)
def _strict_jax():
    import jax

    jax.config.update("jax_numpy_rank_promotion", "raise")


def write_corpus(path: Path, *, documents: int, seed: int = 0) -> None:
    """Text in which a sentence predicts its document: each document has its own ten words."""
    rng = np.random.default_rng(seed)
    words = np.array(["".join(rng.choice(list("abcdefghij"), 4)) for _ in range(120)])
    texts = []
    for _ in range(documents):
        topic = rng.choice(words, 10, replace=False)
        texts.append(
            "\n".join(" ".join(rng.choice(topic, rng.integers(3, 9))) + "." for _ in range(rng.integers(3, 12)))
        )
    path.write_text("\n\n".join(texts) + "\n")


def make_store(folder: Path) -> TokenStore:
    """A token store of 150 short documents and a vocabulary of 200."""
    from tx_jax.data.corpus.prepare import PrepareConfig, prepare
    from tx_jax.data.corpus.sources import SourceConfig

    write_corpus(folder / "text.txt", documents=150)
    prepare(
        PrepareConfig(
            store=folder / "store",
            source=SourceConfig(specs=(str(folder / "text.txt"),)),
            sentences="line",
            vocab_size=200,
            validation_fraction=0.15,
            workers=1,
        )
    )
    return TokenStore.open(folder / "store")


@pytest.fixture(scope="session")
def tiny_store(tmp_path_factory) -> TokenStore:
    return make_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def memory(tmp_path, monkeypatch):
    """gs:// and s3:// in memory, with a cache of copies of their own."""
    from tests.storage.memory import memory_store

    monkeypatch.setenv("TX_JAX_CACHE", str(tmp_path / "cache/stores"))
    with memory_store() as store:
        yield store


@pytest.fixture
def smoke_config(tiny_store):
    """The smoke form of BERT base on the tiny store, as a ConfigDict that a test may change."""
    from configs import bert_base

    c = bert_base.get_config("smoke")
    c.model.vocab_size = 200
    c.data.store = str(tiny_store.path)
    return c

"""experiments.preview as a user runs it."""

import re
import subprocess
import sys

import pytest

from tests.conftest import make_store
from tests.experiments.test_command_lines import executed, run

SMOKE = ["--config=configs/bert_base.py:smoke", "--config.model.vocab_size=200"]


@pytest.fixture
def arguments(tiny_store):
    return [*SMOKE, f"--config.data.store={tiny_store.path}"]


def test_pairs_are_shown_with_their_masks_and_statistics(arguments):
    done = executed("preview", *arguments, "--examples=3", "--statistics=100")
    assert done.returncode == 0, done.stderr
    assert re.findall(r"^Example (\d)", done.stdout, re.M) == ["1", "2", "3"]
    assert done.stdout.count("‹A›") == done.stdout.count("‹B›") == 3
    assert "[MASK→" in done.stdout
    assert "\x1b" not in done.stdout, "no colors where there is no terminal"
    assert re.search(r"examples +│ +104", done.stdout), "whole batches of 8"
    assert re.search(r"chosen +│ +1\d\.\d\d% of the tokens +│ data.mask_rate=0.15", done.stdout)


def test_the_phase_of_the_step_is_shown_and_a_step_beyond_the_end_refused(arguments):
    phases = ["--config.phases.steps=(15, 5)", "--config.phases.sequence_length=(32, 64)"]
    phases += ["--config.phases.max_predictions=(5, 10)", "--config.phases.batch_size=(8, 2)"]
    done = run("preview", *arguments, *phases, "--step=15", "--examples=3")
    assert done.returncode == 0, done.stderr
    assert "step 15: 2 x 64, pairs" in done.stdout
    assert done.stdout.count("Example") == 3
    done = run("preview", *arguments, "--step=20")
    assert done.returncode == 2
    assert done.stderr == "error: --step=20 must be below 20, the number of batches\n"


def test_the_first_start_on_a_large_store_tells_what_it_makes(tmp_path):
    """What the library logs is a line on stderr."""
    store = make_store(tmp_path)
    script = f"""
import runpy, sys
from tx_jax.data.corpus import index
index.SMALL = index.LONG = 0
sys.argv = ["preview", *{SMOKE!r}, "--config.data.store={store.path}", "--examples=0"]
runpy.run_module("experiments.preview", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    tokens = f"{store.path} (train), {store.split('train').num_tokens:,} tokens"
    assert done.stderr.splitlines() == [
        f"{tokens}: building the list of documents of two sentences, once for all later starts",
        f"{tokens}: building the spans of 29 tokens, once for all later starts",
    ]

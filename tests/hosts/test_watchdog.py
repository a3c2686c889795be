"""The watchdog of a process alone. Of several: tests/multihost."""

import os
import subprocess
import sys

import pytest

from tx_jax.hosts import watchdog

STALLED = """
import time
from tx_jax.hosts.watchdog import Watchdog, doing, telling
with Watchdog(silence_seconds=30, explain=lambda error: None), telling(lambda reason: print("told:", reason)):
    with doing("waiting for data", limit=3):
        time.sleep(0.1)
    with doing("evaluation"):  # has no limit
        time.sleep(4.5)
    print("so far", flush=True)
    with doing("waiting for data", limit=2):
        time.sleep(60)
"""


def test_what_takes_longer_than_its_limit_ends_the_process_with_its_stacks():
    done = subprocess.run([sys.executable, "-c", STALLED], capture_output=True, text=True, check=False, timeout=60)
    line = "process 0 of 1, waiting for data: no batch came for 2 s (training.stall_seconds)"
    assert done.returncode == 1
    assert done.stdout == f"so far\ntold: {line}\n"
    assert done.stderr.splitlines()[-1] == f"error: {line}"
    assert 'File "<string>", line 11 in <module>' in done.stderr


@pytest.mark.long
def test_where_nobody_hears_why_it_ends_all_the_same():
    reader, writer = os.pipe()
    os.close(reader)
    silent = {"stdout": subprocess.DEVNULL, "stderr": writer}
    done = subprocess.run([sys.executable, "-c", STALLED], **silent, check=False, timeout=30)
    os.close(writer)
    assert done.returncode == 1


def test_an_error_leaves_what_was_done_when_it_happened(monkeypatch):
    monkeypatch.setattr(watchdog, "_activity", watchdog._Activity("starting"))
    with watchdog.doing("evaluation"):
        assert list(watchdog.waited_for([1, 2], limit=5)) == [1, 2]
        assert watchdog._activity.name == "evaluation"
    assert watchdog._activity.name == "starting"
    with pytest.raises(ZeroDivisionError), watchdog.doing("evaluation"):
        list(watchdog.waited_for((1 / n for n in (1, 0)), limit=5))
    assert watchdog._activity.name == "waiting for data"
    assert watchdog._activity.limit == 0  # a save that is being finished may take longer

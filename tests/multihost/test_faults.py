"""What ends one process ends all, and nothing that was saved is lost. The long forms: tests/faults/test_long.py."""

import numpy as np
import pytest

from tests.faults.elastic import saved
from tests.multihost import launch
from tx_jax.runs import metrics_log


def train(store, workdir, processes=2, devices=2, **options):
    changes = {"mesh__fsdp": 2 if processes * devices > 1 else 1}
    return launch.run(
        launch.TRAIN, launch.flags(store.path, workdir, **changes), processes=processes, devices=devices, **options
    )


def losses(workdir, split="train"):
    name = "loss" if split == "train" else "masked_lm_loss"
    records = [(record["step"], record[name]) for record in metrics_log.read(workdir) if record["split"] == split]
    assert len(dict(records)) == len(records), "a step was written twice"
    return dict(records)


def codes(ended):
    return [process.code for process in ended]


@pytest.fixture(scope="module")
def whole(tiny_store, tmp_path_factory):
    """An uninterrupted run on 2 x 2 devices."""
    workdir = tmp_path_factory.mktemp("hosts") / "whole"
    ended = train(tiny_store, workdir)
    assert codes(ended) == [0, 0], "\n".join(process.tail() for process in ended)
    assert ended[0].output.count("Done.") == 1
    assert "Done." not in ended[1].output
    assert sorted(losses(workdir)) == list(range(1, 13))
    assert sorted(losses(workdir, "validation")) == [5, 10, 12]
    return workdir


@pytest.mark.long
def test_after_a_kill_the_others_end_and_the_losses_continue_bitwise(whole, tiny_store, tmp_path):
    ended = train(tiny_store, tmp_path / "run", fault="kill:step:7:1")
    assert ended[1].code == -9
    assert ended[0].code == 1
    assert "error: process 1 of 2, " in ended[0].tail()
    assert "it gave no sign of life for" in ended[0].tail(1)
    assert "process 1 of 2" in (tmp_path / "run/FAILED").read_text()
    resumed = train(tiny_store, tmp_path / "run")
    assert codes(resumed) == [0, 0], resumed[0].tail()
    assert "Continuing after step 4" in resumed[0].output
    assert losses(tmp_path / "run") == losses(whole)
    assert losses(tmp_path / "run", "validation") == losses(whole, "validation")


@pytest.mark.long
def test_sigterm_to_one_stops_all_and_another_topology_continues(whole, tiny_store, tmp_path):
    """One process of 4 devices; the long form has more topologies, and goes there and back."""
    ended = train(tiny_store, tmp_path / "run", fault="term:step:6:1")
    assert codes(ended) == [75, 75], "\n".join(process.tail() for process in ended)
    step, expected = saved(tmp_path / "run", tmp_path / "state.npz")
    assert f"stopped by SIGTERM after step {step}, which is saved" in ended[0].tail(1)
    assert 6 <= step < 12
    (ended,) = train(tiny_store, tmp_path / "run", 1, 4, expect=expected)
    assert ended.code == 0, ended.tail()
    assert "the state is as expected" in ended.output
    found, uninterrupted = losses(tmp_path / "run"), losses(whole)
    assert sorted(found) == sorted(uninterrupted)
    np.testing.assert_allclose(list(found.values()), list(uninterrupted.values()), rtol=1e-5)  # order of sums


@pytest.mark.parametrize(
    ("fault", "expected", "reason"),
    [
        ("input:build:1:1", [2, 2], "error: process 1 of 2, starting: this host lacks a file"),
        ("memory:build:1:1", [1, 1], "OutOfMemory: out of memory on cpu: 12.0 GiB requested, "),
        ("exit:build:1:0", [3, 3], "error: process 0 of 2, starting: it called sys.exit(3)"),
        ("raise:batch:1:1", [1, 1], "Planted: a planted error"),
        pytest.param(
            "full:hashes:1:1", [2, 2], "checkpoints/4 could not be written: No space left", marks=pytest.mark.long
        ),
        pytest.param(
            "full:manifest:1:0", [2, 2], "checkpoints/4 could not be written: No space left", marks=pytest.mark.long
        ),
        pytest.param(
            "sleep:batch:2:0",
            [1, 1],
            "error: process 0 of 2, waiting for data: no batch came for 6 s",
            marks=pytest.mark.long,
        ),
        pytest.param(
            "stop:build:1:1",
            [1, None],
            "error: process 1 of 2, starting: it gave no sign of life for",
            marks=pytest.mark.long,
        ),
    ],
)
def test_one_fault_ends_all_with_its_reason(tiny_store, tmp_path, fault, expected, reason):
    ended = train(tiny_store, tmp_path, fault=fault)
    assert codes(ended) == expected, "\n".join(process.tail() for process in ended)
    for process in ended:
        if process.code is not None:
            assert reason in process.tail(80)  # on a busy machine, what was about to be shown comes after it

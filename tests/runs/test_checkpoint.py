"""Checkpoints: what is kept, what comes back, and on which devices."""

import contextlib
import threading
import time

import jax
import numpy as np
import pytest
from jax.experimental import multihost_utils

from tx_jax import sharding
from tx_jax.config import from_config_dict
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import abstract_state, init_state


@pytest.fixture
def made(smoke_config, tiny_store):
    config = from_config_dict(smoke_config)
    task = MaskedLM(config, tiny_store)
    optimizer = Optimizer(config)
    mesh = sharding.make_mesh(config.mesh)
    return task, optimizer, mesh, init_state(task.objective, optimizer, 0, mesh)


def at(state, step):
    return state.replace(step=state.step * 0 + step)


def test_what_is_saved_comes_back_bitwise(made, tmp_path):
    task, optimizer, mesh, state = made
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(at(state, 7))
        checkpoints.wait()
        restored = checkpoints.restore(7, abstract_state(task.objective, optimizer, mesh))
        params = checkpoints.restore_params(7, abstract_state(task.objective, optimizer, mesh).params)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(restored), jax.tree.leaves(at(state, 7)), strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(jax.tree.leaves(params), jax.tree.leaves(state.params), strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_last_ones_and_those_asked_for_are_kept(made, tmp_path):
    state = made[-1]
    with Checkpoints(tmp_path, keep_last=2) as checkpoints:
        for step, keep in ((1, []), (2, [2]), (3, [2]), (4, [2]), (5, [2])):
            checkpoints.save(at(state, step), keep)
        checkpoints.wait()
        assert checkpoints.steps() == [2, 4, 5]
        checkpoints.save(at(state, 6))
        checkpoints.wait()
        assert checkpoints.steps() == [5, 6]


def test_those_asked_for_stay_after_a_resume(made, tmp_path):
    for step, keep, kept in ((1, [1], [1]), (2, [1], [1, 2]), (3, [1], [1, 3]), (4, [4], [4]), (5, [4], [4, 5])):
        with Checkpoints(tmp_path, keep_last=1) as checkpoints:
            checkpoints.save(at(made[-1], step), keep)
            checkpoints.wait()
            assert checkpoints.steps() == kept


def test_notes_come_back_exactly(made, tmp_path):
    notes = {"interval": {"loss": [0.1 + 0.2, 1e-300], "other": [float(2**60 + 2**8), 3.0]}, "number": 3}
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(at(made[-1], 1), **notes)
        checkpoints.wait()
        assert checkpoints.notes(1).items() >= notes.items()


def test_the_next_step_need_not_wait_for_memory_that_is_still_read(made, tmp_path, monkeypatch):
    """On a CPU, where Orbax reads arrays in place: the next step, to which they are donated, would wait."""
    state, read = at(made[-1], 1), []
    with Checkpoints(tmp_path) as checkpoints:
        save = checkpoints._manager.save
        monkeypatch.setattr(
            checkpoints._manager,
            "save",
            lambda step, args, **named: (read.append(args.item), save(step, args=args, **named)),
        )
        checkpoints.save(state)
    for mine, theirs in zip(jax.tree.leaves(state), jax.tree.leaves(read[0]), strict=True):
        assert mine.unsafe_buffer_pointer() != theirs.unsafe_buffer_pointer()
        assert mine.sharding == theirs.sharding


def test_only_the_loop_asks_whether_to_stop(made, tmp_path, monkeypatch):
    """At numbered points on which all processes agree: whoever else asks moves the count."""
    asked = []
    monkeypatch.setattr(multihost_utils, "reached_preemption_sync_point", asked.append)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(at(made[-1], 1))
    assert asked == []


def test_a_reader_leaves_the_directory_as_it_is(made, tmp_path):
    with Checkpoints(tmp_path, keep_last=3) as writer:
        for step in (1, 2):
            writer.save(at(made[-1], step))
        writer.wait()
        unfinished = tmp_path / "3.orbax-checkpoint-tmp-9"
        unfinished.mkdir()
        with Checkpoints(tmp_path, read_only=True) as reader:
            assert reader.steps() == [1, 2]
        assert unfinished.exists()


def test_what_is_unfinished_is_removed_while_it_is_still_being_written(tmp_path):
    unfinished, began = tmp_path / "3.orbax-checkpoint-tmp-9", threading.Event()

    def write():
        for number in range(40):
            unfinished.mkdir(exist_ok=True)
            with contextlib.suppress(FileNotFoundError):  # removed just now
                (unfinished / str(number)).touch()
            began.set()
            time.sleep(0.01)

    writer = threading.Thread(target=write)
    writer.start()
    began.wait()
    with Checkpoints(tmp_path):
        writer.join()
        assert not unfinished.exists()

"""A process alone: nothing is waited for, and flags that make no sense are refused. Several: tests/multihost."""

import jax
import pytest

from tx_jax.errors import InputError
from tx_jax.hosts import distributed


def start(*arguments):
    distributed.start(*arguments, silence_seconds=30, report=print)


@pytest.fixture
def initialize(monkeypatch):
    """What jax would be asked for."""
    calls = []

    def called(*arguments, **options):
        calls.append(arguments)
        raise ValueError("coordinator_address should be defined.")  # its answer where there is no launcher

    monkeypatch.setattr(jax.distributed, "initialize", called)
    for name in distributed.LAUNCHED:
        monkeypatch.delenv(name, raising=False)
    return calls


def test_without_a_launcher_a_process_is_alone(initialize):
    start(None, None, None)
    assert initialize == [(None, None, None)]
    assert distributed.is_alone()
    assert not distributed.is_joined()
    assert distributed.is_first()


@pytest.mark.parametrize("name", distributed.LAUNCHED)
def test_one_task_of_a_launcher_is_alone_with_all_its_devices(initialize, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    start(None, None, None)
    assert initialize == []


def test_one_process_by_flag_looks_for_no_launcher(initialize):
    start(None, 1, None)
    assert initialize == []


@pytest.mark.parametrize("arguments", [("host:1", None, None), (None, 2, 0), ("host:1", 2, None), (None, None, 0)])
def test_flags_that_belong_together(initialize, arguments):
    with pytest.raises(InputError, match="--coordinator=HOST:PORT, --num_processes and --process_id go together"):
        start(*arguments)
    assert initialize == []


@pytest.mark.parametrize("error", [ValueError("Number of processes must be defined."), KeyError("job-name")])
def test_what_a_launcher_left_out_is_named(initialize, monkeypatch, error):
    def called(*arguments, **options):
        raise error

    monkeypatch.setattr(jax.distributed, "initialize", called)
    with pytest.raises(InputError, match=rf"{type(error).__name__}: {error} Give --coordinator"):
        start(None, None, None)


def test_one_process_of_a_launcher_is_alone(monkeypatch):
    """A TPU VM of one host is found like a pod."""
    monkeypatch.setattr(distributed, "_store", object())
    assert distributed.is_joined()
    assert distributed.is_alone()


def test_alone_what_is_decided_is_decided_here(tmp_path):
    assert distributed.agreed(lambda: [1, 2]) == [1, 2]
    with pytest.raises(InputError, match="no"), distributed.on_first(refusing()):
        pass


class refusing:
    def __enter__(self):
        raise InputError("no")

    def __exit__(self, *exc):
        raise AssertionError("it was not entered")

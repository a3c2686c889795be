"""Where the time of a run goes: what is lost is counted once, by its name, and what is left is the goodput."""

import types

import pytest

from tests.training.test_loop import Accident, Silent, accident, train
from tx_jax.runs import metrics_log
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.training import goodput, loop
from tx_jax.training import run as run_module
from tx_jax.training.goodput import LOSSES, Pace, TimeSpent

KEYS = {"goodput", "seconds_total", *(f"seconds_{what}" for what in LOSSES)}


@pytest.fixture
def clock(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(goodput, "time", types.SimpleNamespace(perf_counter=lambda: now[0]))
    return now


@pytest.fixture
def small(smoke_config):
    smoke_config.model.num_layers = 1
    smoke_config.training.update(num_steps=6, log_every=1, eval_every=3, checkpoint_every=3)
    return smoke_config


def test_what_is_lost_and_what_is_left(clock):
    spent = TimeSpent(began=90.0)
    with spent.on("evaluating"):  # before the first step: a run that was stopped in its evaluation
        clock[0] += 5
    clock[0] += 15
    spent.started()
    for _ in range(2):
        with spent.on("saving"):
            clock[0] += 1
        clock[0] += 34
    values = spent.values()
    assert values.keys() == KEYS
    assert (values["seconds_starting"], values["seconds_evaluating"], values["seconds_saving"]) == (25, 5, 2)
    assert values["seconds_total"] == 100
    assert values["goodput"] == pytest.approx(0.68)


def test_time_is_counted_though_an_error_ends_it(clock):
    spent = TimeSpent()

    def fail_after_a_while():
        with spent.on("waiting"):
            clock[0] += 7
            accident()

    with pytest.raises(Accident):
        fail_after_a_while()
    assert spent.values()["seconds_waiting"] == 7


@pytest.fixture
def slow(monkeypatch, clock):
    """A clock that only moves in these places: 100 s to build the run, 2 a batch, 1000 to compile, 4 a step, 30 an
    evaluation, 20 a save."""

    def slowed(owner, name, seconds):
        before = getattr(owner, name)

        def slow(*arguments, **options):
            clock[0] += seconds
            return before(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    def batches(*arguments):
        for batch in waited_for(*arguments):
            clock[0] += 2
            yield batch

    def compiling(*arguments):
        step, shapes = jit_train_step(*arguments), set()

        def train_step(state, batch, rng):
            clock[0] += 4 if batch["tokens"].shape in shapes else 1000
            shapes.add(batch["tokens"].shape)
            return step(state, batch, rng)

        return train_step

    waited_for, jit_train_step = loop.waited_for, run_module.jit_train_step
    slowed(loop, "build", 100)
    slowed(run_module, "evaluate", 30)
    slowed(Checkpoints, "save", 20)
    monkeypatch.setattr(loop, "waited_for", batches)
    monkeypatch.setattr(run_module, "jit_train_step", compiling)


class Remembering(Silent):
    def start(self, run, start_step, changes):
        super().start(run, start_step, changes)
        self.spent = run.spent


def last(workdir):
    record = [r for r in metrics_log.read(workdir) if r["split"] == "train"][-1]
    return {name.removeprefix("seconds_"): value for name, value in record.items() if name in KEYS}


def test_each_loss_of_a_run_is_in_its_records_and_known_at_its_end(small, tiny_store, tmp_path, slow):
    display = Remembering()
    train(small, tiny_store, tmp_path, display)
    lost = {"starting": 102, "compiling": 1000, "waiting": 10, "evaluating": 30, "saving": 20}
    assert last(tmp_path) == lost | {"total": 1182, "goodput": pytest.approx(20 / 1182)}
    at_the_end = display.spent.values()  # the last record comes before the last evaluation and checkpoint
    assert (at_the_end["seconds_evaluating"], at_the_end["seconds_saving"]) == (60, 40)
    assert at_the_end["goodput"] == pytest.approx(20 / 1232)
    evaluations = [r for r in metrics_log.read(tmp_path) if r["split"] == "validation"]
    assert not any(KEYS & record.keys() for record in evaluations)


def test_each_phase_compiles_and_a_resumed_run_counts_anew(small, tiny_store, tmp_path, slow):
    small.phases.update(steps=(4, 2), sequence_length=(32, 16), max_predictions=(5, 3))
    with pytest.raises(Accident):
        train(small, tiny_store, tmp_path, Silent(at=4, action=accident))
    train(small, tiny_store, tmp_path)
    lost = {"starting": 102, "compiling": 2000, "waiting": 4, "evaluating": 0, "saving": 0}
    assert last(tmp_path) == lost | {"total": 2110, "goodput": pytest.approx(4 / 2110)}


def test_the_pace_is_told_once_after_enough_steps_or_seconds(clock):
    told = []
    pace = Pace(lambda *figures: told.append(figures))
    pace.reached(1)  # compiles
    pace.begin(1)
    for step in range(2, 30):
        clock[0] += 0.1
        pace.reached(step)
    assert told == [(1, 21, pytest.approx(2.0))]
    slow = Pace(lambda *figures: told.append(figures))
    slow.begin(1)
    clock[0] += 60
    slow.begin(1)  # an evaluation came between
    for step in (2, 3, 4):
        clock[0] += 3.5
        slow.reached(step)
    assert told[1:] == [(1, 3, pytest.approx(7.0))]


def test_a_run_tells_its_pace_early(small, tiny_store, tmp_path, monkeypatch):
    monkeypatch.setattr(Pace, "STEPS", 2)
    display = Silent()
    train(small, tiny_store, tmp_path, display)
    start, step, seconds = display.paced
    assert (start, step) == (1, 3)
    assert seconds > 0

"""The search by Optuna, without trainings: what it tells the study, how it continues, whom it gives up."""

import math

import pytest

pytest.importorskip("optuna")

from tests.sweeps import runs
from tx_jax.errors import InputError
from tx_jax.runs.run_dir import RunDir
from tx_jax.sweeps.axes import parse
from tx_jax.sweeps.sweep_dir import State, SweepDir
from tx_jax.sweeps.tpe import RANDOM_SETTINGS, Tpe, trials_begun

AXES = parse(["--sweep.optimizer.learning_rate=log(1e-5,1e-1)", "--sweep.lora.rank=int(2,16)", "--sweep.task=a,b"])
SEEDS = [{"seed": "0"}, {"seed": "1"}]


def search(directory, repeats=({},), count=30, **options):
    options = {"metric": "mcc", "seed": 0, "retry": False, "prune": True} | options
    return Tpe(AXES, repeats, directory, count=count, **options)


def value(one):
    """Best at a learning rate of 1e-3."""
    rate = float(one.setting["optimizer.learning_rate"])
    return 1.0 - abs(math.log10(rate) + 3) / 2


def train(directory, source, number=1000):
    """As many of its trials as that, one after the other; their settings."""
    found = []
    while len(found) < number and (one := source.next()) is not None:
        runs.finish(directory, one, value(one))
        source.ended(one, State.DONE)
        found.append(one)
    return found


def test_it_prefers_better_settings_and_ends(tmp_path):
    """Of random settings, values are spread evenly from 0 to 1: the mean of 60 is 0.5 with a deviation of 0.037."""
    late = []
    for seed in range(4):
        directory = SweepDir(tmp_path / str(seed))
        found = train(directory, search(directory, seed=seed))
        assert [one.name.partition("__")[0] for one in found] == [f"{i:03d}" for i in range(30)]
        assert [one.name for one in trials_begun(directory)] == [one.name for one in found]
        late += [value(one) for one in found[-15:]]
    assert sum(late) / len(late) > 0.5 + 3 * 0.037


def test_one_that_was_killed_goes_on_as_if_it_had_not_been(tmp_path):
    whole, parts = SweepDir(tmp_path / "whole"), SweepDir(tmp_path / "parts")
    expected = [one.setting for one in train(whole, search(whole, count=12))]
    found = []
    for number in (3, 4, 100):
        source = search(parts, count=12)
        found += train(parts, source, number)
        if (killed := source.next()) is not None:
            runs.begin(parts, killed)  # and it never ends
    assert [one.setting for one in found] == expected


def test_a_setting_is_told_once_all_its_repeats_are_done(tmp_path):
    directory = SweepDir(tmp_path)
    source = search(directory, SEEDS, count=2)
    given = [source.next() for _ in range(4)]
    assert source.next() is None
    assert [one.repeat["seed"] for one in given] == ["0", "1", "0", "1"]
    assert given[0].setting == given[1].setting != given[2].setting
    for one, score in zip(given, (0.1, 0.3, 0.5, None), strict=True):
        if score is None:
            runs.begin(directory, one)
            directory.mark(one, State.FAILED, "diverged")
        else:
            runs.finish(directory, one, score)
        source.ended(one, directory.state(one))
    known = source._study.get_trials()
    assert known[0].value == pytest.approx(0.2)
    assert [one.state.name for one in known] == ["COMPLETE", "FAIL"]
    again = search(directory, SEEDS, count=2)
    assert [(one.state, one.value) for one in again._study.get_trials()] == [(one.state, one.value) for one in known]
    assert again.next() is None
    retried = search(directory, SEEDS, count=2, retry=True)
    assert retried.next() == given[3]


def test_a_bad_curve_is_given_up_and_not_begun_again(tmp_path):
    directory = SweepDir(tmp_path)
    source = search(directory)
    for one in [source.next() for _ in range(RANDOM_SETTINGS)]:
        runs.finish(directory, one, 0.5)
        runs.curve(directory, one, [0.4, 0.5])
        source.ended(one, State.DONE)
    good, bad = source.next(), source.next()
    for one, curve in ((good, [0.45]), (bad, [0.1])):
        runs.begin(directory, one)
        runs.curve(directory, one, curve)
    assert source.verdict(good) == ""
    reason = source.verdict(bad)
    assert reason == "after 1 evaluations worse than the median of the other settings at that point"
    directory.mark(bad, State.PRUNED, reason)
    source.ended(bad, State.PRUNED)
    assert source._study.get_trials()[-1].state.name == "PRUNED"
    again = search(directory)
    assert [one.state.name for one in again._study.get_trials()][-2:] == ["RUNNING", "PRUNED"]
    assert again.next() == good
    off = search(directory, prune=False)
    assert off.next() == good
    runs.curve(directory, good, [0.0, 0.0])
    assert off.verdict(good) == ""


def test_what_another_process_trains_is_left_to_it(tmp_path):
    directory = SweepDir(tmp_path)
    source = search(directory, count=1)
    one = source.next()
    runs.begin(directory, one)
    with RunDir(directory.folder(one)).lock():
        again = search(directory, count=1)
        assert again.next() is None
        assert again.waits()
    assert again.next() == one


def test_several_machines_share_a_database(tmp_path):
    directory, url = SweepDir(tmp_path / "sweep"), f"sqlite:///{tmp_path / 'study.db'}"
    options = {"url": url, "definition": {"axes": {"a": ("1", "2")}}, "count": 4}
    here, there = search(directory, **options), search(directory, **options)
    given = [here.next(), there.next(), here.next()]
    assert len({one.name for one in given}) == 3
    runs.finish(directory, given[0], 0.5)
    here.ended(given[0], State.DONE)
    runs.begin(directory, given[2])
    for open_ in here._open.values():  # it is killed: the system releases what it holds
        open_.claim.close()
    # A third one takes over what it left, and nothing that the second one has.
    third = search(directory, **options)
    assert third.next() == given[2]
    assert len(train(directory, third)) == 1
    assert third.next() is None
    with pytest.raises(InputError, match=r"holds another sweep: axes.a: \['1', '2'\] -> \['1'\]"):
        search(directory, url=url, definition={"axes": {"a": ("1",)}})
    with pytest.raises(InputError, match="--study=nonsense cannot be opened"):
        search(directory, url="nonsense")

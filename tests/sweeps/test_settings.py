"""Which settings a sweep has, and the names of their directories."""

import itertools

import pytest

from tx_jax.errors import InputError
from tx_jax.sweeps import settings
from tx_jax.sweeps.axes import Axis, Range
from tx_jax.sweeps.settings import Hyper


def test_a_grid_has_every_combination_in_order_with_its_repeats():
    axes = [Axis("optimizer.learning_rate", ("1e-5", "3e-5")), Axis("lora.rank", ("4", "8"))]
    trials = settings.trials(settings.grid(axes), [{"seed": "0"}, {"seed": "1"}])
    assert [one.name for one in trials[:3]] == [
        "learning_rate_1e-5__rank_4__seed_0",
        "learning_rate_1e-5__rank_4__seed_1",
        "learning_rate_1e-5__rank_8__seed_0",
    ]
    assert len({one.name for one in trials}) == len(trials) == 8
    assert trials[0].setting == {"optimizer.learning_rate": "1e-5", "lora.rank": "4"}
    assert trials[0].repeat == {"seed": "0"}
    assert trials[0].overrides == {**trials[0].setting, "seed": "0"}


def test_names_are_safe_differ_and_depend_on_the_setting_alone():
    names = settings.names_of([{"a.b": "('x', 'y')"}, {"a.b": "x/y"}, {"a.b": "z"}])
    assert names[0].startswith("b_x_y__")
    assert names[1].startswith("b_x_y__")
    assert names[0] != names[1]
    assert names[2] == "b_z"
    assert settings.names_of([{"a.size": "1", "b.size": "2"}]) == ["a.size_1__b.size_2"]
    (long,) = settings.names_of([{f"group.key_{i}": "value" for i in range(40)}])
    assert len(long) < 150


def test_what_get_sweep_can_say():
    hyper = Hyper()
    seeds, rates = hyper.sweep("config.seed", range(2)), hyper.sweep("rate", [1e-5, 3e-5])
    assert settings.of_file(hyper.product([rates, seeds]), "f") == [
        {"rate": rate, "seed": seed} for rate, seed in itertools.product(("1e-05", "3e-05"), ("0", "1"))
    ]
    zipped = hyper.zipit([rates, hyper.fixed("rank", 8, length=2), hyper.fixed("task", "tagging")])
    assert zipped == [{"rate": rate, "rank": 8, "task": "tagging"} for rate in (1e-5, 3e-5)]
    assert hyper.chainit([seeds, rates]) == [*seeds, *rates]
    assert settings.of_file(hyper.sweep("heads", [("a", "b")]), "f") == [{"heads": "('a', 'b')"}]
    with pytest.raises(InputError, match="zipit takes parts of one length, not 2, 3"):
        hyper.zipit([rates, hyper.sweep("rank", [1, 2, 3])])
    with pytest.raises(InputError, match="rate has two values in one setting"):
        hyper.product([rates, rates])
    for wrong in (None, [], [1], [{}], {"seed": 1}):
        with pytest.raises(InputError, match="get_sweep must return a list of dicts"):
            settings.of_file(wrong, "f")


def test_the_command_line_multiplies_the_files_sweep():
    listed = [{"rate": "1"}, {"rate": "2"}]
    assert settings.grid([Axis("rank", ("4", "8"))], listed)[1] == {"rate": "1", "rank": "8"}
    with pytest.raises(InputError, match="one setting twice: rate=1"):
        settings.trials([*listed, {"rate": "1"}])


def test_random_settings_are_a_function_of_the_seed_and_do_not_repeat():
    axes = [Range("rate", "log", 1e-5, 1e-3), Axis("rank", ("4", "8"))]
    first = list(itertools.islice(settings.random_settings(axes, seed=0), 20))
    assert first[:5] == list(itertools.islice(settings.random_settings(axes, seed=0), 5))
    assert first[:5] != list(itertools.islice(settings.random_settings(axes, seed=1), 5))
    few = list(settings.random_settings([Axis("a", ("1", "2")), Range("b", "int", 1, 3)], seed=0))
    assert len(few) == len({tuple(one.values()) for one in few}) == 6

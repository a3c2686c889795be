"""Profiles of a few steps: what is traced, and which steps are refused."""

import pytest

from tests.training.test_loop import Accident, Silent, accident
from tx_jax.config import from_config_dict
from tx_jax.errors import InputError
from tx_jax.runs import metrics_log
from tx_jax.tasks.masked_lm import MaskedLM
from tx_jax.training import loop
from tx_jax.training.profile import ProfiledSteps


@pytest.mark.parametrize("text", ["", "a-b", "0-3", "5-4", "3-", "-3", "1-2-3", "1.5-2"])
def test_what_is_no_range_of_steps_is_refused(text):
    with pytest.raises(InputError, match=f"--profile_steps={text}: give the first and the last step"):
        ProfiledSteps.parse(text)


def test_steps_that_the_run_does_not_train_are_refused():
    assert ProfiledSteps.parse("100-103") == ProfiledSteps(100, 103)
    assert ProfiledSteps.parse("7") == ProfiledSteps(7, 7)
    ProfiledSteps(4, 8).check(3, 8)
    with pytest.raises(InputError, match="4-9: the run has 8 steps"):
        ProfiledSteps(4, 9).check(0, 8)
    with pytest.raises(InputError, match="4-8: the run continues after step 4"):
        ProfiledSteps(4, 8).check(4, 8)


@pytest.fixture
def profiled(smoke_config, tiny_store, tmp_path, caplog):
    """Trains six steps and profiles some. Returns the files of the trace, and the lines about it."""
    smoke_config.model.num_layers = 1
    smoke_config.training.update(num_steps=6, log_every=1, eval_every=0)
    config = from_config_dict(smoke_config)

    def run(first, last, display=None):
        with caplog.at_level("INFO", logger="tx_jax"):
            steps = ProfiledSteps(first, last)
            loop.train(config, MaskedLM(config, tiny_store), tmp_path, display or Silent(), profiled=steps)
        return found()

    def found():
        files = (tmp_path / "profile").rglob("*.trace.json.gz")
        return list(files), [line for line in caplog.messages if line.startswith("profile of steps")]

    run.found = found
    return run


def test_a_trace_lies_in_the_run_directory(profiled, tmp_path):
    (trace,), (line,) = profiled(3, 4)
    assert trace.stat().st_size > 0
    assert line.startswith(f"profile of steps 3-4: {tmp_path / 'profile'}. To look at it")
    records = {r["step"]: r for r in metrics_log.read(tmp_path) if r["split"] == "train"}
    assert [step for step, record in records.items() if "seconds_profiling" in record] == [3, 4, 5, 6]
    assert records[6]["seconds_profiling"] > 0


@pytest.mark.long
def test_steps_that_an_error_cuts_short_are_traced(profiled):
    with pytest.raises(Accident):
        profiled(2, 6, Silent(at=3, action=accident))
    (trace,), _ = profiled.found()
    assert trace.stat().st_size > 0

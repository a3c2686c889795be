"""What run directories tell a report."""

import json

import pytest

from tests.reports import runs
from tests.storage.memory import memory_store
from tx_jax.errors import InputError
from tx_jax.files import path_of
from tx_jax.reports import facts, sections
from tx_jax.sweeps import results
from tx_jax.sweeps.settings import trial
from tx_jax.sweeps.sweep_dir import SweepDir


@pytest.fixture
def sweep(tmp_path):
    for rate in (1e-5, 3e-5):
        for seed in (0, 1):
            runs.write(tmp_path / f"sweep/rate_{rate:g}__seed_{seed}", seed=seed, rate=rate, score=0.5 + 0.2 * seed)
    return tmp_path


def test_runs_are_found_below_a_folder_once_each(sweep):
    found = facts.find([str(sweep), str(sweep / "sweep/rate_1e-05__seed_0")])
    assert [run.name for run in found] == [
        f"rate_{rate}__seed_{seed}" for rate in ("1e-05", "3e-05") for seed in (0, 1)
    ]
    assert all(run.state == "done" and not run.notes for run in found)
    run = found[0]
    assert (run.steps, run.metric, run.typical("tokens_per_second")) == (20, "macro_f1", 12500.0)
    assert run.spent() == {"training": 23.0, "starting": 4.0, "compiling": 3.0}
    assert facts.best_on_the_way(run, "macro_f1") == (10, 0.5)
    assert facts.best_on_the_way(run, "loss") == (20, 0.1)  # lower is better


def test_runs_of_one_setting_are_a_group_with_a_spread(sweep):
    found = facts.find([str(sweep)])
    assert set(facts.differing(found)) == {"seed", "optimizer.learning_rate"}
    groups = facts.groups(found)
    assert [len(group) for group in groups] == [2, 2]
    spread = facts.spreads(groups[0])["validation", "macro_f1"]
    assert spread.mean == pytest.approx(0.6)
    assert spread.deviation == pytest.approx(0.2 / 2**0.5)


def test_runs_with_one_name_are_told_apart_by_their_folders(tmp_path):
    for name in ("a/run", "b/run"):
        runs.write(tmp_path / name)
    assert [run.name for run in facts.find([str(tmp_path)])] == ["a/run", "b/run"]


def test_final_metrics_are_those_of_the_step_that_is_asked_for(tmp_path):
    run = facts.read(runs.write(tmp_path / "run"), "run")
    assert run.final()["test"]["macro_f1"] == pytest.approx(0.4)
    assert run.final(10) == run.final()
    assert run.final(20) == {"validation": {"loss": 0.1, "macro_f1": pytest.approx(0.4)}}
    assert run.final(7) == {}


def test_a_log_that_was_cut_short_is_read_and_said(tmp_path):
    folder = runs.write(tmp_path / "run")
    log = folder / "metrics.jsonl"
    log.write_text(log.read_text()[:-20])
    (run,) = facts.find([str(folder)])
    assert len(run.records) == 7
    assert run.notes == ("the last line of metrics.jsonl was cut short, and is left out",)
    log.write_text("{" + log.read_text())
    with pytest.raises(InputError, match=r"metrics.jsonl, line 1 is damaged: remove that line"):
        facts.find([str(folder)])


def test_where_no_run_is(tmp_path):
    with pytest.raises(InputError, match="there is no run in it; give run directories"):
        facts.find([str(tmp_path)])
    with pytest.raises(InputError, match="there is no such folder"):
        facts.find([str(tmp_path / "gone")])
    (tmp_path / "config.json").write_text('{"model": 1}')
    with pytest.raises(InputError, match="there is no run in it"):
        facts.find([str(tmp_path)])


def test_a_run_that_failed_or_has_not_begun(tmp_path):
    folder = runs.write(tmp_path / "run")
    (folder / "DONE").rename(folder / "FAILED")
    assert facts.read(folder, "run").state == "failed: step 20"
    for name in ("metrics.jsonl", "evaluation.json", "FAILED"):
        (folder / name).unlink()
    run = facts.read(folder, "run")
    assert run.state == "not finished"
    assert run.notes == ("it has logged nothing yet",)
    assert (run.final(), run.spent(), run.curves()) == ({}, {}, {})


def test_runs_on_a_store_are_read_there(tmp_path):
    with memory_store():
        here = runs.write(tmp_path / "run")
        for file in here.iterdir():
            path_of("gs://bucket/sweep/run/" + file.name, "x").write_bytes(file.read_bytes())
        (run,) = facts.find(["gs://bucket/sweep"])
        assert run.name == "run"
        assert run.final() == facts.read(here, "run").final()
        one = trial({"seed": "0"}, "run")
        assert results.collect(SweepDir(path_of("gs://bucket/sweep", "x")), [one]).best.mean == 0.5


def test_labels_of_sets_have_their_scores(tmp_path):
    folder = runs.write(tmp_path / "run")
    evaluation = json.loads((folder / "evaluation.json").read_text())
    for split in evaluation.values():
        del split["confusion"]
    evaluation["test"]["label_counts"] = {"labels": ["a", "b"], "counts": [[3, 4, 6], [0, 2, 0]]}
    (folder / "evaluation.json").write_text(json.dumps(evaluation))
    section = sections.labels([facts.read(folder, "run")])
    (table,) = section.parts
    assert table.title == "run, test data"
    assert table.rows == [["a", "0.5000", "0.7500", "0.6000", "4"], ["b", "0.0000", "0.0000", "0.0000", "2"]]
    assert section.text == []

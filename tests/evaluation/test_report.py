"""The evaluation at the end: of which batches, on which mesh, in memory for how long; and the spread of several."""

import dataclasses
import gc
import json
import weakref

import pytest

from tests import labeled_files
from tests.multidevice import processes
from tests.tasks.test_classification import tokenizer
from tests.training.test_loop import Silent
from tx_jax.config import from_config_dict
from tx_jax.errors import InputWarning
from tx_jax.evaluation import report
from tx_jax.evaluation.report import Report, spread
from tx_jax.runs.run_dir import RunDir
from tx_jax.runs.start import open_start
from tx_jax.tasks.registry import open_task
from tx_jax.training import loop

READ = {}


def labeled_run(folder, **mesh):
    """The configuration of a classifier of two steps, in batches of 8, on 200 examples, 20 of them held out."""
    from configs import classification

    c = classification.get_config("smoke")
    c.data.train = str(folder / "train.jsonl")
    labeled_files.write(folder / "train.jsonl", from_config_dict(c).data, count=200)
    labeled_files.write_model(folder / "model", tokenizer())
    c.start_from = str(folder / "model")
    c.training.update(num_steps=2, eval_every=0, checkpoint_every=2)
    c.mesh.update(mesh)
    return c


def train(c, workdir):
    values, start = open_start(c.to_dict(), workdir)
    task = open_task(from_config_dict(values), tokenizer=start.tokenizer)
    loop.train(task.config, task, workdir, Silent(), start)
    return task


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    return folder / "run", train(labeled_run(folder), folder / "run")


def test_some_batches_or_all_are_named(run):
    workdir, task = run
    seen = []
    whole = report.evaluate_run(workdir, task=task, progress=lambda *told: seen.append(told))["validation"]
    assert whole.batches[0] == whole.batches[1] > 1
    assert whole.is_whole
    count = whole.batches[1]
    assert seen[0] == ("the model of step 2 on validation data", 0, count)
    assert ("the model of step 2 on validation data", count, count) in seen
    assert seen[-1] == ("the baselines on validation data", count, count)
    part = report.evaluate_run(workdir, task=task, batches=1)
    assert part["validation"].batches == (1, count)
    assert not part["validation"].is_whole
    report.write(workdir, part)
    written = json.loads((workdir / "evaluation.json").read_text())["validation"]
    assert written["batches"] == {"first": 1, "of": count}
    before = (workdir / "evaluation.json").stat().st_mtime_ns
    report.write(workdir, part)
    assert (workdir / "evaluation.json").stat().st_mtime_ns == before


def test_a_run_is_evaluated_in_another_folder(run, tmp_path, monkeypatch):
    workdir, task = run
    for name, key, value in (("config", "data", None), ("env", "folder", str(workdir.parent))):
        values = json.loads((workdir / f"{name}.json").read_text())
        assert key in values
        changed = values | {key: values[key] | {"train": "train.jsonl"} if value is None else value}
        monkeypatch.setitem(READ, f"{name}.json", changed)
    monkeypatch.setattr(RunDir, "_read_json", lambda self, name: READ[name])
    monkeypatch.chdir(tmp_path)
    with pytest.warns(InputWarning, match="data.train=train.jsonl is taken from"):
        found = report.evaluate_run(workdir)
    assert found["validation"].metrics == report.evaluate_run(workdir, task=task)["validation"].metrics


def test_the_table_says_of_which_batches_it_is(run, capsys):
    from experiments.display import show_reports

    show_reports(run[0], {"validation": Report(2, {"loss": 1.0}, {}, (10, 2500))})
    assert "first 10 of 2,500 batches" in " ".join(capsys.readouterr().out.split())
    show_reports(run[0], {"validation": Report(2, {"loss": 1.0}, {}, (2500, 2500))})
    assert "batches" not in capsys.readouterr().out


def test_the_table_of_every_split_names_the_model(capsys):
    from experiments.display import show_reports

    part = Report(2, {"loss": 1.0}, {}, (10, 10))
    show_reports("runs/mine", {"validation": part, "test": part, "other": part})
    assert capsys.readouterr().out.count("Step 2 of runs/mine") == 3


def test_a_mesh_that_does_not_fit_is_said_and_not_needed(run):
    workdir, task = run
    stored = json.loads((workdir / "config.json").read_text())
    config = task.config
    other = dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, data=1, fsdp=4, tensor=2))
    with pytest.warns(InputWarning, match=r"mesh.fsdp=4.*does not fit 1 cpu.*every device holds all parameters"):
        assert report._run_mesh(other) is None
    assert stored["mesh"]["fsdp"] == 1


@pytest.mark.long
def test_the_report_is_made_on_the_mesh_of_the_run(tmp_path):
    result = processes.run("tests.multidevice.final_report", str(tmp_path))
    assert result["mesh"] == {"data": 2, "fsdp": 4, "context": 1, "tensor": 1}
    rows, columns = result["shape"]
    assert result["shard"] == [rows // 4, columns]
    for name, value in result["alone"].items():
        assert result["together"][name] == pytest.approx(value, rel=1e-4), name


def test_the_data_of_a_run_goes_with_it(tmp_path):
    """As of several seeds, each of which has its own."""
    c = labeled_run(tmp_path)
    task = train(c, tmp_path / "run")
    report.evaluate_run(tmp_path / "run", task=task)
    held = weakref.ref(task), weakref.ref(task.split("train").table)
    del task
    gc.collect()
    assert [reference() for reference in held] == [None, None]


def test_the_spread_of_several_runs():
    runs = [{"validation": Report(5, {"mcc": value, "loss": 1.0}, {})} for value in (0.1, 0.2, 0.6)]
    found = spread(runs)["validation"]
    assert found["mcc"].mean == pytest.approx(0.3)
    assert found["mcc"].deviation == pytest.approx(((0.2**2 + 0.1**2 + 0.3**2) / 2) ** 0.5)
    assert found["mcc"].values == (0.1, 0.2, 0.6)
    assert found["loss"].deviation == 0.0

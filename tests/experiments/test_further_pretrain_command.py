"""Further pretraining as a user runs it: one command, four steps and a report; run again, only what is missing."""

import json
import re
import shlex

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests import labeled_files, programs
from tests.conftest import write_corpus
from tests.data.labeled.configs import labeled
from tests.experiments.test_command_lines import executed
from tx_jax.convert import model_dir


def further_pretrain(*arguments):
    return programs.run("tests.experiments.steps_in_forks", "further_pretrain", *arguments, asks=True)


@pytest.fixture
def arguments(tiny_store, tmp_path):
    labeled_files.write_model(tmp_path / "model", tiny_store.tokenizer(), heads=("masked_lm", "pooled"))
    write_corpus(tmp_path / "text.txt", documents=60)
    text = (tmp_path / "text.txt").read_text()
    (tmp_path / "text.txt").write_text(text.replace(".", " covid."))
    return [
        "--config=configs/further_pretrain.py:smoke",
        f"--config.start_from={tmp_path / 'model'}",
        f"--config.source={tmp_path / 'text.txt'}",
        "--config.new_tokens=covid",
        "--config.similar.covid=abc,bcd",
        "--config.validation_fraction=0.2",
        "--config.training.num_steps=4",
        f"--workdir={tmp_path / 'work'}",
    ]


@pytest.fixture
def downstream(tmp_path):
    labeled_files.write(tmp_path / "texts.csv", labeled(), count=40)
    values = {"data.train": tmp_path / "texts.csv", "training.num_steps": 2, "training.eval_every": 2}
    given = ["configs/classification.py:smoke", *(f"--config.{key}={value}" for key, value in values.items())]
    return "--config.downstream=" + shlex.join([*given, "--seeds=3,5"])


@pytest.fixture
def work(arguments, tmp_path):
    done = further_pretrain(*arguments)
    assert done.returncode == 0, done.stderr
    return tmp_path / "work"


def test_all_four_steps(work):
    start = model_dir.load(work / "start")
    assert start.tokenizer.token(start.config.vocab_size - 1) == "covid"
    assert json.loads((work / "huggingface/config.json").read_text())["vocab_size"] == start.config.vocab_size
    pooler = load_file(work / "huggingface/model.safetensors")["bert.pooler.dense.weight"]
    np.testing.assert_array_equal(pooler.T, start.params["pooler/kernel"])  # weight decay has not shrunk it
    report = json.loads((work / "report/report.json").read_text())
    assert report["occurrences"]["covid"] > 0
    assert set(report["models"]) == {"original", "before", "after"}
    assert set(report["models"]["after"]["neighbours"]) == {"covid"}
    assert (work / "report/words.png").stat().st_size > 0


@pytest.mark.long
def test_again_only_what_is_missing(work, arguments, downstream, tmp_path):
    again = further_pretrain(*arguments, downstream)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count(": skipping ") == 4
    ran = re.findall(r"^\$ python -m experiments\.(\w+)", again.stdout, re.MULTILINE)
    assert ran == ["train", "train", "domain_report"]
    models = json.loads((work / "report/report.json").read_text())["models"]
    assert [name for name in models if "downstream" in models[name]] == ["original", "after"]
    for name, begun in (("original", tmp_path / "model"), ("after", work / "run")):
        folder = work / "downstream" / name
        assert models[name]["downstream"] == json.loads((folder / "seeds.json").read_text())
        assert models[name]["downstream"]["seeds"] == [3, 5]
        for seed in (3, 5):
            config = json.loads((folder / f"seed_{seed}/config.json").read_text())
            assert config["start_from"] == str(begun)
    means = [models[name]["downstream"]["validation"]["macro_f1"]["mean"] for name in ("original", "after")]
    (row,) = (line for line in again.stdout.splitlines() if "macro_f1, validation data" in line)
    assert [float(cell.split("±")[0]) for cell in row.split("│")[2:4]] == pytest.approx(means, abs=1e-4)

    assert further_pretrain(*arguments, downstream).stdout.count(": skipping ") == 7


def test_a_step_that_fails_ends_it_with_its_code_and_says_why(arguments):
    done = executed("further_pretrain", *arguments, "--config.new_tokens=covid,abc def")
    assert done.returncode == 2
    assert "'abc def' cannot become a token" in done.stderr
    assert "experiments.prepare" not in done.stdout


def test_what_is_needed_is_said():
    done = further_pretrain("--config.source=x")
    assert done.returncode == 2
    assert "needed: --workdir and --config.start_from" in done.stderr

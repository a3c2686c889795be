"""Fine-tuning as a user does it: several seeds, a report, predictions for a file and for lines, bad input."""

import csv
import json

import numpy as np
import pytest

from tests import labeled_files
from tests.data.labeled.configs import labeled
from tests.experiments.test_command_lines import executed, run
from tx_jax.errors import InputError
from tx_jax.evaluation.report import evaluate_run


@pytest.fixture(scope="module")
def arguments(tiny_store, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    labeled_files.write(folder / "texts.csv", labeled(), count=40)
    labeled_files.write_model(folder / "model", tiny_store.tokenizer())
    return [
        "--config=configs/classification.py:smoke",
        f"--config.data.train={folder / 'texts.csv'}",
        f"--config.start_from={folder / 'model'}",
        "--config.training.num_steps=30",
        "--config.optimizer.learning_rate=2e-3",
    ]


@pytest.fixture(scope="module")
def seeds(arguments, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "seeds"
    done = run("train", *arguments, f"--workdir={workdir}", "--seeds=0,7")
    assert done.returncode == 0, done.stderr
    return workdir, done


@pytest.mark.long
def test_several_seeds_end_with_their_spread(seeds):
    workdir, done = seeds
    found = json.loads((workdir / "seeds.json").read_text())
    assert found["seeds"] == [0, 7]
    reports = [json.loads((workdir / f"seed_{seed}/evaluation.json").read_text()) for seed in (0, 7)]
    values = [report["validation"]["metrics"]["macro_f1"] for report in reports]
    assert found["validation"]["macro_f1"]["values"] == values
    assert found["validation"]["macro_f1"]["mean"] == pytest.approx(sum(values) / 2)
    for word in ("2 seeds", "macro_f1", "the most frequent in training", "the frequency of each label"):
        assert word in done.stdout
    counts = np.array(reports[0]["validation"]["confusion"]["counts"])
    assert reports[0]["validation"]["confusion"]["labels"] == ["0", "1", "2"]
    assert np.trace(counts) / counts.sum() == pytest.approx(reports[0]["validation"]["metrics"]["accuracy"])
    best = json.loads((workdir / "results.json").read_text())["best"]
    assert best["mean"] == pytest.approx(found["validation"]["macro_f1"]["mean"])
    assert best["command"].endswith(f"--workdir={workdir} --seeds=0,7")
    assert (workdir / "sweep.png").stat().st_size > 0
    config = json.loads((workdir / "seed_7/config.json").read_text())
    assert config["seed"] == 7
    assert config["data"]["labels"] == ["0", "1", "2"]


def test_a_token_store_says_nothing_of_labels(seeds):
    with pytest.raises(InputError, match="seed_0 was fine-tuned on labeled examples, not on a token store"):
        evaluate_run(seeds[0] / "seed_0", store="data/mine")


def test_predictions_for_a_file(seeds, tmp_path):
    folder = seeds[0] / "seed_0"
    texts = ["cat sun", "dog, rain", "tree house song", "cat"]
    (tmp_path / "new.csv").write_text("id,text\n" + "".join(f'{i},"{text}"\n' for i, text in enumerate(texts)))
    files = f"--input={tmp_path / 'new.csv'}", f"--output={tmp_path / 'out.csv'}"
    done = executed("predict", f"--workdir={folder}", *files)
    assert done.returncode == 0, done.stderr
    assert "4 predictions" in done.stdout
    with (tmp_path / "out.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["id", "text", "prediction", "probability_0", "probability_1", "probability_2"]
    assert [row["text"] for row in rows] == texts
    for row in rows:
        odds = [float(row[f"probability_{label}"]) for label in (0, 1, 2)]
        assert sum(odds) == pytest.approx(1)
        assert odds[int(row["prediction"])] == max(odds)
    (tmp_path / "bars.txt").write_text('id^text\n0^"cat" sun\n')
    files = f"--input={tmp_path / 'bars.txt'}", f"--output={tmp_path / 'bars.jsonl'}"
    done = run("predict", f"--workdir={folder}", *files, "--delimiter=^", "--quote=none")
    assert done.returncode == 0, done.stderr
    assert "bars.txt: taken for a table with '^' between its columns" in done.stderr
    assert json.loads((tmp_path / "bars.jsonl").read_text())["text"] == '"cat" sun'
    (tmp_path / "bodies.csv").write_text("body\ncat\n")
    for source, target, expected in (
        ("out.csv", "b.csv", "already has a column 'prediction'"),
        (
            "bodies.csv",
            "b.csv",
            "or give it the name that training had; a table whose first line has no names needs --columns",
        ),
        ("new.csv", "b.conll", ".conll is for labels of words"),
        ("new.csv", "new.csv", "is an input file, which would be lost"),
    ):
        again = run("predict", f"--workdir={folder}", f"--input={tmp_path / source}", f"--output={tmp_path / target}")
        assert again.returncode == 2
        assert expected in again.stderr
        assert len(again.stderr.strip().splitlines()) == 1


def test_predictions_for_lines(seeds):
    done = run("predict", f"--workdir={seeds[0] / 'seed_0'}", stdin="cat sun\n\ndog\n")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2
    assert all(line.count("%") == 3 for line in done.stdout.splitlines())
    done = run("predict", f"--workdir={seeds[0] / 'seed_0'}", stdin="caf\xe9\n".encode("latin-1"))
    assert done.returncode == 2
    assert done.stderr.startswith("error: standard input is not UTF-8")


def test_words_from_columns_to_columns(tiny_store, tmp_path):
    data = labeled(text=("0",), label="1")
    labeled_files.write(tmp_path / "tags.conll", data, count=40)
    labeled_files.write_model(tmp_path / "model", tiny_store.tokenizer())
    changes = {"train": tmp_path / "tags.conll", "validation": "", "test": "", "text": "('0',)", "label": "1"}
    arguments = [f"--config.data.{name}={value}" for name, value in changes.items()]
    arguments += [f"--config.start_from={tmp_path / 'model'}", f"--workdir={tmp_path / 'run'}"]
    done = run("train", "--config=configs/tagging.py:smoke", *arguments)
    assert done.returncode == 0, done.stderr
    assert "each word's most frequent training label" in done.stdout
    assert "Chosen for the task and its labels: data.metrics=('entity_f1', " in done.stdout
    assert f"Next: python -m experiments.predict --workdir={tmp_path / 'run'} --input=new.conll" in done.stdout
    found = json.loads((tmp_path / "run/evaluation.json").read_text())["validation"]
    counts = np.array(found["confusion"]["counts"])
    assert np.trace(counts) / counts.sum() == pytest.approx(found["metrics"]["accuracy"])
    (tmp_path / "new.txt").write_text("cat sun, dog\nrain\n")
    files = [f"--input={tmp_path / 'new.txt'}", f"--output={tmp_path / 'new.conll'}"]
    done = run("predict", f"--workdir={tmp_path / 'run'}", *files)
    assert done.returncode == 0, done.stderr
    first, second = (tmp_path / "new.conll").read_text().split("\n\n")
    assert [line.split("\t")[0] for line in first.splitlines()] == ["cat", "sun", ",", "dog"]
    assert second.split("\t")[1] in ("O", "B-PER", "I-PER")
    done = run("predict", f"--workdir={tmp_path / 'run'}", stdin="cat sun, dog\n")
    assert done.returncode == 0, done.stderr
    words = [line.split("\t")[:2] for line in first.splitlines()]
    assert [word.split()[:2] for word in done.stdout.strip().split("   ")] == words


def test_answers_from_questions(tiny_store, tmp_path):
    (tmp_path / "qa.json").write_text(json.dumps(labeled_files.squad(20)))
    labeled_files.write_model(tmp_path / "model", tiny_store.tokenizer())
    arguments = [f"--config.data.train={tmp_path / 'qa.json'}", "--config.data.validation="]
    arguments += [f"--config.start_from={tmp_path / 'model'}", f"--workdir={tmp_path / 'run'}"]
    done = run("train", "--config=configs/squad.py:smoke", *arguments)
    assert done.returncode == 0, done.stderr
    assert "shares most words" in done.stdout
    done = run("predict", f"--workdir={tmp_path / 'run'}", stdin="cat?\nThe cat sits. It rains.\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("%") == 5


@pytest.mark.parametrize(
    ("batches", "coming"), [(0, "the whole of each split"), (1, "the first 1 batches of each split")]
)
def test_the_evaluation_at_the_end_says_what_is_coming(arguments, tmp_path, batches, coming):
    limit = [f"--config.training.final_eval_batches={batches}", "--config.training.num_steps=2"]
    limit.append("--config.training.eval_batch_size=2")
    done = run("train", *arguments, *limit, f"--workdir={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index(coming) < done.stdout.index("evaluating the model of step 2 on validation data")
    written = json.loads((tmp_path / "evaluation.json").read_text())["validation"]["batches"]
    assert written == {"first": batches or written["of"], "of": written["of"]}
    assert written["of"] > 1
    assert ("first 1 of" in done.stdout) == (batches == 1)


def test_the_plan_of_epochs_reads_the_data(arguments):
    """36 examples train, the others are held out; 2 epochs in batches of 8."""
    arguments = [argument for argument in arguments if "num_steps" not in argument]
    done = run("train", *arguments, "--plan", "--config.training.num_epochs=2", "--config.optimizer.frozen=('^e',)")
    assert done.returncode == 0, done.stderr
    assert "9 steps of 8 x 32" in done.stdout
    assert "Not all parameters train." in done.stdout


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            ["--plan", "--config.training.num_epochs=2", "--config.data.train=gone.csv"],
            "To plan without data: --config.training.num_epochs=0",
        ),
        (
            ["--config.training.num_epochs=2", "--config.training.num_steps=9"],
            "num_steps=9 does nothing because training",
        ),
        (["--config.optimizer.no_decay=('bais$',)"], "no_decay: 'bais$' matches no parameter. Did you mean 'bias'?"),
        (["--config.data.label=topic"], "no column 'topic' among 'text', 'label'"),
        (["--config.data.metrics=('f1',)"], "f1 needs two labels, but there are 3"),
        (["--config.model.num_layers=7", "--config.model.dropout=0"], "its shape: leave out model.num_layers=7 (there"),
        (["--config.model.num_labels=7"], "model.num_labels=7: the data has 3"),
        (["--seeds=0"], "give two or more different numbers"),
        (["--seeds=0,1", "--config.training.final_eval_batches=-1"], "--seeds compares the final evaluations"),
        (["--config.training.final_eval_batches=-2"], "must be -1 (none), 0 (all) or a number of batches"),
        (["--config.start_from=", "--config.model.vocab_size=200"], "fine-tuning needs a model with its tokenizer"),
    ],
)
def test_bad_input(arguments, tmp_path, changes, expected):
    if any("num_epochs" in change for change in changes):
        arguments = [argument for argument in arguments if "num_steps" not in argument]
    done = run("train", *arguments, *changes, f"--workdir={tmp_path}")
    assert done.returncode == 2
    assert expected in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1

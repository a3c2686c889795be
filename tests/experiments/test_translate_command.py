"""From two files whose lines belong together to translations, as a user goes: prepare, train, evaluate, translate."""

import json
import re

import numpy as np
import pytest

from tests import programs
from tests.data.translation import pairs
from tx_jax.runs import metrics_log
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.open_model import open_model
from tx_jax.tasks.translation_scores import scores


def run(module, *arguments, **options):
    return programs.run(f"experiments.{module}", *map(str, arguments), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("translate")
    made = {
        name: pairs.made(size, seed) for seed, (name, size) in enumerate({"train": 300, "val": 20, "test": 9}.items())
    }
    made["train"][5] = ("", "nothing")
    specs = {name: pairs.write(folder, name, rows) for name, rows in made.items()}
    done = run(
        "prepare_pairs",
        f"--train={specs['train']}",
        f"--validation={specs['val']}",
        f"--test={specs['test']}",
        f"--store={folder / 'store'}",
        "--tokenizer_kind=unigram",
        "--vocab_size=40",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"train: 299 pairs, [\d,]+ and [\d,]+ tokens; 1 with an empty side are left out", done.stdout)
    return folder


def train(folder, name, *more):
    return run(
        "train",
        "--config=configs/multi30k.py:smoke",
        f"--config.data.store={folder / 'store'}",
        "--config.training.num_steps=12",
        "--config.optimizer.warmup_share=0",
        "--config.optimizer.warmup_steps=2",
        "--config.training.eval_every=6",
        "--config.training.checkpoint_every=3",
        "--config.training.log_every=1",
        f"--workdir={folder / name}",
        *more,
    )


@pytest.fixture(scope="module")
def trained(folder):
    done = train(folder, "whole")
    assert done.returncode == 0, done.stderr
    return done


def test_training_shows_translations_and_scores(folder, trained):
    assert "train: 1 pairs with an empty side were left out of the store" in trained.stderr
    assert "translation: " in trained.stderr
    assert "BLEU|nrefs:1|" in trained.stderr
    assert f"experiments.translate --model={folder / 'whole'}" in trained.stdout
    held_out = [record for record in metrics_log.read(folder / "whole") if record["split"] == "validation"]
    assert [record["step"] for record in held_out] == [6, 12]
    assert {"bleu", "chrf", "causal_lm_perplexity", "byte_perplexity", "word_perplexity"} <= held_out[0].keys()


@pytest.mark.long
def test_a_continued_run_is_bitwise_the_uninterrupted_one(folder, trained):
    """6 + 6 steps are 12: the order of batches, their buckets and dropout follow from the step alone."""
    assert train(folder, "parts", "--config.training.num_steps=6").returncode == 0
    done = train(folder, "parts")
    assert done.returncode == 0, done.stderr
    found = [metrics_log.read(folder / name) for name in ("parts", "whole")]
    losses = [{r["step"]: r["loss"] for r in records if r["split"] == "train"} for records in found]
    assert losses[0] == losses[1]
    with Checkpoints(folder / "parts" / "checkpoints", read_only=True) as checkpoints:
        assert checkpoints.newest() == 12


def test_evaluation_is_of_every_held_out_split(folder, trained):
    done = run("evaluate", f"--model={folder / 'whole'}")
    assert done.returncode == 0, done.stderr
    written = json.loads((folder / "whole" / "evaluation.json").read_text())
    assert written.keys() == {"validation", "test"}
    assert {"bleu", "chrf", "word_perplexity"} <= written["test"]["metrics"].keys()
    assert written["validation"]["batches"]["of"] >= 2


def test_translating_a_file(folder, trained):
    """A line for each line, in order; empty ones stay empty; scores are of what is written."""
    (folder / "in.de").write_text("hund rot\n\nkatze läuft und haus\nhund\n")
    (folder / "ref.en").write_text("dog red\n\ncat runs and house\ndog\n")
    arguments = [f"--model={folder / 'whole'}", f"--input={folder / 'in.de'}", "--max_new_tokens=12"]
    done = run("translate", *arguments, f"--output={folder / 'out.en'}", f"--reference={folder / 'ref.en'}")
    assert done.returncode == 0, done.stderr
    lines = (folder / "out.en").read_text().split("\n")
    assert len(lines) == 5
    assert lines[1] == lines[4] == ""
    expected = scores(lines[:4], (folder / "ref.en").read_text().split("\n")[:4])[1]
    assert done.stdout.splitlines()[-2:] == expected
    one = run("translate", f"--model={folder / 'whole'}", "--text=hund", "--max_new_tokens=12")
    assert one.stdout == lines[3] + "\n"
    asked = run("translate", f"--model={folder / 'whole'}", "--max_new_tokens=12", stdin="hund\n")
    assert asked.stdout == one.stdout
    averaged = run(
        "translate", *arguments, f"--output={folder / 'mean.en'}", "--average_checkpoints=3", "--num_beams=1"
    )
    assert averaged.returncode == 0, averaged.stderr


def test_the_average_is_that_of_the_last_checkpoints(folder, trained):
    """Steps 6, 9 and 12, parameter by parameter; the earliest ones are not kept."""
    workdir = folder / "whole"
    single = [open_model(workdir, step=step).params for step in (6, 9, 12)]
    for path, value in open_model(workdir, average=3).params.items():
        np.testing.assert_allclose(value, np.mean([one[path] for one in single], axis=0), rtol=1e-6, atol=1e-8)
    (path,) = [name for name in single[0] if name.endswith("token/embedding")]
    assert np.abs(single[0][path] - single[2][path]).max() > 1e-4


def test_preview_shows_pairs(folder, trained):
    done = run(
        "preview", "--config=configs/multi30k.py:smoke", f"--config.data.store={folder / 'store'}", "--examples=2"
    )
    assert done.returncode == 0, done.stderr
    assert re.search(r"encoder: .*</s>\ndecoder: <s>.*\npredicts: .*</s>\n", done.stdout)
    assert "256 tokens a side" in done.stdout


def test_a_plan_needs_no_pairs():
    done = run("train", "--config=configs/multi30k.py:smoke", "--config.data.store=nowhere", "--plan")
    assert done.returncode == 0, done.stderr
    assert "8 x 32" in done.stdout


def test_bad_input(folder, trained):
    model = f"--model={folder / 'whole'}"
    (folder / "long.de").write_text("hund\n" + "haus " * 200 + "\n")
    (folder / "short.en").write_text("dog\n")
    (folder / "latin.de").write_bytes("groß\n".encode("latin-1"))
    cases = [
        (
            [f"--input={folder / 'long.de'}", f"--output={folder / 'x'}"],
            r"prompt 2 has \d+ tokens, but the model takes",
        ),
        (
            [f"--input={folder / 'long.de'}", f"--output={folder / 'x'}", f"--reference={folder / 'short.en'}"],
            r"long\.de has 2 lines and .*short\.en 1",
        ),
        ([f"--input={folder / 'latin.de'}", f"--output={folder / 'x'}"], "line 1, byte 3: not valid UTF-8"),
        (["--text=hund", "--source_language=de"], "--source_language=de: the tokenizer has no codes for the languages"),
        (["--text=hund", "--average_checkpoints=9"], r"has \d checkpoints up to step 12, not 9 to average"),
        (["--text=hund", "--num_beams=50"], "num_beams=50 exceeds the vocabulary"),
    ]
    for arguments, message in cases:
        done = run("translate", model, *arguments)
        assert done.returncode == 2
        assert re.search(message, done.stderr), done.stderr
        assert done.stderr.count("\n") == 1
    (folder / "odd.en").write_text("one\n")
    done = run("prepare_pairs", f"--train={folder}/val.de,{folder}/odd.en", "--validation=x,y", f"--store={folder}/new")
    assert done.returncode == 2
    assert re.search(r"val\.de has 20 lines and .*odd\.en 1: the lines", done.stderr)
    done = run(
        "train", "--config=configs/multi30k.py:smoke", "--config.data.store=nowhere", f"--workdir={folder / 'n'}"
    )
    assert done.returncode == 2
    assert "no store of pairs at nowhere" in done.stderr

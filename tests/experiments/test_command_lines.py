"""The entry points as a user runs them: a whole run, a kill, a resume, evaluation, masks, bad input."""

import json
import random
import signal
import subprocess
import sys
import time

import pytest

from tx_jax.training import metrics_log


def command(module, *arguments):
    return [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]


def run(module, *arguments, **options):
    return subprocess.run(command(module, *arguments), capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def train_arguments(tiny_store):
    return [
        "--config=configs/bert_base.py:smoke",
        f"--config.data.store={tiny_store.path}",
        "--config.model.vocab_size=200",
        "--config.model.num_layers=1",
        "--config.training.num_steps=40",
        "--config.training.log_every=1",
        "--config.training.eval_every=20",
        "--config.training.checkpoint_every=4",
    ]


@pytest.fixture(scope="module")
def whole_run(train_arguments, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = run("train", *train_arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def losses(workdir):
    return [(r["step"], r["loss"]) for r in metrics_log.read(workdir) if r["split"] == "train"]


def test_a_run_shows_its_figures_and_leaves_its_story(whole_run):
    workdir, shown = whole_run
    assert "encoder/layer_{0..0}/attention/query/kernel" in shown
    assert "FLOPs per token" in shown
    assert "tokens/s" in shown
    assert "held-out" in shown
    for name in ("config.json", "env.json", "metrics.jsonl", "loss.png", "DONE"):
        assert (workdir / name).stat().st_size > 0
    assert len(losses(workdir)) == 40


def test_killed_at_a_random_step_it_continues_with_bitwise_the_same_losses(whole_run, train_arguments, tmp_path):
    workdir = tmp_path / "run"
    kill_after = random.randint(5, 30)
    process = subprocess.Popen(
        command("train", *train_arguments, f"--workdir={workdir}"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        while process.poll() is None and len(losses(workdir)) < kill_after:
            time.sleep(0.01)
    finally:
        process.kill()
        process.wait()
    killed_at = len(losses(workdir))
    assert killed_at >= kill_after
    assert not (workdir / "DONE").exists(), "the run was over before it could be killed"
    done = run("train", *train_arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert losses(workdir) == losses(whole_run[0]), f"killed after step {killed_at}"


def test_sigterm_saves_and_exits_with_its_own_code(train_arguments, tmp_path):
    workdir = tmp_path / "run"
    process = subprocess.Popen(
        command("train", *train_arguments, "--config.training.num_steps=100000", f"--workdir={workdir}"),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and len(losses(workdir)) < 6:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "SIGTERM" in errors
    saved = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert saved == losses(workdir)[-1][0]


def test_evaluate_prints_and_stores_metrics_beside_baselines(whole_run):
    workdir, _ = whole_run
    done = run("evaluate", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    result = json.loads((workdir / "evaluation.json").read_text())
    assert result["step"] == 40
    assert set(result["metrics"]) == set(result["baselines"])
    for word in ("masked_lm_loss", "unigram entropy", "most frequent token", "next_sentence_accuracy"):
        assert word in done.stdout


def test_fill_mask_gives_candidates_for_each_mask(whole_run):
    workdir, _ = whole_run
    done = run("fill_mask", f"--workdir={workdir}", "--top=3", "--text=abcd [MASK] efgh [MASK].")
    assert done.returncode == 0, done.stderr
    text, *candidates = done.stdout.splitlines()
    assert text == "abcd [MASK] efgh [MASK]."
    assert len(candidates) == 2
    assert all(line.count("%") == 3 for line in candidates)


def test_fill_mask_reads_standard_input(whole_run):
    done = run("fill_mask", f"--workdir={whole_run[0]}", "--top=1", input="a [MASK]\n[MASK] b\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("%") == 2


def test_a_conflicting_resume_is_refused(whole_run, train_arguments):
    done = run("train", *train_arguments, "--config.model.dim=64", f"--workdir={whole_run[0]}")
    assert done.returncode == 2
    assert "model.dim: 32 -> 64" in done.stderr


SMOKE = "--config=configs/bert_base.py:smoke"
BAD_INPUT = {
    "misspelt key": ("train", [SMOKE, "--config.optimizer.learnin_rate=1"], "'config.optimizer.learning_rate'"),
    "misspelt group": ("train", [SMOKE, "--config.optimiser.learning_rate=1"], "'config.optimizer.learning_rate'"),
    "wrong type": ("train", [SMOKE, "--config.optimizer.learning_rate=fast"], "learning_rate=fast"),
    "whole number": ("train", [SMOKE, "--config.model.num_layers=2.5"], "num_layers=2.5"),
    "unknown value": ("train", [SMOKE, "--config.model.activation=geluu"], "'gelu'"),
    "out of range": ("train", [SMOKE, "--config.model.dropout=1.5"], "model.dropout=1.5"),
    "missing config": ("train", ["--config=configs/bert_bas.py"], "'configs/bert_base.py'"),
    "unknown variant": ("train", ["--config=configs/bert_base.py:smok"], "smoke"),
    "no config": ("train", ["--workdir=x"], "--config"),
    "unknown flag": ("train", [SMOKE, "--workdr=x"], "workdir"),
    "stray argument": ("train", [SMOKE, "extra"], "extra"),
    "missing store": ("train", [SMOKE, "--config.data.store=nowhere", "--workdir={tmp}/run"], "experiments.prepare"),
    "no run": ("evaluate", ["--workdir={tmp}/none"], "not a run directory"),
    "no workdir": ("fill_mask", ["--text=[MASK]"], "--workdir"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_clear_error_with_exit_code_2(name, tmp_path):
    module, arguments, said = BAD_INPUT[name]
    if module == "train" and not any(a.startswith("--workdir") for a in arguments):
        arguments = [*arguments, f"--workdir={tmp_path}/run"]
    done = run(module, *(a.format(tmp=tmp_path) for a in arguments))
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) <= 5
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_step_and_text_without_mask(whole_run):
    workdir, _ = whole_run
    for arguments, said in (
        (["--step=7", "--text=[MASK]"], "no checkpoint of step 7"),
        (["--text=plain"], "no [MASK]"),
    ):
        done = run("fill_mask", f"--workdir={workdir}", *arguments)
        assert done.returncode == 2
        assert said in done.stderr


@pytest.mark.parametrize("module", ["train", "evaluate", "fill_mask", "prepare"])
def test_help_teaches(module):
    done = run(module, "--help")
    assert f"python -m experiments.{module}" in done.stdout
    assert "--" in done.stdout

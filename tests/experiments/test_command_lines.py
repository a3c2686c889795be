"""The entry points as a user runs them: a whole run, a kill, a resume, evaluation, masks, bad input.

The first run of each is in a process that imports all itself (`executed`); tests/programs.py starts the others.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import pytest

from tests import programs
from tests.xla_flags import xla_flags
from tx_jax.runs import metrics_log


def executed(module, *arguments):
    command = [sys.executable, "-m", f"experiments.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def start(module, *arguments):
    return programs.start(f"experiments.{module}", *arguments)


def run(module, *arguments, **options):
    return programs.run(f"experiments.{module}", *arguments, **options)


@pytest.fixture(scope="module")
def train_arguments(tiny_store):
    return [
        "--config=configs/bert_base.py:smoke",
        f"--config.data.store={tiny_store.path}",
        "--config.model.vocab_size=200",
        "--config.model.num_layers=1",
        "--config.training.num_steps=60",
        "--config.training.log_every=1",
        "--config.training.eval_every=20",
        "--config.training.checkpoint_every=10",
    ]


@pytest.fixture(scope="module")
def whole_run(train_arguments, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "whole"
    done = executed("train", *train_arguments, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    return workdir, done.stdout


def losses(workdir):
    return [(r["step"], r["loss"]) for r in metrics_log.read(workdir) if r["split"] == "train"]


def wait_for_losses(process, workdir, count):
    deadline = time.monotonic() + 120
    while process.poll() is None and len(losses(workdir)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_run_shows_its_figures_and_leaves_its_story(whole_run):
    workdir, shown = whole_run
    assert "encoder/layer_{0..0}/attention/query/kernel" in shown
    assert "FLOPs per token" in shown
    assert "tokens/s" in shown
    assert "held-out" in shown
    assert re.search(r"about \d+ s for the \d+ steps that are left, on this machine \([\d,]+ tokens/s\)", shown)
    assert re.search(
        r"Time: 0:\d\d:\d\d, [\d.]+% of it in training steps; starting [\d.]+ s, compiling [\d.]+ s", shown
    )
    for name in ("config.json", "env.json", "metrics.jsonl", "loss.png", "DONE"):
        assert (workdir / name).stat().st_size > 0
    assert len(losses(workdir)) == 60


def test_killed_at_a_random_step_it_continues_with_bitwise_the_same_losses(whole_run, train_arguments, tmp_path):
    workdir = tmp_path / "run"
    kill_after = random.randint(11, 18)
    process = start("train", *train_arguments, f"--workdir={workdir}")
    try:
        wait_for_losses(process, workdir, kill_after)
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
    process = start("train", *train_arguments, "--config.training.num_steps=100000", f"--workdir={workdir}")
    wait_for_losses(process, workdir, 6)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "SIGTERM" in errors
    saved = max(int(p.name) for p in (workdir / "checkpoints").iterdir() if p.name.isdigit())
    assert saved == losses(workdir)[-1][0]


def test_evaluate_prints_and_stores_metrics_beside_baselines(whole_run):
    workdir, _ = whole_run
    done = executed("evaluate", f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    result = json.loads((workdir / "evaluation.json").read_text())["validation"]
    assert result["step"] == 60
    assert set(result["metrics"]) == {*result["baselines"], "masked_dropped"}
    for word in ("masked_lm_loss", "unigram entropy", "most frequent token", "next_sentence_accuracy"):
        assert word in done.stdout


def test_fill_mask_gives_candidates_for_each_mask(whole_run):
    workdir, _ = whole_run
    done = executed("fill_mask", f"--workdir={workdir}", "--top=3", "--text=abcd [MASK] efgh [MASK].")
    assert done.returncode == 0, done.stderr
    text, *candidates = done.stdout.splitlines()
    assert text == "abcd [MASK] efgh [MASK]."
    assert len(candidates) == 2
    assert all(line.count("%") == 3 for line in candidates)


def test_fill_mask_reads_standard_input(whole_run):
    done = run("fill_mask", f"--workdir={whole_run[0]}", "--top=1", stdin="a [MASK]\n[MASK] b\n")
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
    "idle key": ("train", [SMOKE, "--config.data.span_max_words=3"], "does nothing because data.mask_unit='token'"),
    "idle key of a plan": ("train", [SMOKE, "--plan", "--config.lora.alpha=3"], "does nothing because lora.rank=0"),
    "boolean apart": ("train", [SMOKE, "--config.model.use_bias", "false"], "to true or false, write --FLAG=false"),
    "missing config": ("train", ["--config=configs/bert_bas.py"], "'configs/bert_base.py'"),
    "unknown variant": ("train", ["--config=configs/bert_base.py:smok"], "smoke"),
    "no config": ("train", ["--workdir=x"], "--config"),
    "unknown flag": ("train", [SMOKE, "--workdr=x"], "workdir"),
    "stray argument": ("train", [SMOKE, "extra"], "extra"),
    "missing store": ("train", [SMOKE, "--config.data.store=nowhere", "--workdir={tmp}/run"], "experiments.prepare"),
    "topology without plan": ("train", [SMOKE, "--topology=v5e-4"], "--plan"),
    "profile of a plan": ("train", [SMOKE, "--plan", "--profile_steps=1-2"], "a plan runs no step"),
    "profile past the end": ("train", [SMOKE, "--profile_steps=20-21"], "the run has 20 steps"),
    "unknown TPUs": ("train", [SMOKE, "--plan", "--topology=v5e-5"], "Did you mean 'v5e-"),
    "no mesh to plan": ("train", [SMOKE, "--plan", "--config.mesh.data=3"], "does not fit 1 cpu device"),
    "no run": ("evaluate", ["--workdir={tmp}/none"], "not a run directory"),
    "two models": ("evaluate", ["--workdir={tmp}", "--model={tmp}"], "both name the model"),
    "data without a reader": ("evaluate", ["--model={tmp}", "--text=body"], "--text says how to read --data"),
    "a decimal sign": (
        "evaluate",
        ["--model={tmp}", "--decimal=,"],
        "--decimal says how to read --data",
    ),
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


def test_steps_that_are_trained_cannot_be_profiled(whole_run, train_arguments):
    done = run("train", *train_arguments, f"--workdir={whole_run[0]}", "--profile_steps=50-60")
    assert done.returncode == 2
    assert "the run continues after step 60" in done.stderr
    assert not (whole_run[0] / "profile").exists()


def test_help_with_a_configuration_lists_its_keys():
    done = run("train", "--help", SMOKE)
    assert done.returncode == 0
    assert "--config.model.dim=32" in done.stdout


def test_an_unwritable_workdir_is_named(train_arguments, tmp_path):
    (tmp_path / "file").write_text("")
    done = run("train", *train_arguments, f"--workdir={tmp_path}/file/run")
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "file") in done.stderr


def test_a_reader_that_is_gone_is_no_success():
    """A training run whose output nobody takes any more has not done what it should."""
    reader, writer = os.pipe()
    os.close(reader)
    program = "from experiments import command_line; command_line.run(lambda argv: print('step 1', flush=True))"
    done = subprocess.run([sys.executable, "-c", program], stdout=writer, stderr=subprocess.PIPE, check=False)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.long
def test_eight_devices_and_then_one(train_arguments, tmp_path):
    """The same command on another machine: a checkpoint of eight devices continues on one."""
    arguments = [*train_arguments, f"--workdir={tmp_path}/run"]
    eight = {"XLA_FLAGS": xla_flags(devices=8)}
    done = run("train", *arguments, "--config.training.num_steps=8", environment=eight)
    assert done.returncode == 0, done.stderr
    assert "8 x cpu" in done.stdout
    done = run("train", *arguments, "--config.training.num_steps=10")
    assert done.returncode == 0, done.stderr
    assert "Continuing after step 8" in done.stdout
    assert [step for step, _ in losses(tmp_path / "run")] == list(range(1, 11))


def test_a_plan_needs_no_data_and_no_run_directory():
    arguments = [SMOKE, "--plan", "--config.model.num_layers=1", "--config.data.store=nowhere"]
    done = run("train", *arguments, environment={"XLA_FLAGS": xla_flags(devices=8)})
    assert done.returncode == 0, done.stderr
    shown = " ".join(done.stdout.split())
    for part in (
        "8 x cpu (data 8",
        "20 steps of 8 x 32",
        "gradients, activations, temporaries",
        "in a step: all-reduce",
    ):
        assert part in shown
    assert "Planned, not measured." in shown


@pytest.mark.parametrize("module", ["train", "evaluate", "fill_mask", "prepare"])
def test_help_teaches(module):
    done = executed(module, "--help")
    assert done.returncode == 0
    assert f"python -m experiments.{module}" in done.stdout
    assert "--" in done.stdout


def test_a_run_that_goes_on_may_have_what_would_be_refused_to_start(whole_run, train_arguments, tmp_path):
    """And its vocabulary is the store's, where the command does not say another one."""
    idle = "--config.data.read_ahead=3", "--config.optimizer.warmup_steps=3"
    arguments = [argument for argument in train_arguments if "vocab_size" not in argument]
    done = run("train", *arguments, *idle, f"--workdir={whole_run[0]}")
    assert done.returncode == 0, done.stderr
    assert "model.vocab_size=200, that of " in done.stdout
    assert "The run is complete" in done.stdout
    done = run("train", *arguments, *idle, f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 2
    assert "optimizer.warmup_steps=3 does nothing because optimizer.warmup_share=0.25" in done.stderr
    assert not (tmp_path / "run").exists()

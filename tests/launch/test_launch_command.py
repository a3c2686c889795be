"""`python -m experiments.launch_tpu` as a user runs it, against the stand-in; the long form trains for real."""

import os
import shutil
import signal
import subprocess
import sys
import time

import pytest

from tests import programs
from tests.experiments.test_command_lines import losses
from tests.launch import standin

PLACE = ["--name=bert", "--zone=us-central2-b"]
TRAINING = ["--config=configs/bert_base.py:smoke", "--config.data.store=gs://bucket/store", "--workdir=gs://bucket/run"]
CREATE = ["create", *PLACE, "--accelerator=v4-8"]


@pytest.fixture
def cloud(tmp_path):
    return standin.make(tmp_path)


def launch(cloud, *arguments, **more):
    environment = standin.environment(cloud) | more
    return programs.run("experiments.launch_tpu", *arguments, environment=environment)


def test_a_dry_run_prints_every_command_and_runs_none(cloud):
    shown = launch(cloud, *CREATE, "--spot", "--labels=team=x", "--env=HOME", "--dry_run", "--", *TRAINING)
    assert shown.returncode == 0, shown.stderr
    commands = [line for line in shown.stdout.splitlines() if line.startswith("gcloud ")]
    words = [line.split()[3:5] if "tpus" in line else line.split()[1:3] for line in commands]
    for word in (["queued-resources", "create"], ["storage", "cp"], ["tpu-vm", "scp"], ["queued-resources", "delete"]):
        assert word in words
    create = next(line for line in commands if "queued-resources create" in line)
    for flag in (
        "--node-id=bert --zone=us-central2-b",
        "--accelerator-type=v4-8 --runtime-version=tpu-ubuntu2204-base",
        "--spot",
        "team=x",
    ):
        assert flag in create
    assert os.environ["HOME"] not in shown.stdout
    assert not (cloud.root / "calls.jsonl").exists()
    for word in ("status", "logs", "ssh", "stop", "delete", "list"):
        shown = launch(cloud, word, *PLACE, "--dry_run")
        assert (shown.returncode, shown.stderr) == (0, "")
        assert shown.stdout.startswith("gcloud ")
    assert not (cloud.root / "calls.jsonl").exists()


BAD_INPUT = {
    "no word": ([], "needed: a word, such as"),
    "another word": (
        ["creat", *PLACE],
        "unexpected word 'creat': give create, status, logs,",
    ),
    "no zone": (["status", "--name=bert"], "needed: --zone"),
    "a name that Google refuses": (["status", "--name=Bert_1", "--zone=z"], "--name=Bert_1: give lower-case"),
    "a command for a word that takes none": (["stop", *PLACE, "--", "x"], "stop takes nothing after --"),
    "no accelerator": (["create", *PLACE, "--", *TRAINING], "needed: --accelerator"),
    "another name": (["create", *PLACE, "--accelerator=v5e-8"], "Google Cloud's name is v5litepod-N"),
    "a topology that gcloud does not take": (["create", *PLACE, "--accelerator=v6e:2x2"], "of v2, v3, v4 only"),
    "two tiers": ([*CREATE, "--spot", "--reserved"], "--spot and --reserved exclude each other"),
    "no training": (CREATE, "needed after --: the flags of experiments.train"),
    "a local workdir": ([*CREATE, "--", *TRAINING[:2], "--workdir=runs/x"], "--workdir=runs/x: the workers write to a"),
    "a local store": ([*CREATE, "--", TRAINING[0], TRAINING[2]], "--config.data.store=data/quickstart: the workers do"),
    "a local model": ([*CREATE, "--", *TRAINING, "--config.start_from=/usr"], "--config.start_from=/usr: the workers"),
    "a configuration elsewhere": ([*CREATE, "--", "--config=/x.py", TRAINING[2]], "--config=/x.py: it must be a file"),
    "an unknown flag": ([*CREATE, "--", *TRAINING, "--sedes=1,2"], "has no flag --sedes. Did you mean 'seeds'?"),
    "a plan": ([*CREATE, "--", *TRAINING, "--plan"], "leave out --plan"),
    "an unknown key": ([*CREATE, "--", *TRAINING, "--config.optimizer.lr=1"], "'config.optimizer.learning_rate'"),
    "no such variable": (
        [*CREATE, "--env=NO_SUCH=1", "--", *TRAINING],
        "--env=NO_SUCH: there is no such variable",
    ),
    "a bad label": ([*CREATE, "--labels=Team=x", "--", *TRAINING], "--labels=Team=x: give KEY=VALUE"),
    "no such resource": (["status", *PLACE], "there is no such queued resource in us-central2-b: it has none"),
    "another accelerator than the zone has": (
        ["create", *PLACE, "--accelerator=v5p-8", "--", *TRAINING],
        "--zone=us-central2-b: it has no v5p-8. It has v4-8, v4-16, v5litepod-16.",
    ),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_is_one_line_before_any_work(cloud, name):
    arguments, said = BAD_INPUT[name]
    done = launch(cloud, *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert said in done.stderr
    assert not cloud.resources


def test_a_gcloud_that_is_missing_or_not_logged_in(cloud):
    done = launch(cloud, "list", *PLACE, PATH="/nowhere")
    assert (done.returncode, done.stderr[:35]) == (2, "error: there is no gcloud on PATH: ")
    (cloud.root / "logged_out").touch()
    done = launch(cloud, *CREATE, "--", *TRAINING)
    assert (done.returncode, done.stderr) == (2, "error: gcloud has no account: run gcloud auth login\n")


def start(cloud, *arguments):
    """The command in a process group of its own, as at a terminal."""
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.launch_tpu", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | standin.environment(cloud),
        start_new_session=True,
    )


@pytest.mark.long
def test_a_training_with_two_preemptions_ends_with_bitwise_the_losses_of_one_without(cloud, tiny_store, tmp_path):
    """And with Ctrl-C in the middle, `stop`, and the same command again."""
    shutil.copytree(tiny_store.path, cloud.file("gs://bucket/store"))
    given = [
        "--config=configs/bert_base.py:smoke",
        "--config.model.vocab_size=200",
        "--config.model.num_layers=1",
        "--config.training.num_steps=60",
        "--config.training.log_every=1",
        "--config.training.eval_every=20",
        "--config.training.checkpoint_every=10",
    ]
    plain = [*given, f"--config.data.store={tiny_store.path}", f"--workdir={tmp_path / 'whole'}"]
    whole = programs.run("experiments.train", *plain)
    assert whole.returncode == 0, whole.stderr
    cloud.plan(*[{"fault": "SIGSTOP@save:3", "then": "preempt"}] * 2)
    command = [*CREATE, "--poll_seconds=0.2", "--", *given]
    command += ["--config.data.store=gs://bucket/store", "--workdir=gs://bucket/run"]
    first, lines = start(cloud, *command), []
    while sum("started: " in line for line in lines) < 3:
        lines.append(first.stdout.readline())
        assert lines[-1], first.stderr.read()
    first.send_signal(signal.SIGINT)
    output, errors = first.communicate(timeout=60)
    lines = "".join(lines) + output
    assert first.returncode == 75, errors
    assert "interrupted: the resource bert and what runs on it go on" in errors
    assert lines.count("of at most 5 after step ") == 2, lines
    assert lines.count("SUSPENDED") == 2
    assert launch(cloud, "stop", *PLACE).returncode == 0
    deadline = time.monotonic() + 60
    while "held exit" not in (status := launch(cloud, "status", *PLACE)).stdout:
        assert time.monotonic() < deadline, status
    assert "bert: ACTIVE, launch 20" in status.stdout
    assert "ACTIVE" in launch(cloud, "list", *PLACE).stdout
    last = launch(cloud, *command)
    assert last.returncode == 0, last.stdout + last.stderr
    assert "taking up launch 20" in last.stdout
    assert "done: gs://bucket/run" in last.stdout
    assert not cloud.resources
    print(*(line for line in (lines + last.stdout).splitlines() if line.startswith("[")), sep="\n")  # for pytest -s
    assert losses(cloud.file("gs://bucket/run")) == losses(tmp_path / "whole")
    assert [step for step, _ in losses(tmp_path / "whole")] == list(range(1, 61))

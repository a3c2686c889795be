"""`tx-jax NAME`, which is `python -m experiments.NAME` from any folder, and its completion in bash."""

import configparser
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import programs

ROOT = Path(__file__).parents[2]


def tx_jax(*arguments, **options):
    return programs.run("tx_jax.console", *arguments, **options)


def test_the_command_is_installed_under_its_name():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    name, _, target = setup["options.entry_points"]["console_scripts"].strip().partition(" = ")
    module, _, function = target.partition(":")
    assert name == "tx-jax"
    assert callable(getattr(importlib.import_module(module), function))


def test_without_a_command_it_lists_them_all():
    shown = tx_jax()
    assert shown.returncode == 0
    for path in (ROOT / "experiments").glob("*.py"):
        is_command = "command_line.run(main" in path.read_text()
        assert (f"\n  {path.stem} " in shown.stdout) == is_command, path
    assert shown.stdout == tx_jax("--help").stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "--help"],
        ["train", "--workdr=x"],
        ["report"],
        ["launch_tpu", "creat"],
    ],
)
def test_it_says_and_ends_as_the_module_does(arguments, tmp_path):
    """But for the commands that it names: these work as it was called."""
    by_name = tx_jax(*arguments, cwd=tmp_path)
    as_module = programs.run(f"experiments.{arguments[0]}", *arguments[1:])
    said = [text.replace("python -m experiments.", "tx-jax ") for text in (as_module.stdout, as_module.stderr)]
    assert [by_name.returncode, by_name.stdout, by_name.stderr] == [as_module.returncode, *said]


def test_a_command_that_does_not_exist():
    done = tx_jax("trian")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: tx-jax has no command 'trian'. Did you mean 'train'? tx-jax alone lists them\n"


def test_dashes_are_as_good_and_a_command_s_own_commands_are_found_from_any_folder(tmp_path):
    """The trials of a sweep are processes of their own, and a configuration may lie in the folder of the call."""
    done = tx_jax("fill-mask", cwd=tmp_path)
    assert "--workdir" in done.stderr
    (tmp_path / "mine.py").write_text("from configs.bert_base import get_config")
    code = "import subprocess, sys; from tx_jax import console; console._find_experiments(); sys.exit(subprocess.run("
    code += "[sys.executable, '-m', 'experiments.train', '--config=mine.py:smoke', '--help']).returncode)"
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--config.model.dim=32" in done.stdout


COMPLETED = [
    ("tx-jax tra", ["train", "translate"]),
    ("tx-jax launch_tpu st", ["status", "stop"]),
    ("tx-jax sweep --search=r", ["random"]),
    ("tx-jax train --config=configs/bert_base.py --config.optimizer.beta", ["--config.optimizer.beta1=",
                                                                          "--config.optimizer.beta2="]),
    ("tx-jax sweep --config=configs/bert_base.py:smoke --sweep.see", ["--sweep.seed="]),
    ("tx-jax train --config=configs/bert", []),  # files are bash's
    ("tx-jax sweep --work", ["--workdir=", "--workers="]),
]  # fmt: skip


def test_bash_completes(tmp_path):
    """By bash itself, whose words end at = and :."""
    (tmp_path / "tx-jax").write_text(f'#!/bin/sh\nexec {sys.executable} -m tx_jax.console "$@"\n')
    (tmp_path / "tx-jax").chmod(0o755)
    script = ['eval "$(tx-jax completion)"', "compopt() { :; }"]
    for line, _ in COMPLETED:
        word = line.replace("=", " ").replace(":", " ").split(" ")[-1]
        script.append(f"COMP_LINE='{line}' COMP_POINT={len(line)} COMP_WORDS=(tx-jax '{word}') COMP_CWORD=1")
        script.append('_tx_jax; echo "${COMPREPLY[*]}"')
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True
    )
    assert [line.split() for line in done.stdout.splitlines()] == [expected for _, expected in COMPLETED], done.stderr

"""What a wheel holds, and configurations by their names from any folder."""

import configparser
import os
import shutil
import sys
from pathlib import Path

import pytest

import tx_jax
from configs import bert_base
from tests import programs
from tx_jax import shipped
from tx_jax.errors import InputError

ROOT = Path(__file__).parents[1]
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
PACKAGES = SETUP["options"]["packages"].split()
ELSEWHERE = dict(line.split(" = ") for line in SETUP["options"]["package_dir"].strip().splitlines())


def test_setup_lists_every_package_and_nothing_outside_tx_jax():
    found = {str(path.parent.relative_to(ROOT)).replace("/", ".") for path in ROOT.glob("tx_jax/**/*.py")}
    assert found == set(PACKAGES) - ELSEWHERE.keys()
    assert ELSEWHERE == {"tx_jax._shipped.configs": "configs", "tx_jax._shipped.experiments": "experiments"}
    assert all(name.split(".")[0] == "tx_jax" for name in PACKAGES)


def test_setup_lists_every_file_that_is_no_module():
    other = {str(path.relative_to(ROOT / "tx_jax")) for path in ROOT.glob("tx_jax/**/*") if path.is_file()}
    other = {name for name in other if not name.endswith((".py", ".pyc"))}
    assert other == set(SETUP["options.package_data"]["tx_jax"].split())


@pytest.mark.parametrize("name", ["bert_base", "bert_base.py", "configs/bert_base.py"])
@pytest.mark.parametrize("variant", ["", ":smoke"])
def test_a_configuration_by_its_name(name, variant, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.located(name + variant) == f"{ROOT / 'configs/bert_base.py'}{variant}"
    assert tx_jax.get_config(name + variant).to_dict() == bert_base.get_config(variant[1:]).to_dict()


def test_a_file_of_ones_own_comes_first_and_imports_ours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(ROOT))])
    own = "from configs import roberta_base\ndef get_config(variant=''):\n    return roberta_base.get_config('smoke')\n"
    Path("bert_base.py").write_text(own)
    assert shipped.located("bert_base") == str(ROOT / "configs/bert_base.py")
    assert shipped.located("bert_base.py") == "bert_base.py"
    assert tx_jax.get_config("bert_base.py").data.packing == "full_sentences"
    assert str(ROOT) not in sys.path


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("bert_bse", "get_config: there is no file 'bert_bse'. Did you mean 'bert_base'?"),
        ("bert-base", "there is no file 'bert-base'. Did you mean 'bert_base'?"),
        ("bert_base:smok", r"ValueError: unknown variant 'smok'; known: smoke"),
        (None, r"get_config takes a name, not None \(NoneType\)"),
        ("texts.csv", "texts.csv is no Python file"),
    ],
)
def test_what_is_no_configuration(name, problem, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert tx_jax.get_config(Path("bert_base:smoke")).to_dict() == tx_jax.get_config("bert_base:smoke").to_dict()
    Path("texts.csv").write_text("label,text\n")
    with pytest.raises(InputError, match=problem):
        tx_jax.get_config(name)


def test_a_sweep_takes_the_name(tmp_path):
    swept = (
        "--extensions=json",
        "--config=bert_base:smoke",
        "--config.data.store=none",
        "--sweep.optimizer.learning_rate=1e-3,1e-4",
    )
    done = programs.run("tx_jax.console", "sweep", *swept, "--workdir=x", "--dry_run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "--extensions=json --config=bert_base:smoke" in done.stdout


@pytest.mark.parametrize("arguments", [["--config=quickstart"], ["--config", "quickstart"]])
def test_a_command_takes_the_name(arguments, tmp_path):
    done = programs.run("tx_jax.console", "train", *arguments, "--config.data.store=none", "--workdir=x", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: no token store at none: make one with tx-jax prepare --store=none\n",  # as it was called
    )


def test_an_empty_name_is_no_configuration(tmp_path):
    done = programs.run("tx_jax.console", "train", "--config=", "--workdir=x", cwd=tmp_path)
    assert (done.returncode, done.stderr[:24]) == (2, "error: --config is empty")


def test_a_wheel_lists_and_runs_its_commands(tmp_path):
    """The packages in the folders that a wheel has; `make wheel-test` builds and installs one."""
    for name in PACKAGES:
        source = ROOT / ELSEWHERE.get(name, name.replace(".", "/"))
        target = tmp_path / "site" / name.replace(".", "/")
        target.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            if path.is_file():
                shutil.copy(path, target)
    (tmp_path / "work").mkdir()
    where = {"PYTHONPATH": str(tmp_path / "site"), "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, "-m", "tx_jax.console"]

    def run(*arguments):
        return programs.subprocess.run(
            [*command, *arguments], cwd=tmp_path / "work", env=os.environ | where, capture_output=True, text=True
        )

    assert "\n  prepare " in run().stdout
    done = run("train", "--config=glue:cola", "--help")
    assert done.returncode == 0, done.stderr
    assert "    tx-jax train --config=configs/bert_base.py --workdir=runs/bert\n" in done.stdout
    assert "python -m experiments" not in done.stdout
    assert "--config.data.train=" in done.stdout

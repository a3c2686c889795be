"""What all commands share: which addresses a flag or a key takes."""

import ast
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import configs
import experiments
from experiments import command_line
from tx_jax.errors import InputError

ADDRESSES = ("gs://bucket/x", "s3://bucket/x", "memory://x/x.csv", "file:///x", "gs:/bucket/x")
NOT_TEXT = {"DEFINE_integer", "DEFINE_float", "DEFINE_bool", "DEFINE_enum", "DEFINE_config_file"}
CONFIGS = [name for _, name, _ in pkgutil.iter_modules(configs.__path__)]


def flags_that_take_text():
    """(command, flag, whether it is a list) of every flag whose value is text: two commands may have the same flag, so
    that they cannot be imported together."""
    for path in sorted(Path(experiments.__path__[0]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            function = node.func.attr if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) else ""
            if function.startswith("DEFINE") and function not in NOT_TEXT:
                yield path.stem, node.args[0].value, function != "DEFINE_string"


FLAGS = list(flags_that_take_text())


@pytest.mark.parametrize(("command", "flag", "is_list"), FLAGS, ids=[f"{command} {flag}" for command, flag, _ in FLAGS])
def test_every_flag_that_takes_text_takes_the_addresses_that_its_table_says(command, flag, is_list, memory):
    """All others refuse them, but for those that say they hold neither a path nor a name: a new flag cannot be
    forgotten."""
    for address in ADDRESSES:
        values = {flag: [address] if is_list else address}
        stored = address.startswith(("gs://", "s3://"))
        reads = flag in command_line.READ_FROM_STORES
        if flag in command_line.FREE_TEXT:
            assert command_line.check_paths(values) == {}
        elif (stored and flag in command_line.ON_STORES) or (reads and (stored or address.startswith("memory:"))):
            assert command_line.check_paths(values) == {f"--{flag}": address}
        else:
            with pytest.raises(InputError, match=rf"^--{flag}={address}: "):
                command_line.check_paths(values)


def test_the_flags_are_found():
    names = {flag for _, flag, _ in FLAGS}
    assert {"workdir", "store", "source", "input", "output", "from_hf", "out"} <= names
    assert names >= command_line.FREE_TEXT
    keys = {"start_from", "train", "validation", "test", "more_splits", "selective_words"}
    assert names | keys >= command_line.ON_STORES | command_line.READ_FROM_STORES
    assert not command_line.ON_STORES & command_line.READ_FROM_STORES
    assert len({command for command, _, _ in FLAGS}) >= 9


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", ["--config=configs/bert_base.py:smoke", "--workdir=ftp://bucket/run"]),
        ("train", ["--config=gs://bucket/mine.py:smoke", "--workdir=run"]),
        ("train", ["--config=configs/bert_base.py:smoke", "--config.data.store=data/a,gs:/b/c", "--workdir=run"]),
        ("prepare", ["--source=text.txt", "--store=gs://bucket/../store"]),
    ],
)
def test_it_is_refused_before_any_work(command, arguments, tmp_path):
    root = Path(experiments.__path__[0]).parent
    arguments = [argument.replace("=configs", f"={root}/configs") for argument in arguments]
    done = subprocess.run(
        [sys.executable, "-m", f"experiments.{command}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("error: --")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", CONFIGS)
def test_every_key_that_takes_text_follows_the_table_too(name, memory):
    path = str(Path(configs.__path__[0]) / f"{name}.py")
    config = command_line.load_config(path, ())
    keys = [key for key, value in command_line._leaves(config).items() if isinstance(value, str)]
    assert "start_from" in keys
    command_line.check_paths({"config": config})
    for key in keys:
        changed = config.copy_and_resolve_references()
        group, _, last = key.rpartition(".")
        (changed[group] if group else changed)[last] = "gs://bucket/x"
        if last in command_line.ON_STORES | command_line.READ_FROM_STORES:
            assert command_line.check_paths({"config": changed}) == {f"--config.{key}": "gs://bucket/x"}
        else:
            with pytest.raises(InputError, match=rf"^--config.{key}=gs://bucket/x: "):
                command_line.check_paths({"config": changed})


@pytest.mark.parametrize(
    "value",
    ["data/a,gs://b/c", ["a", "gs://b/c"], ("mismatched=gs://b/c",), "configs/x.py --config.data.train=gs://b/c"],
)
def test_lists_and_parts_are_looked_through(value, memory):
    with pytest.raises(InputError, match=r"^--x=gs://b/c: "):
        command_line.check_path(value, "--x")
    assert command_line.check_path(value, "--store") == ["gs://b/c"]


@pytest.mark.parametrize("value", ["tfds:glue/cola#train", "org/name", ("^pooler/=10", "(?:bias)$"), "a:b", 3, None])
def test_all_else_is_left_alone(value):
    command_line.check_path(value, "--x")


def test_a_boolean_that_is_none_is_said_in_plain_words():
    config = str(Path(configs.__path__[0]) / "bert_base.py")
    done = subprocess.run(
        [sys.executable, "-m", "experiments.train", f"--config={config}", "--config.model.use_bias=maybe"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (2, "error: flag --config.model.use_bias=maybe: give true or false\n")


def test_every_command_that_computes_with_a_model_keeps_memory_and_programs():
    sources = {path.stem: path.read_text() for path in Path(experiments.__path__[0]).glob("*.py")}
    commands = {name for name, source in sources.items() if "command_line.run(" in source}
    computing = {name for name in commands if "trained.load(" in sources[name] or "loop.train(" in sources[name]}
    assert computing >= {"train", "evaluate", "predict", "embed", "generate", "translate", "interpret"}
    assert {name for name in commands if "keep_memory_and_programs()" in sources[name]} == computing

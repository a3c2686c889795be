"""What tests/programs.py starts is what `python -m` would be."""

import signal
import subprocess

import pytest

from tests import programs


def test_arguments_streams_and_exit_code():
    done = programs.run("json.tool", "--compact", stdin='{"a": "é"}')
    assert (done.returncode, done.stdout, done.stderr) == (0, '{"a":"\\u00e9"}\n', "")
    done = programs.run("json.tool", stdin=b"{")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Expecting property name" in done.stderr
    assert "Expecting property name" in programs.run("json.tool", stdin="{", joined=True).stdout


def test_folder_and_environment(tmp_path):
    program = "import os, sys; print(os.getcwd(), os.environ['MARK'], sys.argv[1:], __name__)"
    (tmp_path / "told.py").write_text(program)
    done = programs.run("told", "--x=1", 2, cwd=tmp_path, environment={"MARK": "here"})
    assert done.stdout == f"{tmp_path} here ['--x=1', '2'] __main__\n"


def test_what_imports_read_counts_too(tmp_path):
    (tmp_path / "told.py").write_text("import jax; print(jax.config.jax_enable_x64)")
    found = [programs.run("told", cwd=tmp_path, environment={"JAX_ENABLE_X64": x}).stdout for x in ("1", "0")]
    assert found == ["True\n", "False\n"]


def test_signals(tmp_path):
    (tmp_path / "asleep.py").write_text("import time; time.sleep(60)")
    process = programs.start("asleep", cwd=tmp_path)
    assert process.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.1)
    process.terminate()
    assert process.wait(30) == -signal.SIGTERM
    assert process.communicate() == ("", "")


def test_nothing_of_a_command_reaches_the_next(tmp_path):
    (tmp_path / "leaves.py").write_text(
        "import jax, os; os.environ['LEFT'] = '1'; jax.config.update('jax_debug_nans', True)"
    )
    (tmp_path / "finds.py").write_text("import jax, os; print('LEFT' in os.environ, jax.config.jax_debug_nans)")
    assert programs.run("leaves", cwd=tmp_path).returncode == 0
    assert programs.run("finds", cwd=tmp_path).stdout == "False False\n"

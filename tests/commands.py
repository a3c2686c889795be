"""The commands that pages show, parsed as the entry points themselves parse them, with nothing run.

    python -m tests.commands FOLDER README.md docs/*.md

prints a line for each that an entry point would refuse. It needs a process of its own: each entry point has its flags.
"""

import contextlib
import functools
import importlib
import io
import os
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

from absl import flags
from ml_collections import config_flags  # noqa: F401 - its flags stay

from tests import documented
from tx_jax import added, shipped
from tx_jax.storage import schemes

COMMANDS = sorted(
    path.stem for path in (documented.ROOT / "experiments").glob("*.py") if "command_line.run(main" in path.read_text()
)
# What stands for something else in the pages.
PLACEHOLDERS = ("...", "…", "FLAGS")
# What is said of a fragment that lacks something, and where an extra is not installed.
INCOMPLETE = ("must have a value other than None", "Missing value for flag", "which is missing: pip install")
# The modules whose flags stay: of libraries.
OTHERS: set[str] = set()


def shown(page: Path) -> list[str]:
    """Commands without `python -m experiments.`: those in blocks, and those in a line that begin with a name."""
    found = []
    for block in documented.blocks(page):
        if block.language in ("", "bash", "sh"):
            for line in block.text.replace("\\\n", " ").splitlines():
                found += re.findall(r"(?:python -m experiments\.|\btx-jax )(.*)", line)
    text = re.sub(r"^( *)```.*?^\1```$", "", page.read_text(), flags=re.M | re.S)
    for span in re.findall(r"`([^`]+)`", text):
        span = " ".join(span.split()).removeprefix("python -m experiments.").removeprefix("tx-jax ")
        if span.partition(" ")[0] in COMMANDS and " " in span:
            found.append(span)
    return found


def problem(command: str) -> str:
    """Why an entry point would refuse a command; "" if it would not."""
    name, *arguments = shlex.split(command, comments=True)
    name = name.replace("-", "_")
    if name not in COMMANDS:
        return f"there is no command {name!r}"
    arguments = arguments[: arguments.index("--")] if "--" in arguments else arguments
    sys.argv = [name, *(one for one in arguments if not any(part in one for part in PLACEHOLDERS))]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
            _forget()
            line = importlib.import_module("experiments.command_line")
            line.run = functools.partial(_parse, line)
            runpy.run_module(f"experiments.{name}", run_name="__main__")
    except SystemExit as end:
        missing = any(what in said.getvalue() for what in INCOMPLETE)
        return said.getvalue().strip() if end.code and not missing else ""
    return ""


def _parse(line: Any, main: object, words: Any = None) -> None:
    """Instead of `command_line.run`: the flags and the words, and no more."""
    words = words or line.NO_WORDS
    rest = line._parse_flags(list(sys.argv), words)
    line._check_words(rest[1:], words)


def _forget() -> None:
    """Each entry point defines its own flags."""
    for flag in list(flags.FLAGS):
        if flag.startswith("config.") or flags.FLAGS.find_module_defining_flag(flag, "") not in OTHERS:
            delattr(flags.FLAGS, flag)
    for loaded in [module for module in sys.modules if module.startswith("experiments")]:
        del sys.modules[loaded]
    flags.FLAGS.unparse_flags()
    os.environ.pop(added.VARIABLE, None)


def main() -> None:
    folder, *pages = map(Path, sys.argv[1:])  # the first is where the modules of docs/extending.md lie
    sys.path[:0] = [str(shipped.ROOT), str(folder.resolve())]
    schemes.check_reachable = lambda address, what: None  # no bucket is asked
    OTHERS.update(flags.FLAGS.flags_by_module_dict())
    for page in pages:
        for command in shown(page):
            if said := problem(command):
                print(f"{page}: {command}: {said}")


if __name__ == "__main__":
    main()

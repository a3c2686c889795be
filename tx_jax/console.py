"""The command `tx-jax`: `tx-jax train ...` is `python -m experiments.train ...`, from any folder.

    tx-jax                      lists the commands
    tx-jax train --help         what a command takes
    eval "$(tx-jax completion)" completion in bash of commands, words, flags, keys of the configuration and file names

The entry points lie in experiments/ of the clone that is installed, or in the wheel: see `shipped`.
"""

import ast
import contextlib
import difflib
import importlib
import os
import runpy
import sys
from collections.abc import Sequence

from tx_jax import shipped

COMPLETE = "--complete"  # what bash asks with: the line up to the cursor, and the part of it that is replaced
BASH = """\
_tx_jax() {
    local word="${COMP_WORDS[COMP_CWORD]}"
    [[ $word == [=:] ]] && word=
    local IFS=$'\\n'
    COMPREPLY=( $(tx-jax --complete "${COMP_LINE:0:COMP_POINT}" "$word" 2>/dev/null) )
    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace
}
complete -o default -F _tx_jax tx-jax
"""


def main() -> None:
    """Runs the command that sys.argv names."""
    name, arguments = (sys.argv[1] if len(sys.argv) > 1 else "--help"), sys.argv[2:]
    commands = _commands()
    if name in ("--help", "-h", "-help", "help"):
        return _show(commands)
    if name == "completion":
        return print(BASH, end="")
    _find_experiments()
    if name == COMPLETE:
        return print("\n".join(_complete(*arguments)))
    module = name.replace("-", "_")
    if module not in commands:
        near = difflib.get_close_matches(module, commands, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        sys.exit(_fail(f"tx-jax has no command {name!r}.{hint} tx-jax alone lists them"))
    sys.argv[:] = [name, *arguments]
    os.environ[shipped.CALLED_BY] = "tx-jax"
    runpy.run_module(f"experiments.{module}", run_name="__main__", alter_sys=True)


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2


def _find_experiments() -> None:
    """Lets this process and those that it starts import the entry points; configurations may lie in this folder."""
    folders = [str(shipped.ROOT), os.getcwd()]
    sys.path[:0] = folders
    os.environ["PYTHONPATH"] = os.pathsep.join([folders[0], *filter(None, [os.environ.get("PYTHONPATH")])])


def _commands() -> dict[str, str]:
    """The entry points by name, and the first line of what each says of itself."""
    found = {}
    for path in sorted((shipped.ROOT / "experiments").glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if '__name__ == "__main__"' in text:
            found[path.stem] = (ast.get_docstring(ast.parse(text)) or "").partition("\n")[0]
    return found


def _show(commands: dict[str, str]) -> None:
    print("tx-jax COMMAND ..., of which tx-jax COMMAND --help says more:\n")
    for name, says in commands.items():
        print(f"  {name:18} {says}")
    print('\n  completion         prints what bash needs to complete: eval "$(tx-jax completion)"')


def _complete(line: str, word: str = "") -> list[str]:
    """What may follow a line, as bash needs it: without what stands before the part that it replaces."""
    before = line.split()[1:]
    current = before.pop() if before and not line[-1:].isspace() else ""
    found = _candidates(before, current)
    return [one[len(current) - len(word) :] for one in sorted(found) if one.startswith(current)]


def _candidates(before: Sequence[str], current: str) -> list[str]:
    commands = _commands()
    if not before:
        return [*commands, "completion"]
    module = before[0].replace("-", "_")
    if module not in commands or "--" in before:
        return []
    with contextlib.suppress(Exception):  # a module that cannot be imported has nothing to offer
        return _of_command(importlib.import_module(f"experiments.{module}"), before[1:], current)
    return []


def _of_command(module: object, before: Sequence[str], current: str) -> list[str]:
    """Words, flags and their values, and keys of the configuration that the line names."""
    from absl import flags

    if not current.startswith("-"):
        return list(getattr(getattr(module, "WORDS", None), "choices", ()))
    own = [flag for name, flags_of in flags.FLAGS.flags_by_module_dict().items() if name.startswith("experiments")
           for flag in flags_of]  # fmt: skip
    name, equals, _ = current[2:].partition("=")
    if equals and name == "config":
        return [f"--config={recipe}" for recipe in shipped.names()]
    if equals:
        values = next((getattr(flag.parser, "enum_values", ()) for flag in own if flag.name == name), ())
        return [f"--{name}={value}" for value in values]
    if current.startswith(("--config.", "--sweep.")):
        return _keys(before, current.partition(".")[0])
    given = {argument[2:].partition("=")[0] for argument in before if argument.startswith("--")}
    found = [f"--{flag.name}" if flag.boolean else f"--{flag.name}=" for flag in own if flag.name not in given]
    return [*found, "--help", *(["--config."] if any(argument.startswith("--config=") for argument in before) else [])]


def _keys(before: Sequence[str], prefix: str) -> list[str]:
    config = next((argument[len("--config=") :] for argument in before if argument.startswith("--config=")), "")
    reading = importlib.import_module("experiments.command_line")
    return [f"{prefix}.{key}=" for key in reading.keys_of(reading.load_config(config, ()))]


if __name__ == "__main__":
    main()

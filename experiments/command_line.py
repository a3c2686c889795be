"""What all entry points share: parsing flags and reporting expected errors to the user."""

import dataclasses
import logging as stdlib_logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

from absl import app, flags, logging
from ml_collections import ConfigDict, config_flags

from tx_jax import added, shipped
from tx_jax.errors import InputError, InputWarning, did_you_mean
from tx_jax.files import is_local, local_path, path_of
from tx_jax.storage import schemes
from tx_jax.storage.failures import StoreFailed

EXIT_BAD_INPUT = 2
EXIT_TRY_AGAIN = 75  # EX_TEMPFAIL
EXIT_INTERRUPTED = 130

# Flags that hold neither a path nor the name of a dataset or model. All others are checked for addresses such as
# gs://, so that no flag can be forgotten.
FREE_TEXT = frozenset(
    {
        "extensions",
        "text",
        "text_pair",
        "query",
        "word",
        "donor",
        "answer",
        "wrong",
        "prompt",
        "stop",
        "study",
        "coordinator",
    }
)
# Flags, and last parts of a configuration's keys, that may hold the address of an object store: of anything, and of
# files that are only read, which may have any scheme of fsspec's.
ON_STORES = frozenset(
    {"after", "before", "checkpoint", "downstream", "from_hf", "model", "original", "out", "output", "start_from"}
    | {"store", "to_hf", "tokenizer", "workdir"}
)
READ_FROM_STORES = frozenset(
    {"data", "input", "more_splits", "new_tokens", "selective_words", "source", "test", "train", "validation", "words"}
)
# A value may hold several comma-separated paths, and a path may follow NAME=.
_BEFORE_A_PATH = re.compile(r"[,;=\s]")


@dataclasses.dataclass(frozen=True)
class Words:
    """The words that an entry point takes besides its flags, in any order with them.

    Attributes:
      needed: what is needed where there is none, with an example; "": none is needed.
      choices: the words that there are, and what each does; none: any.
      others: whether there may be other words than these, which the entry point checks itself.
      most: how many at most; None: any number.
      passes_on: whether what comes after `--` is for another command, see `passed_on`.
    """

    needed: str = ""
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    others: bool = False
    most: int | None = None
    passes_on: bool = False


flags.DEFINE_string(
    "extensions",
    None,
    "Your Python modules that add tasks, heads, masking units or model families, comma-separated: docs/extending.md.",
)
NO_WORDS = Words(most=0)
_config_given = ""


def run(main: Callable[[Sequence[str]], int | None], words: Words = NO_WORDS) -> None:
    """Runs an entry point, with the program and the words. Bad flags, bad words and `InputError` print a line or two
    and exit with code 2."""

    def guarded(argv: Sequence[str]) -> int | None:
        _check_words(argv[1:], words)
        logging.set_verbosity(logging.FATAL)  # libraries log errors, with tracebacks, that they also raise
        for library in ("concurrent.futures", "gcsfs", "s3fs"):
            stdlib_logging.getLogger(library).setLevel(stdlib_logging.CRITICAL)
        _show_log("tx_jax")
        warnings.showwarning = _show_warning
        sys.unraisablehook = _show_unraisable
        try:
            return _ended(main(argv))
        except BrokenPipeError:  # the reader, such as `head`, closed the pipe
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1  # because the work was not finished
        except BaseException as error:
            if (explained := explain(error)) is None:
                raise
            code, message = explained
            print(shipped.spoken(message), file=sys.stderr)
            return code

    app.run(guarded, flags_parser=lambda argv: _parse_flags(argv, words))


def keep_memory_and_programs() -> None:
    """Keeps freed memory for reuse, and compiled programs on disk: for commands that compute with a model, before they
    import jax."""
    from tx_jax.hosts import allocator

    allocator.keep_freed_memory()
    from tx_jax.hosts import compilation

    compilation.keep_programs()


def _ended(code: int | None) -> int | None:
    """The exit code. A tracker that hangs must not keep the process from ending, as its package may do."""
    if getattr(sys.modules.get("tx_jax.runs.trackers"), "left_behind", False):
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code or 0)
    return code


def passed_on() -> list[str]:
    """What comes after `--`, which is for another command."""
    return sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []


def _check_words(given: Sequence[str], words: Words) -> None:
    """Ends the process if these are not words that the entry point takes."""
    if not given and words.needed:
        fail(f"needed: {words.needed}")
    for word in given:
        if words.choices and word not in words.choices and not words.others:
            fail(f"unexpected word {word!r}: give {_listed(words.choices)}.{did_you_mean(word, words.choices)}")
    if words.most is not None and len(given) > words.most:
        extra = given[words.most]
        truth = f"; to set a flag to true or false, write --FLAG={extra}" if extra.lower() in ("true", "false") else ""
        fail(f"unexpected argument {extra!r}{truth}; options start with --, see --help")


def _listed(names: Iterable[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} or {last}" if others else last


def explain(error: BaseException) -> tuple[int, str] | None:
    """The exit code and a one-line message for an expected error; None for any other error."""
    if isinstance(error, StoreFailed):
        return EXIT_TRY_AGAIN, f"error: {error}. Run the same command again to continue."
    if isinstance(error, InputError):
        return EXIT_BAD_INPUT, f"error: {error}"
    if isinstance(error, OSError) and error.filename is not None:  # a file or folder that cannot be read or written
        return EXIT_BAD_INPUT, f"error: {error.filename}: {error.strerror}"
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted"
    return None


def fail(message: str) -> NoReturn:
    """Prints an error that the user can fix, and ends the process."""
    print(shipped.spoken(f"error: {message}"), file=sys.stderr)
    sys.exit(EXIT_BAD_INPUT)


def _show_log(name: str) -> None:
    """Sends a package's log messages to stderr, one per line."""
    handler = stdlib_logging.Handler(stdlib_logging.INFO)
    handler.emit = lambda record: print(record.getMessage(), file=sys.stderr, flush=True)
    logger = stdlib_logging.getLogger(name)
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(stdlib_logging.INFO)


def _show_warning(message: Warning | str, category: type[Warning], filename: str, lineno: int, *rest: object) -> None:
    if issubclass(category, InputWarning):
        print(shipped.spoken(f"warning: {message}"), file=sys.stderr)
    else:
        sys.stderr.write(warnings.formatwarning(message, category, filename, lineno))


def _show_unraisable(unraisable: "sys.UnraisableHookArgs") -> None:
    """Drops TensorStore's message, one per file of a failed save, that its event loop is closed."""
    if str(unraisable.exc_value) != "Event loop is closed":
        sys.__unraisablehook__(unraisable)


def config_file() -> str:
    """--config as it was given, FILE or FILE:VARIANT; "" without one."""
    return _config_given


def _parse_flags(argv: list[str], words: Words) -> list[str]:
    global _config_given
    if words.passes_on:
        argv = argv[: argv.index("--")] if "--" in argv else argv
    flags.FLAGS.set_gnu_getopt(words.most != 0)  # words and flags in any order
    try:
        _load_extensions(argv)
        config = _flag_value(argv, "config")
        _config_given = config or ""
        if config == "":
            raise InputError("--config is empty: give a file, or a name such as bert_base")
        if set(argv) & {"--help", "-help", "-h", "--helpshort", "--helpfull"}:
            _help(config, words)
        if config:
            local_path(config, "--config")
            load_config(config, argv)
            argv = _with_config(argv, config, shipped.located(config))
        rest = flags.FLAGS(argv)
        for what, address in check_paths(flags.FLAGS.flag_values_dict()).items():
            schemes.check_reachable(address, what)
        return rest
    except InputError as error:
        fail(str(error))
    except flags.Error as error:
        if no_boolean := re.match(r"(flag --\S+): \('Non-boolean argument to boolean flag', .*\)$", str(error)):
            fail(f"{no_boolean[1]}: give true or false")
        # The library puts a traceback into some messages; the last line says what went wrong.
        lines = [line for line in str(error).splitlines() if line.strip()]
        fail(lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}")


def _with_config(argv: Sequence[str], given: str, located: str) -> list[str]:
    """The arguments, with the path of a configuration that was given by its name."""
    found = list(argv)
    for i, argument in enumerate(argv):
        if argument.lstrip("-") == f"config={given}":
            found[i] = f"--config={located}"
        elif argument.lstrip("-") == "config" and argv[i + 1 : i + 2] == [given]:
            found[i + 1] = located
    return found


def _load_extensions(argv: Sequence[str]) -> None:
    """Imports what --extensions names, in this process and in those that it starts."""
    if modules := _flag_value(argv, "extensions"):
        os.environ[added.VARIABLE] = modules
        sys.path[:0] = [] if os.getcwd() in sys.path or "" in sys.path else [os.getcwd()]
    added.load(added.given())


def _help(config: str | None, words: Words) -> NoReturn:
    """Prints the entry point's docstring, its words, its flags and, with --config, every key and its value."""
    main_module = sys.modules["__main__"]
    print(shipped.spoken(main_module.__doc__ or ""))
    for word, says in words.choices.items():
        print(f"  {word:14} {says}")
    print(flags.FLAGS.module_help(main_module))
    print(flags.FLAGS.module_help(sys.modules[__name__]))
    if config:
        print(f"\nKeys of {config}:")
        for key, value in _leaves(shipped.call(config, "get_config", "--config")).items():
            print(f"  --config.{key}={value!r}")
    sys.exit(0)


def _flag_value(argv: Sequence[str], name: str) -> str | None:
    for i, argument in enumerate(argv):
        flag, equals, value = argument.lstrip("-").partition("=")
        if argument.startswith("-") and flag == name:
            return value if equals else (argv[i + 1] if i + 1 < len(argv) else "")
    return None


def given(group: str = "") -> list[str]:
    """The keys of --config that are set on the command line: all of them, or those of one group without its name."""
    keys = list(config_flags.get_override_values(flags.FLAGS["config"]))
    return [key.removeprefix(f"{group}.") for key in keys if key.startswith(f"{group}.")] if group else keys


def keys_set(arguments: Sequence[str]) -> list[str]:
    """The keys that arguments --config.KEY=VALUE, and --noconfig.KEY, set."""
    names = [argument.lstrip("-").partition("=")[0] for argument in arguments]
    return [name.removeprefix("no").removeprefix("config.") for name in names if name != "config"]


def resolve(base: ConfigDict, arguments: Sequence[str]) -> dict[str, Any]:
    """The plain values of a configuration with arguments such as --config.KEY=VALUE.

    Raises:
      InputError: a key cannot have its value.
    """
    values, keys = flags.FlagValues(), ("--config.", "--noconfig.")
    argv = [argument for argument in arguments if argument.startswith(keys)]
    try:
        config = base.copy_and_resolve_references()
        holder = config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["resolve", *argv])
        values(["resolve", *argv])
    except flags.Error as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise InputError(lines[0] if len(lines) == 1 else f"{lines[0]} {lines[-1]}") from None
    return holder.value.to_dict()


def check_paths(values: Mapping[str, object]) -> dict[str, str]:
    """Raises InputError if any flag, or any key of a configuration, holds an address that it cannot have.

    Args:
      values: the flags' values by name.

    Returns:
      The addresses that they hold, one of each bucket, by flag or key.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, value in values.items():
        leaves = (
            {f"{name}.{key}": leaf for key, leaf in _leaves(value).items()}
            if isinstance(value, ConfigDict)
            else {name: value}
        )
        for key, leaf in leaves.items():
            if name not in FREE_TEXT:
                for address in check_path(leaf, f"--{key}"):
                    found.setdefault("/".join(address.split("/")[:3]), (f"--{key}", address))
    return dict(found.values())


def check_path(value: object, what: str) -> list[str]:
    """Returns the addresses in a value, the parts of which may be paths. Raises InputError for those that `what`, the
    flag or key that holds it, cannot have."""
    name = what.lstrip("-").rpartition(".")[2]
    if isinstance(value, list | tuple):
        return [address for item in value for address in check_path(item, what)]
    if not isinstance(value, str):
        return []
    found = []
    for part in _BEFORE_A_PATH.split(value):
        if name not in ON_STORES | READ_FROM_STORES:
            local_path(part, what)
        elif not is_local(path := path_of(part, what, reads=name in READ_FROM_STORES)):
            found.append(str(path))
    return found


def load_config(config: str, argv: Sequence[str]) -> ConfigDict:
    """The configuration of FILE:VARIANT, as the file gives it.

    Raises:
      InputError: there is no such file, it cannot be loaded, or an argument --config.KEY has a key that it lacks.
    """
    path = config.partition(":")[0]
    found = shipped.call(config, "get_config", "--config")
    keys = keys_of(found)
    for argument in argv:
        key = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and key.startswith("config.") and key.removeprefix("config.") not in keys:
            near = did_you_mean(key, [f"config.{name}" for name in keys])
            groups = sorted({name.partition(".")[0] for name in keys})
            raise InputError(f"--{key}: {path} has no such key.{near or ' It has: ' + ', '.join(groups)}")
    return found


def expected_of(config: str) -> list[dict]:
    """What `get_expected` of FILE:VARIANT says that a run reaches; [] where the file has no such function."""
    return shipped.call(config, "get_expected", "--config") or []


def keys_of(config: ConfigDict) -> list[str]:
    """Every key, such as training.batch_size. Those of `phases` come last: of two namesakes, users mean the other."""
    return sorted(_leaves(config), key=lambda key: key.startswith("phases."))


def _leaves(config: ConfigDict, prefix: str = "") -> dict[str, object]:
    leaves = {}
    for key, value in config.items():
        leaves |= _leaves(value, f"{prefix}{key}.") if isinstance(value, ConfigDict) else {f"{prefix}{key}": value}
    return leaves

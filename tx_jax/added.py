"""What was added to the library from outside, by `tx_jax.extend`, and which Python module added it.

A run records these modules in its configuration (`extensions`), so that another process, which opens the run, imports
them first. A run names modules and never holds their code: they must be importable where the run is opened.
"""

import contextlib
import importlib
import os
import sys
import traceback
from collections.abc import Collection, Generator, Iterable, Mapping
from typing import Any

from tx_jax.errors import InputError

# Modules that every process of a command imports, comma-separated; --extensions sets it.
VARIABLE = "TX_JAX_EXTENSIONS"
NOTEBOOK = "__main__"
_module_of: dict[tuple[str, str], str] = {}
# Modules of what was opened without them -> why they could not be imported.
_absent: dict[str, str] = {}


def record(kind: str, name: str, module: str, taken: bool) -> bool:
    """Notes that a module adds a name. Returns whether it added the same before, as a notebook's cell does that runs
    again.

    Args:
      kind: such as "task".
      taken: whether there is something with this name already.

    Raises:
      InputError: the name is another module's or the library's, or no other process could import the module.
    """
    check(kind, name, module, taken)
    again = (kind, name) in _module_of
    _module_of[kind, name] = module
    return again


def check(kind: str, name: str, module: str, taken: bool) -> None:
    """Raises InputError as `record` does, and records nothing."""
    owner = _module_of.get((kind, name))
    if taken and owner != module:
        raise InputError(f"{kind} {name!r}: {owner or 'tx_jax'} has one with this name: choose another name")
    if module != NOTEBOOK and module not in sys.modules:
        raise InputError(
            f"{kind} {name!r} is added by a file that other processes cannot import, such as a configuration: put it "
            "into a module of its own and import that"
        )


def load(modules: Iterable[str], *, needed: bool = True) -> None:
    """Imports modules that add something.

    Args:
      needed: False where they belong to what is opened, which may do without what they add, as a trained model does
        without its masking: then `hint` tells who looks for a name in vain which of them is missing, and why.

    Raises:
      InputError: there is no such module, or it cannot be imported.
    """
    for name in modules:
        try:
            _import(name)
        except InputError as error:
            if needed:
                raise
            _absent[name] = str(error)
        else:
            _absent.pop(name, None)


def _import(name: str) -> None:
    if name == NOTEBOOK:
        return  # what it added is here, or its absence is an error of its own
    if name.endswith(".py") or "/" in name:
        module = name.removesuffix(".py").rpartition("/")[2]
        raise InputError(f"extensions={name!r} is a file: give its module, {module!r}, in whose folder you start")
    try:
        importlib.import_module(name)
    except InputError as error:
        raise InputError(f"the module {name!r} (extensions): {error}") from None
    except (Exception, SystemExit) as error:  # whatever a user's own module raises
        missing = isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]
        where = f": start in the folder that holds {name.replace('.', '/')}.py, or name it in PYTHONPATH"
        raise InputError(
            f"the module {name!r}, which adds what is asked for (extensions), cannot be imported"
            + (where if missing else f": {_told(error)}")
        ) from None


@contextlib.contextmanager
def explained(modules: Collection[str], *, blamed: bool = False) -> Generator[None, None, None]:
    """Makes an error of these modules' code one of the user's, who can mend it.

    Args:
      blamed: whether any other error comes from what they add, too, such as an array of a wrong shape.

    Raises:
      InputError: what was raised, and the line of the module where that is known.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        frames = traceback.walk_tb(error.__traceback__)
        own = [(frame.f_code, line) for frame, line in frames if _is_of(frame.f_globals.get("__name__", ""), modules)]
        if not own and (not blamed or isinstance(error, OSError)):
            raise
        where = f" ({own[-1][0].co_name}, line {own[-1][1]} of {own[-1][0].co_filename})" if own else ""
        raise InputError(f"what {' or '.join(modules)} adds cannot be used{where}: {_told(error)}") from error


def _is_of(module: str, modules: Collection[str]) -> bool:
    return any(module == name or module.startswith(f"{name}.") for name in modules)


def _told(error: BaseException) -> str:
    """In one line."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def given() -> list[str]:
    """The modules that `VARIABLE` names."""
    return [name.strip() for name in os.environ.get(VARIABLE, "").split(",") if name.strip()]


def used(values: Mapping[str, Any]) -> tuple[str, ...]:
    """The modules that a configuration needs, sorted: those that it names, and those that added what it names.

    Args:
      values: nested plain values.
    """
    names = [("task", values.get("task", "")), ("masking unit", values["data"].get("mask_unit", ""))]
    names += [("head", head) for head in values["model"].get("heads", ())]
    modules = {_module_of[name] for name in names if name in _module_of}
    if values.get("start_from"):  # it may be of any family
        modules |= {module for (kind, _), module in _module_of.items() if kind == "model family"}
    return tuple(sorted(modules.union(values.get("extensions", ()))))


def of_heads(heads: Iterable[str]) -> list[str]:
    """The modules that added any of these heads, sorted."""
    return sorted({_module_of["head", head] for head in heads if ("head", head) in _module_of})


def hint(near: str, extensions: Iterable[str] = ()) -> str:
    """What to add to the message that there is no such name.

    Args:
      near: a name that may have been meant, as a sentence, or "".
      extensions: of the configuration that names it.
    """
    if NOTEBOOK in extensions:
        return (
            " It was added in a notebook or a script: run its code first, or put it into a module (docs/extending.md)"
        )
    if _absent:
        return f"{near} It may be one that is missing here: {'; '.join(_absent.values())}"
    return near or " If it is one of your own, name the module that adds it: --extensions=MODULE"


def owner(kind: str, name: str) -> str:
    """The words "(of MODULE)" for what a module added, "" for what the library has."""
    return f" (of {_module_of[kind, name]})" if (kind, name) in _module_of else ""

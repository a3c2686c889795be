"""Where the entry points and the configurations lie: in the clone, or, installed from a wheel, in this package."""

import contextlib
import importlib.util
import os
import re
import sys
import types
from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tx_jax.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from ml_collections import ConfigDict

_IN_WHEEL = Path(__file__).resolve().parent / "_shipped"
INSTALLED = _IN_WHEEL.is_dir()  # from a wheel
CALLED_BY = "TX_JAX_COMMAND"  # is set where the command tx-jax runs, and in the processes that it starts
# The folder that holds experiments/ and configs/.
ROOT = _IN_WHEEL if INSTALLED else Path(__file__).resolve().parents[1]


def names() -> list[str]:
    """The names of the configurations."""
    return sorted(path.stem for path in (ROOT / "configs").glob("*.py"))


def located(config: str) -> str:
    """FILE or FILE:VARIANT; where there is no such file, NAME and configs/NAME.py are one of ours, if there is one."""
    name, colon, variant = config.partition(":")
    found = re.fullmatch(r"(?:configs/)?([a-z0-9_]+)(?:\.py)?", name)
    if found and not Path(name).is_file() and found[1] in names():
        return f"{ROOT / 'configs' / found[1]}.py{colon}{variant}"
    return config


def get_config(name: str | Path) -> "ConfigDict":
    """A configuration, to change as you like and give to `tx_jax.train`.

    Args:
      name: one that comes with tx_jax, such as "bert_base" or "bert_base:smoke", or a file, such as "mine.py".

    Raises:
      InputError: there is no such configuration, or it cannot be loaded.

    Examples:
      >>> c = tx_jax.get_config("bert_base:smoke")
      >>> c.optimizer.learning_rate = 3e-4
      >>> c.model.num_layers
      2
    """
    if not isinstance(name, str | Path):
        raise InputError(f"get_config takes a name, not {name!r:.60} ({type(name).__name__})")
    return call(str(name), "get_config", "get_config")


def module(config: str, what: str) -> types.ModuleType:
    """The module that the file of FILE:VARIANT is, executed anew.

    Args:
      what: what was given, for messages.

    Raises:
      InputError: there is no such file, or whatever it raises.
    """
    name = config.partition(":")[0]
    path = Path(located(name))
    if not path.is_file():
        known = names() if re.fullmatch(r"[\w-]+", name) else map(str, path.parent.glob("*.py"))
        raise InputError(f"{what}: there is no file {name!r}.{did_you_mean(name, known)}")
    spec = importlib.util.spec_from_file_location("config_under_check", path)
    if spec is None or spec.loader is None:
        raise InputError(f"{what}: {name} is no Python file")
    loaded = importlib.util.module_from_spec(spec)
    with _explained(path, what):
        spec.loader.exec_module(loaded)
    return loaded


def call(config: str, function: str, what: str) -> Any:
    """What a function of the configuration FILE:VARIANT returns; None where the file has none with this name.

    Args:
      what: what was given, for messages.

    Raises:
      InputError: there is no such file, or whatever it raises.
    """
    loaded, variant = module(config, what), config.partition(":")[2]
    if function != "get_config" and not hasattr(loaded, function):
        return None
    with _explained(Path(str(loaded.__file__)), what):
        called = getattr(loaded, function)
        return called(variant) if variant else called()


@contextlib.contextmanager
def _explained(path: Path, what: str) -> Generator[None, None, None]:
    """Where a configuration's own code runs."""
    try:
        with importing():
            yield
    except Exception as error:  # whatever a user's own Python file raises
        raise InputError(f"{what}: {path} cannot be loaded: {type(error).__name__}: {error}") from error


@contextlib.contextmanager
def importing() -> Generator[None, None, None]:
    """Lets `configs` be imported from any folder."""
    if str(ROOT) in sys.path:
        yield
        return
    sys.path.append(str(ROOT))
    try:
        yield
    finally:
        sys.path.remove(str(ROOT))


def spoken(text: str) -> str:
    """A text that names commands of ours, as they are called here: by `tx-jax` if installed from a wheel, or if this
    command was, perhaps outside the clone."""
    return text.replace("python -m experiments.", "tx-jax ") if INSTALLED or CALLED_BY in os.environ else text

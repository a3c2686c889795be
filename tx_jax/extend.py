"""Tasks, heads, masking units and model families of your own, without a change to the library.

    from tx_jax import extend

    extend.mask_unit("block", choose_block)       # --config.data.mask_unit=block
    extend.head("ordinal", Head(...), OrdinalHead)
    extend.task("ordinal", Ordinal)               # --config.task=ordinal
    extend.family(FAMILY)                         # tx_jax.load, convert --from_hf and --to_hf

Call these in a Python module of your own. Whatever imports the module has what it adds: a notebook, your configuration
file (`import my_module`), or any command by --extensions=my_module. A run records the module's name, so that it is
imported when the run is continued, evaluated or used, by another process too, which must be able to find it (in the
folder where it starts, or by PYTHONPATH). docs/extending.md has an example of each.
"""

import inspect
import re
import sys
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

import jax

from tx_jax import added
from tx_jax.config import TransformerConfig, heads
from tx_jax.config.checks import is_whole
from tx_jax.config.heads import HEADS, Head
from tx_jax.convert.families import OF_MODEL_TYPE
from tx_jax.convert.family import Family
from tx_jax.data.pretraining.targets import UNITS, Unit
from tx_jax.errors import InputError
from tx_jax.models import registry
from tx_jax.nn.heads import MODULES
from tx_jax.tasks.base import Objective
from tx_jax.tasks.pretraining import Pretraining
from tx_jax.tasks.registry import TASKS
from tx_jax.tasks.supervised import Supervised
from tx_jax.tasks.translation import Translation

__all__ = ["Head", "family", "head", "mask_unit", "task"]

# Names of other modules of a model's parameters.
_BODY = ("embeddings", "encoder", "decoder", "pooler", "lora", "mask_decoder_position")


def mask_unit(name: str, choose: Unit) -> None:
    """Adds what `data.mask_unit` can choose at random for masked language modeling.

    Args:
      choose: (how, tokens, valid, masking, rng) -> the `Choice` of tokens to predict, by numpy. `tokens` int [B, T],
        `valid` bool [B, T]; `masking` tells the candidates and how many are wanted (`data.pretraining.masking`); `rng`
        draws numbers for each row, a function of the seed and the step; `how` has the rest, such as
        `is_continuation`. At most `masking.max_predictions` may be chosen in a row.

    Raises:
      InputError: the name is taken, or `choose` does not take these five.
    """
    _check_name("masking unit", name)
    try:
        inspect.signature(choose).bind(*"abcde")
    except (TypeError, ValueError):  # ValueError: it is a built-in function that does not say what it takes
        raise InputError(
            f"masking unit {name!r}: {choose!r:.60} must take (how, tokens, valid, masking, rng)"
        ) from None
    added.record("masking unit", name, _caller(), name in UNITS)
    UNITS[name] = choose


def head(name: str, row: Head, module: Callable[[TransformerConfig], Any] | None = None) -> None:
    """Adds a head, which `model.heads` can name. Its parameters begin with its name; every device holds them whole.

    Args:
      row: what it reads, how many outputs it has, which architectures may have it, and whether it learns from labels.
      module: a Flax module made from the model's configuration, that is called with (x, *, deterministic) and returns
        the logits in float32: x is [B, D] if it reads "pooled", [B, T, D] if it reads "tokens". None: dropout and one
        dense layer.

    Raises:
      InputError: the name is taken, or the row has no such input or architecture.
    """
    _check_name("head", name)
    if not name.isidentifier() or name in _BODY:
        raise InputError(f"head {name!r}: choose a name of letters, digits and _, other than {', '.join(_BODY)}")
    if not isinstance(row, Head):
        raise InputError(f"head {name!r}: {row!r:.60} is no tx_jax.extend.Head")
    if row.reads not in ("pooled", "tokens"):
        raise InputError(f"head {name!r}: reads={row.reads!r} must be 'pooled' or 'tokens'")
    if not is_whole(row.outputs, 1) and row.outputs != "labels":
        raise InputError(f"head {name!r}: outputs={row.outputs!r} must be a number or 'labels'")
    _check_fields(f"head {name!r}", row)
    if not row.architectures or set(row.architectures) - {"encoder", "decoder"}:
        raise InputError(f"head {name!r}: architectures={row.architectures!r} must be some of 'encoder', 'decoder'")
    if row.module:
        raise InputError(f"head {name!r}: leave Head.module out; the module is the third argument")
    if module is not None and not callable(module):
        raise InputError(f"head {name!r}: {module!r:.60} is no Flax module")
    if module is not None and not _takes(module, "config"):
        raise InputError(f"head {name!r}: {module!r:.60} must take one argument, the model's configuration")
    again = added.record("head", name, _caller(), name in HEADS)
    heads.add(name, row)
    MODULES.pop(name, None)
    if module is not None:
        MODULES[name] = module
    if again:  # what was traced and compiled is of the one before
        registry.forget()
        jax.clear_caches()


def task(name: str, kind: type[Pretraining] | type[Supervised] | type[Translation]) -> None:
    """Adds a task, which `task` in a configuration can name.

    Args:
      kind: a subclass of an existing task, such as `tasks.classification.Classification`, or of the base of those that
        learn from labels, from a token store or from pairs; its `objective_class` has the loss.

    Raises:
      InputError: the name is taken, or something is missing.
    """
    _check_name("task", name)
    bases = (Supervised, Pretraining, Translation)
    if not (isinstance(kind, type) and issubclass(kind, bases)):
        known = ", ".join(f"{base.__module__}.{base.__name__}" for base in bases)
        raise InputError(f"task {name!r}: {kind!r:.60} must be a subclass of {known}")
    objective = getattr(kind, "objective_class", None)
    if objective is not None and not (isinstance(objective, type) and issubclass(objective, Objective)):
        raise InputError(
            f"task {name!r}: {kind.__name__}.objective_class={objective!r:.60} must be a subclass of "
            f"{Objective.__module__}.{Objective.__name__}"
        )
    for part in filter(None, (kind, objective)):
        if missing := sorted(getattr(part, "__abstractmethods__", ())):
            raise InputError(f"task {name!r}: {part.__name__} lacks {', '.join(missing)}")
    if objective is None:
        raise InputError(f"task {name!r}: {kind.__name__} lacks objective_class, the class with the loss")
    trained = getattr(objective, "head", None)
    if trained not in HEADS:
        raise InputError(
            f"task {name!r}: {objective.__name__}.head={trained!r} is no head: there are {', '.join(HEADS)}. One of "
            "your own comes first: extend.head"
        )
    added.record("task", name, _caller(), name in TASKS)
    TASKS[name] = kind


def family(of: Family) -> None:
    """Adds a family of published models: how its config.json and its tensors correspond to a `TransformerConfig` and
    its parameters. `load`, `start_from` and `convert` read its models; `to_hf` writes them.

    Raises:
      InputError: a model_type is taken, or something is missing.
    """
    if not isinstance(of, Family):
        raise InputError(f"{of!r:.60} is no tx_jax.convert.family.Family")
    _check_fields(f"model family {of.model_types!r:.60}", of)
    if not of.model_types or not of.classes:
        raise InputError("a model family needs model_types (model_type -> start of class names) and classes")
    known = {name for group in of.classes for name in group}
    if unknown := sorted(known - HEADS.keys()):
        raise InputError(f"model family {next(iter(of.model_types))!r}: there is no head {', '.join(unknown)}")
    caller = _caller()
    for model_type in of.model_types:
        _check_name("model family", model_type)
        added.check("model family", model_type, caller, model_type in OF_MODEL_TYPE)
    for model_type in of.model_types:
        added.record("model family", model_type, caller, model_type in OF_MODEL_TYPE)
    OF_MODEL_TYPE.update(dict.fromkeys(of.model_types, of))


def _check_name(kind: str, name: Any) -> None:
    if not isinstance(name, str) or not name or any(c.isspace() or c in ",=/'\"" for c in name):
        raise InputError(f"{kind} {name!r}: a name is a text without spaces, commas, quotes, = and /")


def _takes(function: Callable[..., Any], *arguments: str) -> bool:
    """Whether it can be called with so many arguments; True where it does not say."""
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError:
        return False
    except ValueError:
        return True
    return True


def _check_fields(what: str, of: Any) -> None:
    """Raises InputError for a field of a dataclass whose value is not of the type that the class says."""
    for name, kind in typing.get_type_hints(type(of)).items():
        value = getattr(of, name)
        if not _is_of(value, kind):
            wanted = "a function" if typing.get_origin(kind) is Callable else _told(kind)
            raise InputError(f"{what}: {name}={value!r:.60} must be {wanted}")


def _told(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) and not typing.get_args(kind) else re.sub(r"\b\w+\.", "", str(kind))


def _is_of(value: Any, kind: Any) -> bool:
    """Whether a value is of the type of an annotation, to the last element."""
    origin, of = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return True
    if origin is typing.Literal:
        return any(value == one and type(value) is type(one) for one in of)
    if origin is types.UnionType or origin is typing.Union:
        return any(_is_of(value, one) for one in of)
    if origin is Callable:
        return callable(value)
    if origin is tuple:
        kinds = of[:1] * len(value) if isinstance(value, tuple) and of[-1] is ... else of
        return isinstance(value, tuple) and len(value) == len(kinds) and all(map(_is_of, value, kinds))
    if origin is Mapping:
        return isinstance(value, Mapping) and all(_is_of(key, of[0]) and _is_of(x, of[1]) for key, x in value.items())
    return is_whole(value) if kind is int else isinstance(value, origin or kind)


def _caller() -> str:
    """The name of the module that calls this module's function."""
    return sys._getframe(2).f_globals.get("__name__", "")

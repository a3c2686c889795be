"""The other side of a comparison, in a process of its own.

PyTorch's users have the C library's allocator as it is, our commands change it (`tx_jax/hosts/allocator.py`), and what
one of them does would slow the other down: with the settings that our commands had at first, a step of PyTorch's in the
same process took 1.4 times as long.
"""

import dataclasses
import functools
import multiprocessing
import operator
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any


class Apart:
    """An object that lives in another process: `call` calls its methods, and calling this calls it.

    Args:
      make: makes the object there, from the arguments; both must be importable, and the arguments can be pickled.

    Raises:
      RuntimeError: it failed, with the traceback of the other process.
    """

    def __init__(self, make: Callable[..., Any], *args: Any, **more: Any):
        context = multiprocessing.get_context("spawn")  # a process that has started jax must not be forked
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, make, args, more), daemon=True)
        self._process.start()
        other.close()
        self._answer()

    def __call__(self, *args: Any) -> Any:
        return self.call("__call__", *args)

    def call(self, name: str, *args: Any) -> Any:
        """The result of a method."""
        self._pipe.send((name, args))
        return self._answer()

    def part(self, name: str, *args: Any) -> "Part":
        """This call of `name`, to be measured."""
        return Part(self, name, args)

    def process_time(self) -> float:
        """Seconds of processor time of the other process."""
        self._pipe.send(None)
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        self._pipe.close()
        self._process.join(10)
        self._process.terminate()

    def _answer(self) -> Any:
        try:
            failure, result = self._pipe.recv()
        except EOFError:
            raise RuntimeError("the process of the other side ended") from None
        if failure:
            raise RuntimeError(f"the other side failed:\n{failure}")
        return result


@dataclasses.dataclass(frozen=True)
class Part:
    """A call of a method, as `measure.interleaved` takes it."""

    apart: Apart
    name: str
    args: tuple

    def __call__(self) -> Any:
        return self.apart.call(self.name, *self.args)

    def process_time(self) -> float:
        return self.apart.process_time()


def _serve(pipe: Connection, make: Callable[..., Any], args: tuple, more: dict[str, Any]) -> None:
    failure, made = _tried(functools.partial(make, *args, **more))
    pipe.send((failure, None))
    while not failure:
        try:
            asked = pipe.recv()
        except EOFError:
            return
        if asked is None:
            pipe.send((None, time.process_time()))
        else:
            name, given = asked
            pipe.send(_tried(functools.partial(operator.methodcaller(name, *given), made)))


def _tried(function: Callable[[], Any]) -> tuple[str | None, Any]:
    """The traceback if it fails, and the result."""
    try:
        return None, function()
    except Exception:
        return traceback.format_exc(), None

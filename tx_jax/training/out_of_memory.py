"""The message when memory runs out: how much was requested and is free, what fills it, and what to change."""

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tx_jax import sharding, tree
from tx_jax.config import ExperimentConfig
from tx_jax.tasks.base import Objective
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import abstract_state

SHOWN = 4  # arrays

_SIZE = r"(\d[\d.]*) ?([KMGT]?)(?:iB|B| bytes)?"
# The backends' messages: a TPU's compilation, its run time, the others (without the second number).
_FORMS = (
    rf"Used {_SIZE} of {_SIZE} hbm",
    rf"\({_SIZE}\) exceeds available HBM \({_SIZE}\)",
    rf"[Aa]ttempting to (?:allocate|reserve) {_SIZE}.*?There are {_SIZE} free",
    rf"[Aa]llocat(?:e|ing) (?:request for )?{_SIZE}",
)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class OutOfMemory(RuntimeError):
    """The devices, or this machine, have too little memory for the run."""


@contextlib.contextmanager
def explained(config: ExperimentConfig, objective: Objective) -> Iterator[None]:
    """Turns the errors of jax and NumPy when memory runs out into an `OutOfMemory` that says what helps."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, MemoryError) as error:
        if (sizes := parse(str(error))) is None:
            raise
        mesh = sharding.make_mesh(config.mesh)
        state = abstract_state(objective, Optimizer(config), mesh)
        device = jax.local_devices()[0]  # the mesh's first device may belong to another process
        lines = [_headline(*sizes, device), *_of_state(state), *_of_program(str(error)), *_advice(config, mesh)]
        raise OutOfMemory("\n".join(lines)) from error


def parse(message: str) -> tuple[int, int | None] | None:
    """The bytes that were requested, and those available, if the message has them; None for any other error."""
    for form in _FORMS:
        if found := re.search(form, message, re.DOTALL):
            sizes = [_bytes(*found.groups()[i : i + 2]) for i in range(0, len(found.groups()), 2)]
            return sizes[0], sizes[1] if len(sizes) > 1 else None
    return None


def _bytes(number: str, unit: str) -> int:
    return round(float(number.rstrip(".")) * _UNITS[unit])


def _text(size: float) -> str:
    unit = next(unit for unit in "TGMK" if size >= _UNITS[unit] or unit == "K")
    return f"{size / _UNITS[unit]:,.1f} {unit}iB"


def _headline(requested: int, available: int | None, device: jax.Device) -> str:
    if available is None:
        available = _free(device)
    there = "" if available is None else f", {_text(available)} available"
    return f"out of memory on {device.device_kind}: {_text(requested)} requested{there}"


def _free(device: jax.Device) -> int | None:
    """Bytes of the device, or of this machine."""
    if stats := device.memory_stats():
        return stats["bytes_limit"] - stats["bytes_in_use"] if "bytes_limit" in stats else None
    return free_memory()


def free_memory() -> int | None:
    """The free bytes of this machine's main memory that this process may take; None where the system does not say."""
    try:
        free = int(re.search(r"MemAvailable: +(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 2**10
        taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except (OSError, TypeError):
        return None
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    return free if limit == resource.RLIM_INFINITY else min(free, max(0, limit - taken))


def _of_state(state: Any) -> Iterator[str]:
    params, rest = map(sharding.bytes_per_device, (state.params, state.opt_state))
    yield f"  the state has {_text(params + rest)} on each device: parameters {_text(params)}, optimizer {_text(rest)}:"
    leaves = sorted(tree.flatten(state).items(), key=lambda item: sharding.bytes_per_device(item[1]), reverse=True)
    for path, leaf in leaves[:SHOWN]:
        yield f"    {_text(sharding.bytes_per_device(leaf)):>12}  {leaf.dtype.name}{list(leaf.shape)}  {path}"


def _of_program(message: str) -> Iterator[str]:
    """The largest arrays of XLA's list, which it gives for accelerators."""
    found = []
    for block in re.split(r"={10,}", message):
        size, shape = re.search(rf"Size: {_SIZE}\n", block), re.search(r"[Ss]hape: (\w+\[[\d,]*\])", block)
        if size and shape:
            operation = re.search(r'op_name="([^"]*)"', block)
            found.append((_bytes(*size.groups()), shape[1], operation[1] if operation else "an argument"))
    if found:
        yield "  the largest arrays of the program:"
    for size, shape, operation in sorted(found, reverse=True)[:SHOWN]:
        yield f"    {_text(size):>12}  {shape}  {operation[-60:]}"


def _advice(config: ExperimentConfig, mesh: jax.sharding.Mesh) -> Iterator[str]:
    training, spread = config.training, sharding.num_parts(mesh, "batch")
    yield "  what helps (the first lines can also be changed when a run continues):"
    key, more = config.key_of_phases("accumulation_steps"), [2 * p.accumulation_steps for p in config.training_phases]
    value = f'"{tuple(more)}"' if key.startswith("phases.") else more[0]
    yield f"    --config.{key}={value}: a batch in smaller parts, with the same result"
    if config.model.remat == "none":
        yield "    --config.model.remat=block: activations computed again instead of kept, for about a third more time"
    if spread > mesh.shape["fsdp"]:
        yield f"    --config.mesh.data=1 --config.mesh.fsdp={spread}: parameters and optimizer state split further"
    elif mesh.size == 1:
        yield "    more devices, and --config.mesh.fsdp set to their number: the state is split over them"
    yield f"    a smaller --config.training.batch_size than {training.batch_size}, in a new run"

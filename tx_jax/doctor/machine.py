"""Whether this machine can train: versions, devices, memory, and whether a step over all devices computes."""

import importlib.metadata
import os
import platform
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from packaging.requirements import Requirement

from tx_jax import sharding
from tx_jax.config import MeshConfig
from tx_jax.doctor.finding import Check, Finding
from tx_jax.files import nearest_folder, reason_against_writing
from tx_jax.hosts import compilation
from tx_jax.training.out_of_memory import free_memory
from tx_jax.training.throughput import peak_flops

GIB = 2**30
LITTLE_MEMORY, LITTLE_DISK = 4 * GIB, 5 * GIB
# Files that show that the machine has such devices, whether or not JAX finds them; and the extra that JAX needs.
TRACES = {"tpu": (("/dev/accel0", "/dev/vfio/0"), "tpu"), "gpu": (("/dev/nvidia0",), "cuda")}


def checks() -> list[tuple[str, Check]]:
    """What to look at, in order."""
    return [
        ("packages", packages),
        ("devices", devices),
        ("memory", memory),
        ("a step", step),
        ("compilation cache", compilation_cache),
        ("disk", disk),
    ]


def packages(name: str = "tx_jax") -> Iterator[Finding]:
    """Whether what the package requires is installed."""
    versions = {}
    try:
        required = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding("packages", "warning", f"{name} is not installed", "pip install -e . in its folder")
        return
    for requirement in map(Requirement, required):
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        if not version or not requirement.specifier.contains(version, prereleases=True):
            found = f"{requirement.name} {version}" if version else f"no {requirement.name}"
            yield Finding("packages", "error", f"{found}, needed: {requirement}", f"pip install '{requirement}'")
        versions[requirement.name] = version
    shown = ", ".join(f"{each} {versions[each]}" for each in ("jax", "flax", "optax") if versions.get(each))
    yield Finding("packages", "ok", f"Python {platform.python_version()}, {shown}")


def devices() -> Iterator[Finding]:
    """What JAX finds, and what it should find."""
    found = jax.local_devices()
    kind, backend = found[0].device_kind, found[0].platform
    count = f"{len(found)} x {kind}" if backend != "cpu" else f"{len(found)} CPU device(s)"
    peak = peak_flops(kind)
    if peak:
        yield Finding("devices", "ok", f"{count}, {peak / 1e12:,.0f} TFLOP/s each at most")
    elif backend == "cpu":
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        yield Finding("devices", "ok", f"{count} on {cores} cores of {_processor()}")
    else:
        yield Finding(
            "devices",
            "warning",
            f"{count}, whose peak is not known, so that no MFU is shown",
            "add it to PEAK_FLOPS in tx_jax/training/throughput.py",
        )
    for name, (paths, extra) in TRACES.items():
        there = next((path for path in paths if Path(path).exists()), None)
        if backend == "cpu" and there:
            chosen = os.environ.get("JAX_PLATFORMS")
            remedy = f"unset JAX_PLATFORMS (it is {chosen})" if chosen else f'pip install -e ".[{extra}]"'
            yield Finding(
                "devices", "warning", f"{there} says that there is a {name.upper()}; JAX uses the CPU", remedy
            )


def _processor() -> str:
    try:
        return re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))[1]
    except (OSError, TypeError):  # not Linux on x86
        return platform.processor() or platform.machine()


def memory() -> Iterator[Finding]:
    """That of the devices and of the machine."""
    stats = jax.local_devices()[0].memory_stats() or {}
    if limit := stats.get("bytes_limit"):
        used = stats.get("bytes_in_use", 0)
        yield Finding("memory", "ok", f"{limit / GIB:.1f} GiB a device, {used / GIB:.1f} in use")
    free = free_memory()
    if free is None:
        return
    says = f"{free / GIB:.1f} GiB of the machine are free"
    if free < LITTLE_MEMORY:
        yield Finding("memory", "warning", says, "close other programs; small models need about 4 GiB")
    else:
        yield Finding("memory", "ok", says)


def step() -> Iterator[Finding]:
    """A gradient of a batch that is spread over all devices, against NumPy's."""
    count = jax.device_count()
    x_ND = np.random.default_rng(0).normal(size=(8 * count, 128)).astype(np.float32)
    w_DF = np.random.default_rng(1).normal(size=(128, 64)).astype(np.float32)
    mesh = sharding.make_mesh(MeshConfig(data=-1, fsdp=1, tensor=1))
    expected = x_ND.T @ np.maximum(x_ND @ w_DF, 0)
    with jax.set_mesh(mesh):
        placed = jax.device_put(x_ND, sharding.batch_sharding(mesh, "tokens", 2))
        gradient = jax.jit(jax.grad(lambda w, x: (jnp.maximum(x @ w, 0) ** 2).sum() / 2))(w_DF, placed)
    error = np.abs(np.asarray(gradient) - expected).max() / np.abs(expected).max()
    spread = f"a step over {count} device(s)"
    if not error < 0.02:  # TPUs and GPUs round float32 products
        yield Finding("a step", "error", f"{spread} is wrong by {error:.0%}", "the driver, or a device, is faulty")
    else:
        yield Finding("a step", "ok", f"{spread} computes what NumPy does (largest difference {error:.0e})")


def compilation_cache() -> Iterator[Finding]:
    """Where compiled programs are kept."""
    folder = Path(jax.config.jax_compilation_cache_dir or compilation.FOLDER).expanduser()
    if reason := reason_against_writing(folder):
        yield Finding(
            "compilation cache",
            "warning",
            f"{reason}: every start compiles anew",
            "set JAX_COMPILATION_CACHE_DIR to a folder that can be written",
        )
    else:
        yield Finding("compilation cache", "ok", str(folder))


def disk(folder: Path | None = None) -> Iterator[Finding]:
    """The space where runs are written by default."""
    folder = nearest_folder(folder or Path.cwd())
    free = shutil.disk_usage(folder).free
    level = "warning" if free < LITTLE_DISK else "ok"
    remedy = "checkpoints and token stores need more: free some, or write elsewhere" if level == "warning" else ""
    yield Finding("disk", level, f"{free / GIB:.1f} GiB are free at {folder}", remedy)

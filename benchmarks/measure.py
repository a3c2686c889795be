"""What every benchmark needs: the machine, the versions, a calibration, timing of several parts in turn, a table, JSON.

A figure means little without what the machine could do at that moment. So each benchmark measures both sides in turn,
PyTorch's in a process of its own (`apart.py`), prints the minimum and the median over rounds, and begins with matrix
products of plain shapes in every framework that is installed. Nothing here knows about models.
"""

import dataclasses
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

PACKAGES = ("tx_jax", "jax", "jaxlib", "flax", "optax", "numpy", "torch", "transformers", "tokenizers")
INSTRUCTIONS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")  # of those that /proc/cpuinfo may list
# Runs once and returns when all of its work is done. A part that runs in another process has `process_time` of its own.
Part = Callable[[], object]


def machine() -> dict[str, Any]:
    """CPU, cores, instruction sets, memory, load, and the names of accelerators with their driver."""
    lines = _lines("/proc/cpuinfo")
    flags = next((line.partition(":")[2].split() for line in lines if line.startswith(("flags", "Features"))), [])
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    memory = next((int(line.split()[1]) * 1024 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    found: dict[str, Any] = {
        "cpu": model or platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": [name for name in INSTRUCTIONS if name in flags],
        "memory_gib": round(memory / 2**30, 1),
        "load": round(os.getloadavg()[0], 1),
    }
    try:
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
        found["gpu"] = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout.split("\n")[
            0
        ]
    except (OSError, subprocess.SubprocessError):
        pass  # no NVIDIA GPU
    return found


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines() if Path(path).is_file() else []


def versions() -> dict[str, str]:
    """The versions of Python and of the packages that are installed here."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def one_thread() -> None:
    """Makes jax and torch compute in one thread. Call it before they are imported.

    Processor time then counts no thread that waits for another: the way to compare programs on a busy machine.
    """
    for name in ("NPROC", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):  # XLA on CPUs; torch
        os.environ[name] = "1"


def has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def calibration(
    shapes: Sequence[tuple[int, int, int]] = ((2048, 256, 1024), (2048, 1024, 256)),
    dtypes: Sequence[str] = ("float32",),
    rounds: int = 5,
) -> dict[str, float]:
    """GFLOP/s of [m, k] x [k, n] in jax and, where it is installed, in torch: the best round of each, taken in turn.

    Args:
      shapes: (m, k, n), by default those of the MLP of the BERT of benchmarks.training. The FLOPs of all are added up.
    """
    parts: dict[str, Part] = {}
    for dtype in dtypes:
        parts[f"jax {dtype}"] = _jax_products(shapes, dtype)
        if has_torch():
            parts[f"torch {dtype}"] = _torch_products(shapes, dtype)
    flops = sum(2 * m * k * n for m, k, n in shapes)
    return {name: round(flops / min(times) / 1e9, 1) for name, times in interleaved(parts, rounds).seconds.items()}


def _jax_products(shapes: Sequence[tuple[int, int, int]], dtype: str) -> Part:
    import jax
    import jax.numpy as jnp

    pairs = [(jnp.ones((m, k), dtype), jnp.ones((k, n), dtype)) for m, k, n in shapes]
    product = jax.jit(lambda pairs: [a @ b for a, b in pairs])
    return lambda: jax.block_until_ready(product(pairs))


def _torch_products(shapes: Sequence[tuple[int, int, int]], dtype: str) -> Part:
    import torch

    device = torch_device()
    pairs = [
        (
            torch.ones(m, k, dtype=getattr(torch, dtype), device=device),
            torch.ones(k, n, dtype=getattr(torch, dtype), device=device),
        )
        for m, k, n in shapes
    ]

    def run() -> None:
        for a, b in pairs:
            a @ b
        torch_synchronize()

    return run


def torch_device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def torch_synchronize() -> None:
    """Waits for the GPU, if there is one."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


@dataclasses.dataclass(frozen=True)
class Timings:
    """Seconds of each round of each part, the first part being what the others are compared with.

    Attributes:
      processor: the same rounds in processor time, of all threads of the process that a part runs in. On a machine
        that does other work as well it is the steadier figure, of parts that compute on the CPU and whose idle threads
        sleep.
    """

    seconds: dict[str, list[float]]
    processor: dict[str, list[float]] = dataclasses.field(default_factory=dict)

    def rows(self, work: Mapping[str, float] | float = 0.0) -> list[dict[str, Any]]:
        """One row a part: minimum and median in ms, and how many times as fast the first part is, by both.

        Args:
          work: units (tokens, FLOPs) of one run of a part, for all or by name; adds `per_second`, by the minimum.
        """
        first = next(iter(self.seconds.values()))
        rows = []
        for name, times in self.seconds.items():
            row: dict[str, Any] = {
                "part": name,
                "min_ms": min(times) * 1e3,
                "median_ms": statistics.median(times) * 1e3,
                "ratio_of_min": min(times) / min(first),
                "ratio_of_median": statistics.median(times) / statistics.median(first),
            }
            if self.processor:
                least = {part: min(values) for part, values in self.processor.items()}
                row |= {"cpu_min_ms": least[name] * 1e3, "ratio_of_cpu": least[name] / next(iter(least.values()))}
            units = work.get(name, 0.0) if isinstance(work, Mapping) else work
            rows.append(row | ({"per_second": units / min(times)} if units else {}))
        return rows


def interleaved(
    parts: Mapping[str, Part],
    rounds: int,
    repeats: int = 1,
    warmup: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Timings:
    """Times the parts in turn, so that other work on the machine meets all of them alike.

    The order is reversed in every other round: a machine that becomes slower favors none.

    Args:
      repeats: how often a part runs in a round; its time is the mean of them.
      warmup: runs of each part that do not count, before all rounds: compilation.
      clock: seconds; `time.thread_time` counts those of this thread alone, for parts that use one core and no device.
    """
    for part in parts.values():
        for _ in range(warmup):
            part()
    seconds: dict[str, list[float]] = {name: [] for name in parts}
    processor: dict[str, list[float]] = {name: [] for name in parts}
    for number in range(rounds):
        for name in list(parts)[:: -1 if number % 2 else 1]:
            processor_time = getattr(parts[name], "process_time", time.process_time)
            worked, began = processor_time(), clock()
            for _ in range(repeats):
                parts[name]()
            seconds[name].append((clock() - began) / repeats)
            processor[name].append((processor_time() - worked) / repeats)
    return Timings(seconds, processor)


def print_header(calibrated: Mapping[str, float]) -> dict[str, Any]:
    """Prints machine, versions and calibration, and returns them for the JSON."""
    header = {"machine": machine(), "versions": versions(), "calibration_gflops": dict(calibrated)}
    for name, values in header.items():
        print(f"{name}: " + ", ".join(f"{key} {value}" for key, value in values.items()))
    return header


def print_table(rows: Sequence[Mapping[str, Any]]) -> None:
    """The rows with aligned columns, in the order in which their keys first appear; numbers rounded to be read."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, *([_cell(row.get(column, "")) for column in columns] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = (
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        print("  ".join(cells).rstrip(), flush=True)


def _cell(value: object) -> str:
    if not isinstance(value, float):
        return str(value)
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.3g}"


def write_json(path: str | None, result: Mapping[str, Any]) -> None:
    """Writes a result where --json asks for it; None writes nothing."""
    if path:
        Path(path).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")

"""The devices of this machine divided among workers, by environment variables and CPU affinity.

No JAX here: whoever initializes it holds the devices.
"""

import dataclasses
import importlib.util
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tx_jax.errors import InputError

# How many chips a process sees -> their shape, for TPU_CHIPS_PER_PROCESS_BOUNDS.
_TPU_BOUNDS = {1: "1,1,1", 2: "1,2,1", 4: "2,2,1", 8: "2,4,1"}


@dataclasses.dataclass(frozen=True)
class Share:
    """What one worker may use.

    Attributes:
      environment: variables of its processes.
      cores: the CPU cores that they run on; None: any.
      text: for people.
    """

    environment: Mapping[str, str]
    cores: frozenset[int] | None
    text: str


def divide(workers: int, environment: Mapping[str, str] = os.environ) -> list[Share]:
    """A share for each worker: GPUs where there are some, TPU chips where there are some, and CPU cores.

    Raises:
      InputError: there are more workers than devices.
    """
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    wanted = environment.get("JAX_PLATFORMS") or "cuda,tpu"
    if ("cuda" in wanted or "gpu" in wanted) and (gpus := _gpus(environment)):
        return _shares(workers, gpus, "GPU", lambda own: {"CUDA_VISIBLE_DEVICES": ",".join(own)}, cores)
    if "tpu" in wanted and (chips := _tpu_chips(environment)):
        return _shares(workers, chips, "TPU chip", _of_tpu, cores)
    return _shares(workers, [str(core) for core in cores], "CPU core", lambda own: {}, cores)


def _shares(
    workers: int,
    devices: Sequence[str],
    name: str,
    variables: Callable[[Sequence[str]], dict[str, str]],
    cores: Sequence[int],
) -> list[Share]:
    counted = f"{len(devices)} {name}{'s' if len(devices) > 1 else ''}"
    if workers > len(devices):
        raise InputError(f"--workers={workers}: this machine has {counted}, and each worker needs one")
    if workers == 1:
        return [Share({}, None, counted)]
    each = len(devices) // workers  # the same for all, so that all trials can have the same mesh
    parts = [devices[i * each : (i + 1) * each] for i in range(workers)]
    of_cores = [frozenset(cores[i * len(cores) // workers : (i + 1) * len(cores) // workers]) for i in range(workers)]
    if name == "TPU chip" and each not in _TPU_BOUNDS:
        raise InputError(
            f"--workers={workers}: {each} of {len(devices)} TPU chips make no slice; give 1, 2, 4 or 8 each"
        )
    return [
        Share(variables(part), own or None, f"{name} {','.join(part)}")
        for part, own in zip(parts, of_cores, strict=True)
    ]


def _gpus(environment: Mapping[str, str]) -> list[str]:
    """Names of the GPUs that CUDA_VISIBLE_DEVICES leaves, or else of all that nvidia-smi lists."""
    if (visible := environment.get("CUDA_VISIBLE_DEVICES")) is not None:
        return [name for name in visible.split(",") if name.strip() and name.strip() != "-1"]
    try:
        listed = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    lines = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")] if not listed.returncode else []
    return [str(number) for number in range(len(lines))]


def _tpu_chips(environment: Mapping[str, str]) -> list[str]:
    if visible := environment.get("TPU_VISIBLE_CHIPS"):
        return visible.split(",")
    if not importlib.util.find_spec("libtpu"):  # what else is there under these names is not for JAX
        return []
    chips = [*Path("/dev").glob("accel[0-9]*"), *Path("/dev/vfio").glob("[0-9]*")]
    return [str(number) for number in range(len(chips))]


def _of_tpu(own: Sequence[str]) -> dict[str, str]:
    return {
        "TPU_VISIBLE_CHIPS": ",".join(own),
        "TPU_CHIPS_PER_PROCESS_BOUNDS": _TPU_BOUNDS[len(own)],
        "TPU_PROCESS_BOUNDS": "1,1,1",
    }

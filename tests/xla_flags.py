"""What a test compiles runs a few times: fast code is not worth its compilation, which takes most of the time."""

import jax

_FLAGS = [
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 11):  # newer versions don't know this one
    _FLAGS.append("--xla_cpu_use_fusion_emitters=false")


def xla_flags(devices: int = 1) -> str:
    """The environment variable XLA_FLAGS for a process with so many virtual CPU devices."""
    return " ".join([f"--xla_force_host_platform_device_count={devices}", *_FLAGS])

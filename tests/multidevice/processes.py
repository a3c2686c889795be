"""Programs that run in a process of their own with 8 virtual devices, as their number is fixed when JAX starts."""

import json
import os
import subprocess
import sys
from typing import Any

import jax

# What is compiled here runs once or twice: fast code is not worth its compilation, which takes nearly all the time.
FLAGS = [
    "--xla_force_host_platform_device_count=8",
    "--xla_backend_optimization_level=0",
    "--xla_cpu_parallel_codegen_split_count=1",
]
if jax.__version_info__ < (0, 11):  # newer versions don't know this one
    FLAGS.append("--xla_cpu_use_fusion_emitters=false")


def run(module: str, *arguments: str) -> Any:
    """What `python -m module ARGUMENTS` prints last, which is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"XLA_FLAGS": " ".join(FLAGS), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])

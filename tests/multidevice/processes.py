"""Programs that run in a process of their own with 8 virtual devices, as their number is fixed when JAX starts."""

import json
import os
import subprocess
import sys
from typing import Any

from tests.xla_flags import xla_flags


def run(module: str, *arguments: str) -> Any:
    """What `python -m module ARGUMENTS` prints last, which is JSON."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"XLA_FLAGS": xla_flags(devices=8), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])

"""Programs that run in a process of their own with 8 virtual devices, as their number is fixed when JAX starts."""

import json
from typing import Any

from tests import programs
from tests.xla_flags import xla_flags


def run(module: str, *arguments: str) -> Any:
    """What `python -m module ARGUMENTS` prints last, which is JSON."""
    done = programs.run(module, *arguments, environment={"XLA_FLAGS": xla_flags(devices=8)})
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])

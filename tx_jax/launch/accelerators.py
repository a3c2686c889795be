"""Accelerator types of Cloud TPU, as `gcloud` takes them, and the runtime version that a TPU VM of each has."""

import re

from tx_jax.errors import InputError

# From cloud.google.com/tpu/docs/runtimes, as of November 2026: the first part of the type -> the version.
RUNTIMES = {
    "v2": "tpu-ubuntu2204-base",
    "v3": "tpu-ubuntu2204-base",
    "v4": "tpu-ubuntu2204-base",
    "v5litepod": "v2-alpha-tpuv5-lite",
    "v5p": "v2-alpha-tpuv5",
    "v6e": "v2-alpha-tpuv6e",
}
WITH_TOPOLOGY = ("v2", "v3", "v4")  # what --type of gcloud takes
_OTHER_NAMES = {"v5e": "v5litepod", "v5lite": "v5litepod"}
_TYPE = re.compile(r"([a-z0-9]+)-(\d+)|([a-z0-9]+):(\d+(?:x\d+){1,2})")


def flags_of(accelerator: str) -> list[str]:
    """gcloud's flags for an accelerator: v4-32, or a chip and a topology, v4:2x2x4.

    Raises:
      InputError: it is neither.
    """
    found = _TYPE.fullmatch(accelerator)
    chip = (found[1] or found[3]) if found else ""
    if chip in _OTHER_NAMES:
        raise InputError(
            f"--accelerator={accelerator}: Google Cloud's name is {_OTHER_NAMES[chip]}-N, N being the number of chips"
        )
    if chip not in RUNTIMES:
        raise InputError(f"--accelerator={accelerator}: give {', '.join(f'{name}-N' for name in RUNTIMES)}")
    if found[1]:
        return [f"--accelerator-type={accelerator}"]
    if chip not in WITH_TOPOLOGY:
        raise InputError(
            f"--accelerator={accelerator}: gcloud takes topologies of {', '.join(WITH_TOPOLOGY)} only: give {chip}-N"
        )
    return [f"--type={chip}", f"--topology={found[4]}"]


def chip_of(accelerator: str) -> str:
    """The chip of an accelerator that `flags_of` takes."""
    return re.split(r"[-:]", accelerator)[0]

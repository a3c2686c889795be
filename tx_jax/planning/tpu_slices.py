"""The TPU slices to plan for on a machine without one, by Google Cloud's names or the compiler's.

    v5litepod-16, v5e-16    an accelerator type: number of chips; for v4 and v5p number of cores, two per chip
    v5e:4x4, v5p:2x2x1      generation and shape in chips

Sources: the tables of cloud.google.com/tpu/docs/v4, v5e, v5p and v6e, as of November 2026; Jouppi et al. 2023 for the
links of v4. The compiler's figures are from that of libtpu 0.0.42.
"""

import dataclasses
import importlib.util
import math
import os
import re

import jax
from jax.experimental import topologies

from tx_jax.errors import InputError, did_you_mean

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Generation:
    """The properties of a generation of chips.

    Attributes:
      prefixes: prefixes of the accelerator types.
      cores_in_name: how much a chip counts in the number of an accelerator type.
      shapes: shapes of the available slices, in chips.
      memory: bytes of HBM that the compiler gives a program: a little less than the chip has.
      flops_per_cycle: FLOPs of the matrix units per cycle, in bf16. The compiler's estimates of large products reach
        96% of it, on v6e 84%.
      link_bandwidth: bandwidth of all links of a chip together, in bytes per second in one direction.
      memory_bandwidth: of a chip's HBM, in bytes per second.
      chip_config: the compiler's name for a chip whose two cores are one device, as JAX sees them; "" if it needs none.
    """

    prefixes: tuple[str, ...]
    cores_in_name: int
    shapes: tuple[str, ...]
    memory: int
    flops_per_cycle: int
    link_bandwidth: float
    memory_bandwidth: float
    chip_config: str = ""

    @property
    def dimensions(self) -> int:
        return self.shapes[-1].count("x") + 1


_FLAT = ("1x1", "2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = ("2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x16", "8x16x16")

GENERATIONS = {
    "v4": Generation(("v4",), 2, _CUBIC, int(30.75 * GIB), 2**18, 300e9, 1228e9, "megacore"),
    "v5e": Generation(("v5litepod", "v5e"), 1, _FLAT, int(15.75 * GIB), 2**17, 200e9, 819e9),
    "v5p": Generation(("v5p",), 2, _CUBIC, int(95.74 * GIB), 2**18, 600e9, 2765e9),
    "v6e": Generation(("v6e",), 1, _FLAT, int(31.25 * GIB), 2**19, 400e9, 1640e9),
}


@dataclasses.dataclass(frozen=True)
class TpuSlice:
    """A slice of one pod.

    Attributes:
      generation: a key of `GENERATIONS`.
      shape: chips along each dimension.
    """

    generation: str
    shape: tuple[int, ...]

    @property
    def name(self) -> str:
        """The compiler's name: v5e:4x4."""
        return f"{self.generation}:{'x'.join(map(str, self.shape))}"

    @property
    def accelerator_type(self) -> str:
        """Google Cloud's name: v5litepod-16."""
        facts = GENERATIONS[self.generation]
        return f"{facts.prefixes[0]}-{math.prod(self.shape) * facts.cores_in_name}"

    @property
    def wraps(self) -> tuple[bool, ...]:
        """Whether the links form a ring along each dimension: in cubes of 4 x 4 x 4 chips all do; in a flat pod those
        that span it."""
        if len(self.shape) == 3:
            return (all(size % 4 == 0 for size in self.shape),) * 3
        return tuple(size == 16 for size in self.shape)

    @property
    def link_bandwidth(self) -> float:
        """Bytes per second in one direction, averaged over the chips: those at an edge have no link beyond it."""
        links = sum(2 if wraps else 2 * (size - 1) / size for size, wraps in zip(self.shape, self.wraps, strict=True))
        return GENERATIONS[self.generation].link_bandwidth * links / (2 * len(self.shape))

    def devices(self) -> list[jax.Device]:
        """One device per chip, to compile for, not to run on. JAX may use another backend at the same time.

        Raises:
          InputError: libtpu is not installed, or does not know this slice.
        """
        if importlib.util.find_spec("libtpu") is None:
            raise InputError('planning for TPUs needs their compiler, libtpu: pip install -e ".[plan]"')
        for key, value in _WITHOUT_TPU.items():
            os.environ.setdefault(key, value)
        facts = GENERATIONS[self.generation]
        options = {"chip_config_name": facts.chip_config} if facts.chip_config else {}
        if math.prod(self.shape) == 1:
            options["chips_per_host_bounds"] = (1, 1, 1)
        wraps = self.wraps + (False,) * (3 - len(self.shape))
        try:
            return list(topologies.get_topology_desc(self.name, platform="tpu", wrap=wraps, **options).devices)
        except jax.errors.JaxRuntimeError as error:
            raise InputError(f"libtpu has no {self.name}: {str(error).splitlines()[0]}") from None


# Otherwise libtpu asks Google Cloud's metadata server what machine it runs on, waits if there is none, prints that it
# does not know, and locks other processes out.
_WITHOUT_TPU = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # any
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_WORKER_ID": "0",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}


def find(name: str) -> TpuSlice:
    """The slice of a name such as v5litepod-16 or v5e:4x4.

    Raises:
      InputError: there is no such slice; the message lists the known ones.
    """
    known = {}
    for generation, facts in GENERATIONS.items():
        for shape in facts.shapes:
            tpu_slice = TpuSlice(generation, tuple(map(int, shape.split("x"))))
            count = math.prod(tpu_slice.shape) * facts.cores_in_name
            known |= {tpu_slice.name: tpu_slice} | {f"{prefix}-{count}": tpu_slice for prefix in facts.prefixes}
    if name in known:
        return known[name]
    generation, _, shape = name.partition(":")
    facts = GENERATIONS.get(generation)
    if facts and facts.dimensions == 3 and re.fullmatch(r"\d+x\d+x\d+", shape):
        sizes = tuple(map(int, shape.split("x")))
        if all(size and size % 4 == 0 for size in sizes):  # whole cubes, joined at will
            return TpuSlice(generation, sizes)
    raise InputError(f"no TPU slice is called {name!r}.{did_you_mean(name, known)} {_known()}")


def _known() -> str:
    """Every name, in one line."""
    parts = []
    for generation, facts in GENERATIONS.items():
        counts = [math.prod(map(int, shape.split("x"))) * facts.cores_in_name for shape in facts.shapes]
        parts.append(
            f"{facts.prefixes[0]}-N with N = {', '.join(map(str, counts))}, or {generation}:{facts.shapes[-2]}"
        )
    return f"Known: {'; '.join(parts)}, and the like"

"""Plans what a training will take by compiling its train steps without running them.

The compiler says how much memory a step needs, how the devices communicate and, for TPUs, how many cycles the
computation may take. These are its estimates, not measurements.
"""

import dataclasses
import math
import time

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.errors import InputError
from tx_jax.nn.dropout import dropout_key
from tx_jax.planning import hlo, kernel_costs, tpu_slices
from tx_jax.tasks.base import Objective
from tx_jax.training import out_of_memory
from tx_jax.training.attention import cases_of
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import TrainState, abstract_state
from tx_jax.training.step import check_batch_sizes, jit_train_step
from tx_jax.training.throughput import peak_flops

GIB = 2**30


class DoesNotFit(InputError):
    """The train step needs more memory than a device has."""


@dataclasses.dataclass(frozen=True)
class Target:
    """The devices to plan for.

    Attributes:
      name: the name to show to the user.
      memory: bytes of a device that a program may use; None if unknown.
      peak_flops: a device's peak, see `throughput.peak_flops`.
      clock: cycles per second for the compiler's estimates; None if it makes none.
      generation: a key of `tpu_slices.GENERATIONS`; "" for other devices.
      link_bandwidth: bytes per second that a device can send to others; None if unknown.
    """

    name: str
    devices: list[jax.Device] = dataclasses.field(repr=False)
    memory: int | None
    peak_flops: float | None
    clock: float | None = None
    link_bandwidth: float | None = None
    generation: str = ""


def tpu_target(name: str) -> Target:
    """A TPU slice; no TPU is needed. Raises InputError as `tpu_slices.find` and `TpuSlice.devices` do."""
    tpu_slice = tpu_slices.find(name)
    devices, facts = tpu_slice.devices(), tpu_slices.GENERATIONS[tpu_slice.generation]
    peak = peak_flops(devices[0].device_kind)
    label = f"{tpu_slice.accelerator_type} ({tpu_slice.name})"
    return Target(
        label, devices, facts.memory, peak, peak / facts.flops_per_cycle, tpu_slice.link_bandwidth, tpu_slice.generation
    )


def local_target() -> Target:
    """The devices of this machine."""
    devices = jax.devices()
    memory = (devices[0].memory_stats() or {}).get("bytes_limit")
    return Target("the devices at hand", devices, memory, peak_flops(devices[0].device_kind))


@dataclasses.dataclass(frozen=True)
class PhasePlan:
    """One phase of a training. Bytes, collectives and cycles are per device and step.

    Attributes:
      steps: optimizer steps of the phase.
      tokens: positions in a step's batch, padding included.
      flops: FLOPs of a step on all devices, by `models.registry.flops_per_token`; None if parameters are frozen, since
        it would count their backward pass.
      xla_flops: FLOPs of a step on one device, as XLA counts them: a loop body, such as that of accumulation, once.
      parameters, optimizer_state, batch: bytes of the step's inputs.
      temporaries: bytes of gradients, activations and everything else that exists only during the step.
      program: bytes of the compiled code.
      peak: bytes of all these together, and of results that do not replace an input.
      cycles: the compiler's estimate for the computation, without kernels; None from a compiler that makes none.
      kernel_seconds: the time of attention's kernels, by the model of `kernel_costs`.
      compile_seconds: tracing included.
    """

    steps: int
    batch_size: int
    sequence_length: int
    tokens: int
    flops: float | None
    xla_flops: float
    parameters: int
    optimizer_state: int
    batch: int
    temporaries: int
    program: int
    peak: int
    collectives: tuple[hlo.Collective, ...]
    cycles: int | None
    compile_seconds: float
    kernel_seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Plan:
    """The plan of a whole training. Times are estimates; they are None if `Target` lacks a figure that they need."""

    target: Target
    device_kind: str
    mesh: dict[str, int]
    phases: tuple[PhasePlan, ...]

    @property
    def num_devices(self) -> int:
        return math.prod(self.mesh.values())

    def compute_seconds(self, phase: PhasePlan) -> float | None:
        """Computation time of a step, from the compiler's cycles and the model of the kernels' cost."""
        clock = self.target.clock
        return phase.cycles / clock + phase.kernel_seconds if phase.cycles and clock else None

    def collective_seconds(self, phase: PhasePlan) -> float | None:
        """Minimum communication time of a step: what each device must send, over all of its links at their peak."""
        sent, bandwidth = sum(c.sent for c in phase.collectives), self.target.link_bandwidth
        if bandwidth is None:
            return None
        return sent / bandwidth if sent else 0.0  # a single chip has neither

    def step_seconds(self, phase: PhasePlan) -> float | None:
        """Computation plus communication time of a step; the compiler may overlap them."""
        compute, collectives = self.compute_seconds(phase), self.collective_seconds(phase)
        return None if compute is None or collectives is None else compute + collectives

    def least_step_seconds(self, phase: PhasePlan) -> float | None:
        """The time of a step that only executed its FLOPs, at the devices' peak."""
        peak = self.target.peak_flops
        return phase.flops / (peak * self.num_devices) if peak and phase.flops else None

    def mfu(self, phase: PhasePlan) -> float | None:
        """Model FLOPs utilization, see `throughput.model_flops_utilization`."""
        seconds, least = self.step_seconds(phase), self.least_step_seconds(phase)
        return least / seconds if seconds and least else None

    def days(self) -> float | None:
        """The time of all steps in all phases, without evaluation, checkpoints and waiting for data."""
        seconds = [self.step_seconds(phase) for phase in self.phases]
        if None in seconds:
            return None
        return sum(phase.steps * each for phase, each in zip(self.phases, seconds, strict=True)) / 86_400


def plan(config: ExperimentConfig, objective: Objective, target: Target) -> Plan:
    """Compiles the train step of each phase, which takes minutes for each.

    Args:
      objective: the configuration's objective.

    Raises:
      InputError: the mesh does not fit the devices or the batches.
      DoesNotFit: a step needs more memory than a device has.
    """
    mesh = sharding.make_mesh(config.mesh, target.devices)
    check_batch_sizes(config, mesh)
    phases = tuple(_plan_phase(config, objective, target, mesh, phase) for phase in config.training_phases)
    return Plan(target, target.devices[0].device_kind, dict(mesh.shape), phases)


def step_inputs(objective: Objective, mesh: Mesh, phase: Phase) -> tuple[TrainState, dict]:
    """The state and the batch of a phase's steps, as shapes with shardings."""
    batch = {
        name: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding.batch_sharding(mesh, name, x.ndim))
        for name, x in objective.batch_shapes(phase).items()
    }
    return abstract_state(objective, Optimizer(objective.config), mesh), batch


def _plan_phase(config: ExperimentConfig, objective: Objective, target: Target, mesh: Mesh, phase: Phase) -> PhasePlan:
    state, batch = step_inputs(objective, mesh, phase)
    where = f"steps {phase.start + 1:,} to {phase.stop:,}, batches of {phase.batch_size} x {phase.data.sequence_length}"
    if target.memory and (held := sharding.bytes_per_device(state)) > target.memory:
        needed = f"its parameters and optimizer state take {held / GIB:.2f} GiB"
        raise _does_not_fit(config, mesh, where, needed, target, state_alone=True)
    began = time.perf_counter()
    try:
        compiled = lower_train_step(config, objective, mesh, state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if (sizes := out_of_memory.parse(str(error))) is None:
            raise
        raise _does_not_fit(config, mesh, where, f"it takes {sizes[0] / GIB:.2f} GiB", target) from None
    seconds = time.perf_counter() - began
    text, memory = compiled.as_text(), compiled.memory_analysis()
    program = hlo.read(text)
    arrays = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    peak = arrays + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes
    if target.memory and peak > target.memory:
        raise _does_not_fit(config, mesh, where, f"it takes {peak / GIB:.2f} GiB", target)
    return PhasePlan(
        steps=phase.stop - phase.start,
        batch_size=phase.batch_size,
        sequence_length=phase.data.sequence_length,
        tokens=phase.tokens_per_step,
        flops=objective.flops_per_token(phase) * phase.tokens_per_step if config.trains_all else None,
        xla_flops=(compiled.cost_analysis() or {}).get("flops", 0.0),
        parameters=sharding.bytes_per_device(state.params),
        optimizer_state=sharding.bytes_per_device(state.opt_state),
        batch=sharding.bytes_per_device(batch),
        temporaries=memory.temp_size_in_bytes,
        program=memory.generated_code_size_in_bytes,
        peak=peak,
        collectives=program.collectives,
        cycles=program.cycles,
        compile_seconds=seconds,
        kernel_seconds=_kernel_seconds(config, target, mesh, phase, text),
    )


def _kernel_seconds(config: ExperimentConfig, target: Target, mesh: Mesh, phase: Phase, text: str) -> float:
    if target.generation not in kernel_costs.CHIPS:
        return 0.0
    rows = phase.batch_size // phase.accumulation_steps // sharding.num_parts(mesh, "batch")
    heads = config.model.num_heads // sharding.num_parts(mesh, "heads")
    with jax.set_mesh(mesh):
        cases = list(cases_of(config, phase))
    return kernel_costs.seconds_of_step(hlo.instructions(text), cases, rows, heads, target.generation)


def lower_train_step(
    config: ExperimentConfig, objective: Objective, mesh: Mesh, state: TrainState, batch: dict
) -> jax.stages.Lowered:
    """The loop's train step, lowered for the mesh's devices from shapes with shardings."""
    key = jax.eval_shape(lambda: dropout_key(config.seed))
    key = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=NamedSharding(mesh, PartitionSpec()))
    with jax.set_mesh(mesh):
        return jit_train_step(config, objective, Optimizer(config)).lower(state, batch, key)


def _does_not_fit(
    config: ExperimentConfig, mesh: Mesh, where: str, needed: str, target: Target, *, state_alone: bool = False
) -> DoesNotFit:
    there = f", of {target.memory / GIB:.2f} GiB on each device" if target.memory else ""
    key, parts = config.key_of_phases("accumulation_steps"), sharding.num_parts(mesh, "batch")
    sizes, splits = zip(
        *((phase.batch_size, phase.accumulation_steps) for phase in config.training_phases), strict=True
    )
    if key.startswith("training."):  # one value, which must divide all sizes
        sizes, splits = (math.gcd(*sizes),), splits[:1]
    helps = []
    if not state_alone and config.model.remat != "block":
        helps.append(f"--config.model.remat=block (now {config.model.remat})")
    if not state_alone and any(steps < size // parts for size, steps in zip(sizes, splits, strict=True)):
        helps.append(f"a larger --config.{key} (now {', '.join(map(str, splits))})")
    fsdp, tensor = mesh.shape["fsdp"], mesh.shape["tensor"]
    if fsdp * tensor < mesh.size:
        helps.append(
            f"a larger --config.mesh.fsdp or --config.mesh.tensor in place of the others (now {fsdp}, {tensor})"
        )
    helps.append(f"more devices, and a larger --config.mesh.fsdp with them (now {fsdp})")
    return DoesNotFit(f"does not fit on {target.name}, {where}: {needed}{there}. What helps: {'; '.join(helps)}")

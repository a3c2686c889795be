"""What `experiments.train --plan` does and shows."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from experiments import display
from tx_jax.config import ExperimentConfig, from_config_dict
from tx_jax.config.further import experiment_values
from tx_jax.config.starting import check_start, check_steps
from tx_jax.errors import InputError
from tx_jax.models.registry import FLOPS_FORMULA
from tx_jax.planning import plan
from tx_jax.planning.plan import GIB, PhasePlan, Plan
from tx_jax.runs.left_open import fill_in
from tx_jax.runs.start import Start, open_start
from tx_jax.tasks.base import Objective
from tx_jax.tasks.registry import objective_of, open_task
from tx_jax.training.begin import check_patterns

NOTE = (
    "Planned, not measured. {time} Evaluation, checkpoints and waiting for data come on top. Tokens count padding; MFU "
    "and days follow from the estimated step."
)
TIME = (
    "Computation is the sum of the cycles that the TPU compiler estimates for each fusion, at the chip's clock rate, "
    "and of what attention's kernels need at least, by a model (tx_jax/planning/kernel_costs.py); communication is the "
    "bytes that each chip must send over its links at their peak; neither overlap nor stalls are counted."
)
NO_FLOPS = (
    "Not all parameters train. The FLOPs formula counts the backward pass through all of them, so neither its result "
    "nor MFU is shown; XLA counts what is computed."
)
NO_TIME = "The compiler for these devices does not estimate time; only the one for TPUs does (--topology)."


def make_and_show(values: dict[str, Any], topology: str | None, given: Collection[str] = ()) -> None:
    """Plans the experiment with these values for the named TPUs, or for the devices of this machine.

    Args:
      given: the keys that are set on the command line.

    Raises:
      InputError: the configuration could not be trained.
    """
    check_start(experiment_values(values), given)
    jax.config.update("jax_enable_compilation_cache", False)  # because the compilation time is shown
    of_model = [key.removeprefix("model.") for key in given if key.startswith("model.")]
    values, filled_in = fill_in(values, given)
    print("".join(f"{line}\n" for line in filled_in), end="", flush=True)
    values, start = open_start(values, Path(os.devnull), of_model)  # no run has begun
    objective = _objective(from_config_dict(values), start)
    config = objective.config
    check_steps(config, given)
    check_patterns(objective, given)
    target = plan.tpu_target(topology) if topology else plan.local_target()
    steps = "train step" if len(config.training_phases) == 1 else f"{len(config.training_phases)} train steps"
    print(f"Compiling the {steps} for {target.name}, which takes minutes for a large model.", flush=True)
    show(plan.plan(config, objective, target), display.make_console())


def _objective(config: ExperimentConfig, start: Start | None) -> Objective:
    """From the configuration; for fine-tuning in epochs from the data, which decides how many steps an epoch has."""
    if not config.training.num_epochs or start is None:
        return objective_of(config)
    try:
        return open_task(config, tokenizer=start.tokenizer).objective
    except InputError as error:
        raise InputError(
            f"{error}. To plan without data: --config.training.num_epochs=0 --config.training.num_steps=N"
        ) from None


def show(made: Plan, console: Console) -> None:
    """Prints the plan as tables with one column per phase."""
    mesh = " x ".join(f"{axis} {size}" for axis, size in made.mesh.items())
    title = f"Plan for {made.target.name}: {made.num_devices} x {made.device_kind} ({mesh})"
    table = Table("", title=title, title_justify="left")
    for phase in made.phases:
        table.add_column(f"{phase.steps:,} steps of {phase.batch_size} x {phase.sequence_length}", justify="right")
    for name, figure in FIGURES.items():
        values = [figure(made, phase) for phase in made.phases]
        if any(values):
            table.add_row(name, *(value or "-" for value in values), end_section=name in LAST_OF_GROUP)
    console.print(table)
    if (days := made.days()) is not None:
        unit, time = ("days", days) if days >= 1 else ("hours", days * 24)
        console.print(f"All steps: {time:,.2f} {unit}, {time * made.num_devices:,.1f} chip-{unit}.")
    if any(phase.flops is None for phase in made.phases):
        console.print(NO_FLOPS)
    console.print(NOTE.format(time=NO_TIME if days is None else TIME))


def size(count: float) -> str:
    """Bytes for people."""
    unit, name = next(
        ((unit, name) for unit, name in ((GIB, "GiB"), (2**20, "MiB")) if count >= unit / 10), (2**10, "KiB")
    )
    return f"{count / unit:,.2f} {name}"


def _peak(made: Plan, phase: PhasePlan) -> str:
    memory = made.target.memory
    return size(phase.peak) + (f" of {size(memory)}, {phase.peak / memory:.0%}" if memory else "")


def _collective(kind: str) -> Callable[[Plan, PhasePlan], str | None]:
    def figure(made: Plan, phase: PhasePlan) -> str | None:
        found = next((c for c in phase.collectives if c.kind == kind), None)
        return found and f"{found.count} x, {size(found.bytes)}"

    return figure


def _milliseconds(seconds: float | None) -> str | None:
    return None if seconds is None else f"{seconds * 1e3:,.1f} ms"


def _tokens_per_second(made: Plan, phase: PhasePlan) -> str | None:
    seconds = made.step_seconds(phase)
    return seconds and f"{phase.tokens / seconds:,.0f}"


def _mfu(made: Plan, phase: PhasePlan) -> str | None:
    mfu = made.mfu(phase)
    return mfu and f"{mfu:.1%}"


FIGURES = {
    "tokens per step": lambda made, phase: f"{phase.tokens:,}",
    "on each device: parameters": lambda made, phase: size(phase.parameters),
    "optimizer state": lambda made, phase: size(phase.optimizer_state),
    "batch": lambda made, phase: size(phase.batch),
    "gradients, activations, temporaries": lambda made, phase: size(phase.temporaries),
    "program": lambda made, phase: size(phase.program),
    "total": _peak,
    "in a step: all-reduce": _collective("all-reduce"),
    "all-gather": _collective("all-gather"),
    "reduce-scatter": _collective("reduce-scatter"),
    "all-to-all": _collective("all-to-all"),
    "collective-permute": _collective("collective-permute"),
    "each device sends at least": lambda made, phase: size(sum(c.sent for c in phase.collectives)),
    f"FLOPs per step ({FLOPS_FORMULA})": lambda made, phase: phase.flops and f"{phase.flops:.3e}",
    "by XLA's count, each loop body once": lambda made, phase: f"{phase.xla_flops * made.num_devices:.3e}",
    "at the devices' peak": lambda made, phase: _milliseconds(made.least_step_seconds(phase)),
    "estimated computation": lambda made, phase: _milliseconds(made.compute_seconds(phase)),
    "of it attention's kernels, at least": lambda made, phase: _milliseconds(phase.kernel_seconds or None),
    "estimated communication, at least": lambda made, phase: _milliseconds(made.collective_seconds(phase)),
    "estimated step": lambda made, phase: _milliseconds(made.step_seconds(phase)),
    f"MFU ({FLOPS_FORMULA})": _mfu,
    "tokens per second": _tokens_per_second,
    "compile time here": lambda made, phase: f"{phase.compile_seconds:,.0f} s",
}
LAST_OF_GROUP = {
    "tokens per step",
    "total",
    "each device sends at least",
    "at the devices' peak",
    "tokens per second",
}

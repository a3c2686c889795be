"""Which implementation of attention a training uses, before it starts."""

import dataclasses
from collections.abc import Iterator

import numpy as np

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.errors import InputError
from tx_jax.nn.attention.case import Case
from tx_jax.nn.attention.check import LIMIT, deviation
from tx_jax.nn.attention.choice import choose


def cases_of(config: ExperimentConfig, phase: Phase) -> Iterator[tuple[Case, int]]:
    """The cases of self-attention in a phase of training on the devices that are compiled for, and the number of layers
    that have each."""
    model, length = config.model, phase.data.sequence_length
    case = Case(
        platform=sharding.platform(),
        dtype=model.dtype,
        queries=length,
        keys=length,
        head_dim=model.head_dim,
        dropout=model.attention_dropout,
        causal=model.architecture == "decoder",
        documents=getattr(phase.data, "packing", "") == "packed_documents",
        relative=bool(model.relative_attention),
        length_parts=config.mesh.context,
        device_kind=sharding.device_kind(),
    )
    local = sum(model.local_window > 0 and i % model.global_every != 0 for i in range(model.num_layers))
    yield case, model.num_layers - local
    if local:
        yield dataclasses.replace(case, window=model.local_window), local


def attention_of(config: ExperimentConfig) -> dict[str, str]:
    """The implementation and why, by the cases that occur in training on the devices of this machine; "" where it is
    the same for all.

    Raises:
      InputError: the one that `model.attention` names cannot run them; the message says why.
    """
    found: dict[str, str] = {}
    for phase in config.training_phases:
        for case, _ in cases_of(config, phase):
            choice = choose(config.model.attention, case)
            layers = (", local layers" if case.window else ", global layers") if config.model.local_window else ""
            found[f"length {case.queries}{layers}"] = f"{choice.name} ({choice.why})"
    return {"": next(iter(found.values()))} if len(set(found.values())) == 1 else found


def deviations(config: ExperimentConfig) -> dict[str, float]:
    """How far each kernel that a training would use is from XLA's implementation on the first device of this machine,
    see `check.deviation`: the worst of its cases. Compiles two small programs a case."""
    found: dict[str, float] = {}
    for case in dict.fromkeys(case for phase in config.training_phases for case, _ in cases_of(config, phase)):
        name = choose(config.model.attention, case).name
        if name != "xla":
            found[name] = float(np.maximum(found.get(name, 0.0), deviation(name, case, config.model)))  # NaN if one is
    return found


def reason_against_kernels(config: ExperimentConfig) -> str:
    """Why a kernel that a training would use cannot be trusted on this machine; "" if all can."""
    for name, far in deviations(config).items():
        if not far <= LIMIT:
            return f"attention by {name!r} differs from XLA's by {far:.0%} on this device (more than {LIMIT:.0%})"
    return ""


def reason_against_resuming(config: ExperimentConfig) -> str:
    """Why the implementation that a run began with cannot train on this machine; "" if it can."""
    try:
        attention_of(config)
    except InputError as error:
        return str(error).partition(". ")[0]
    return ""

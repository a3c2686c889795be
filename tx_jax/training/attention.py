"""Which implementation of attention a training uses, before it starts."""

from tx_jax.config import ExperimentConfig
from tx_jax.errors import InputError
from tx_jax.nn.attention.case import Case, platform
from tx_jax.nn.attention.choice import choose


def attention_of(config: ExperimentConfig) -> dict[str, str]:
    """The implementation and why, by the cases that occur in training on the devices of this machine; "" where there is
    one case only.

    Raises:
      InputError: the one that `model.attention` names cannot run them; the message says why.
    """
    found: dict[str, str] = {}
    model = config.model
    for phase in config.training_phases:
        for window in (0, model.local_window) if model.local_window else (0,):
            length = phase.data.sequence_length
            case = Case(
                platform=platform(),
                dtype=model.dtype,
                queries=length,
                keys=length,
                head_dim=model.head_dim,
                dropout=model.attention_dropout,
                causal=model.architecture == "decoder",
                window=window,
                documents=getattr(phase.data, "packing", "") == "packed_documents",
                relative=bool(model.relative_attention),
                length_parts=config.mesh.context,
            )
            choice = choose(model.attention, case)
            layers = (", local layers" if window else ", global layers") if model.local_window else ""
            found[f"length {length}{layers}"] = f"{choice.name} ({choice.why})"
    return {"": next(iter(found.values()))} if len(set(found.values())) == 1 else found


def reason_against_resuming(config: ExperimentConfig) -> str:
    """Why the implementation that a run began with cannot train on this machine; "" if it can."""
    try:
        attention_of(config)
    except InputError as error:
        return str(error).partition(". ")[0]
    return ""

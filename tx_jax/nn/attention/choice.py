"""The table of implementations of attention, and which one runs a case."""

import dataclasses
from collections.abc import Callable, Iterator

import jax

from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError
from tx_jax.nn.attention import cudnn, xla
from tx_jax.nn.attention.case import Case


@dataclasses.dataclass(frozen=True)
class Implementation:
    """
    Attributes:
      reason_against: why it cannot run a case, one sentence; None = it can.
      attend: attention itself, see `xla.attend`.
      automatic: whether `auto` may choose it.
    """

    reason_against: Callable[[Case], str | None]
    attend: Callable[..., jax.Array]
    automatic: bool = True


# `auto` takes the first that can.
IMPLEMENTATIONS = {
    "cudnn": Implementation(cudnn.reason_against, cudnn.attend),
    "xla": Implementation(xla.reason_against, xla.attend),
}
# Those of each platform: the reasons of the others are of no interest there.
MADE_FOR = {"gpu": ("cudnn",), "tpu": ()}


@dataclasses.dataclass(frozen=True)
class Choice:
    """
    Attributes:
      name: a key of `IMPLEMENTATIONS`.
      why: one sentence.
    """

    name: str
    why: str

    @property
    def attend(self) -> Callable[..., jax.Array]:
        return IMPLEMENTATIONS[self.name].attend


def choose(name: str, case: Case) -> Choice:
    """The implementation that runs a case.

    Args:
      name: `model.attention`: "auto" or a key of `IMPLEMENTATIONS`.

    Raises:
      InputError: the named one cannot run it.
    """
    if name != "auto":
        if reason := IMPLEMENTATIONS[name].reason_against(case):
            raise InputError(f"model.attention={name!r} cannot be: {reason}. Give --config.model.attention=auto")
        return Choice(name, "asked for")
    against = {}
    for candidate, implementation in IMPLEMENTATIONS.items():
        if not implementation.automatic:
            continue
        if (reason := implementation.reason_against(case)) is None:
            refused = [f"{other}: {against[other]}" for other in MADE_FOR.get(case.platform, ()) if other in against]
            return Choice(candidate, "; ".join(refused) or f"the fastest for {case.platform}")
        against[candidate] = reason
    raise AssertionError("XLA runs every case")


def training_cases(
    model: TransformerConfig, length: int, *, documents: bool, platform: str, length_parts: int
) -> Iterator[tuple[str, Case]]:
    """The cases of self-attention in a model's training, each with the name of the layers that have it."""
    case = Case(
        platform=platform,
        dtype=model.dtype,
        queries=length,
        keys=length,
        head_dim=model.head_dim,
        dropout=model.attention_dropout,
        causal=model.architecture == "decoder",
        documents=documents,
        relative=bool(model.relative_attention),
        length_parts=length_parts,
    )
    yield ("all layers" if not model.local_window else "global layers"), case
    if model.local_window:
        yield "local layers", dataclasses.replace(case, window=model.local_window)

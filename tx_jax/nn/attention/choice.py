"""The table of implementations of attention, and which one runs a case."""

import dataclasses
import warnings
from collections.abc import Callable

import jax

from tx_jax.errors import InputError, InputWarning
from tx_jax.nn.attention import cudnn, relative_scores, rows, splash, xla
from tx_jax.nn.attention.case import Case


@dataclasses.dataclass(frozen=True)
class Implementation:
    """
    Attributes:
      reason_against: why it cannot run a case, one sentence; None = it can.
      attend: attention itself, see `xla.attend`.
      tokens_last: whether it is faster on a TPU if queries, keys and values lie in memory as [B, H, K, T].
    """

    reason_against: Callable[[Case], str | None]
    attend: Callable[..., jax.Array]
    tokens_last: bool = False


# `auto` takes the first that can.
IMPLEMENTATIONS = {
    "cudnn": Implementation(cudnn.reason_against, cudnn.attend),
    "rows": Implementation(rows.reason_against, rows.attend),
    "splash": Implementation(splash.reason_against, splash.attend),
    "relative": Implementation(relative_scores.reason_against, relative_scores.attend, tokens_last=True),
    "xla": Implementation(xla.reason_against, xla.attend, tokens_last=True),
}
# Those of each platform: the reasons of the others are of no interest there.
MADE_FOR = {"gpu": ("cudnn",), "tpu": ("rows", "splash", "relative")}


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

    @property
    def tokens_last(self) -> bool:
        return IMPLEMENTATIONS[self.name].tokens_last


def choose(name: str, case: Case, *, training: bool = True) -> Choice:
    """The implementation that runs a case.

    Args:
      name: `model.attention`: "auto" or a key of `IMPLEMENTATIONS`.
      training: if False, a model that was trained with one that cannot run here runs with another, with a warning.

    Raises:
      InputError: in training, the named one cannot run the case.
    """
    if name != "auto":
        if (reason := IMPLEMENTATIONS[name].reason_against(case)) is None:
            return Choice(name, "as configured")
        problem = f"model.attention={name!r} cannot be used: {reason}"
        if training:
            raise InputError(f"{problem}. Give --config.model.attention=auto")
        chosen = choose("auto", case)
        warnings.warn(f"{problem}; using {chosen.name} instead", InputWarning, stacklevel=2)
        return chosen
    against = {}
    for candidate, implementation in IMPLEMENTATIONS.items():
        if (reason := implementation.reason_against(case)) is None:
            of_interest = [other for other in MADE_FOR.get(case.platform, ()) if other in against]
            if case.platform == "tpu":  # where DeBERTa has kernels of its own
                of_interest = [other for other in of_interest if (other == "relative") == case.relative]
            refused = [f"{other}: {against[other]}" for other in of_interest]
            return Choice(candidate, "; ".join(refused) or f"the fastest for {case.platform}")
        against[candidate] = reason
    raise AssertionError("XLA runs every case")

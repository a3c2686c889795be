"""What one call of attention asks for: what an implementation is chosen by."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Case:
    """
    Attributes:
      platform: of the devices that it runs on: "cpu", "gpu" or "tpu".
      device_kind: their model, such as "TPU v5 lite".
      queries, keys: their numbers in a row.
      dropout: the rate on the probabilities; 0 where there is no dropout, as in evaluation.
      padding: whether some keys may not be tokens.
      documents: whether rows hold several documents.
      cached: whether the queries continue a row whose keys are in a cache.
      relative: whether there are DeBERTa's terms in the scores.
      capture: whether the probabilities are wanted.
      length_parts: the number of devices that sequences are split over.
    """

    platform: str
    dtype: str
    queries: int
    keys: int
    head_dim: int
    dropout: float = 0.0
    padding: bool = True
    causal: bool = False
    window: int = 0
    documents: bool = False
    cached: bool = False
    relative: bool = False
    capture: bool = False
    length_parts: int = 1
    device_kind: str = ""


def reason_against_kernels(case: Case) -> str | None:
    """Why no kernel that keeps the scores on the chip can run a case; None = some can."""
    reasons = (
        (case.relative, "it has no relative positions in the scores"),
        (case.capture, "it never has all probabilities at hand, which are asked for"),
        (case.cached, "it has no cache of keys and values"),
        (case.length_parts > 1, f"it needs whole rows, and they are split over {case.length_parts} devices"),
    )
    return next((reason for applies, reason in reasons if applies), None)

"""Fills in what a configuration leaves open: from the run if it has begun, or else from the token store.

What follows from labels is filled in by the task (`Supervised.with_labels`).
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tx_jax import added
from tx_jax.data.corpus.stores import Stores
from tx_jax.data.translation.store import PairStore
from tx_jax.errors import InputError
from tx_jax.runs.run_dir import RunDir

PADDING = 128  # a vocabulary that is rounded up to a multiple of this, or of less, is so on purpose


def fill_in(
    values: Mapping[str, Any], given: Collection[str] = (), begun: Path | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The values of a configuration, and a line for each one that was filled in.

    Args:
      values: nested plain values.
      given: the keys that are set on the command line; they are not changed.
      begun: the directory of a run to continue: what it left open at its start stays as it was then.

    Raises:
      InputError: the run directory has no readable configuration, or a module that the run needs is missing.
    """
    values = {name: {**group} if isinstance(group, Mapping) else group for name, group in values.items()}
    told = []
    before = RunDir(begun).load_config() if begun else None
    added.load(before.extensions if before else ())
    if extensions := added.used(values):
        told = [f"extensions={extensions}, which add what the configuration names"] * (not values.get("extensions"))
        values["extensions"] = extensions
    data, training, model = values["data"], values["training"], values["model"]
    if "train" in data:
        if before and not data["metrics"]:
            data["metrics"] = getattr(before.data, "metrics", ())
        if before and training["best_metric"] == "auto":
            training["best_metric"] = before.training.best_metric
        return values, told
    if values.get("start_from") or "model.vocab_size" in given:
        return values, told
    size, source = _of_store(values), f"the tokenizer of {data['store']}"
    if before:
        size, source = before.model.vocab_size, str(begun)
    if size is None or size == model["vocab_size"]:
        return values, told
    said = f"model.vocab_size={size}, that of {source} (the configuration has {model['vocab_size']})"
    model["vocab_size"] = size
    return values, [*told, said]


def _of_store(values: Mapping[str, Any]) -> int | None:
    """The required vocabulary size; None if the configured one is right, or if there is no store to look at."""
    try:
        opened = PairStore if "buckets" in values["data"] else Stores
        tokens = opened.open(values["data"]["store"]).vocab_size
    except InputError:  # raised again where the store is needed; a plan needs none
        return None
    if tokens <= values["model"]["vocab_size"] <= _rounded_up(tokens, PADDING):
        return None
    return _rounded_up(tokens, max(1, values["mesh"]["tensor"]))


def _rounded_up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple

"""The head of a classifier or tagger in a new run: its rows keep their labels, or it is newly initialized."""

import dataclasses
from typing import Any

import numpy as np

from tx_jax.data.labeled.label_names import default_names, listed, match
from tx_jax.errors import InputError

_ROWS = ("kernel", "bias")  # the last axis of both is the label axis


@dataclasses.dataclass(frozen=True)
class CarriedHead:
    """What a new run keeps of an old head.

    Attributes:
      head: the head's name; "" if there is no classification head.
      order: for each label of the new run, the index of its row in the old head; None: newly initialized.
      told: a line that tells the user what was done.
    """

    head: str
    order: tuple[int, ...] | None = None
    told: str = ""

    def of_new_run(self, path: str, value: Any) -> Any:
        """Returns the new run's parameter at a path; None: initialize it. `value`: the old parameter, if any."""
        if value is None or not self.head or not path.startswith(f"{self.head}/"):
            return value
        if self.order is None:
            return None
        return np.asarray(value)[..., list(self.order)] if path.endswith(_ROWS) else value


def carry(head: str, there: tuple[str, ...], here: tuple[str, ...], name: str, *, mapped: bool) -> CarriedHead:
    """Returns what a run with the labels `here` keeps of a head with the labels `there`; () for labels without names.

    Args:
      name: the name of the model that has the head.
      mapped: whether the user gave the names in `there`.

    Raises:
      InputError: the user's names are not those of the run, so they would have no effect.
    """
    matched = match(there, here)
    if matched is not None:
        order = tuple(matched.labels.index(label) for label in here)
        taken = f"; taken: {matched.taken}" if matched.taken else ""
        return CarriedHead(head, order, f"{listed(here)}: the rows of {head} keep the labels of {name}{taken}")
    lists = f"{listed(there)} in {name}, {listed(here)} in the data"
    if mapped:
        raise InputError(
            f"data.label_map: with it the labels are {lists}. They still differ, so the head would keep no row: map "
            "one of the model's labels to each label of the data, or leave it out"
        )
    advice = ""
    if len(there) == len(here):
        unnamed = there == default_names(len(there))
        why = "as they have no names there" if unnamed else "if they are the same labels under other names"
        advice = f". To keep its rows, {why}: --config.data.label_map=\"('OLD=NEW', ...)\""
    return CarriedHead(head, None, f"{lists}: the labels differ, so {head} is newly initialized{advice}")

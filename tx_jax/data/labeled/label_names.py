"""Names of labels: whether two lists of names mean the same labels, and which name corresponds to which."""

import dataclasses
from collections.abc import Collection, Sequence

from tx_jax.data.labeled.labels import label_key
from tx_jax.errors import InputError, did_you_mean

_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Matched:
    """The labels of a model as some data names them.

    Attributes:
      labels: in the order of the model's outputs, as the data spells them.
      taken: which name was taken for which, "POSITIVE for positive"; "" if they are spelled alike.
    """

    labels: tuple[str, ...]
    taken: str = ""


def default_names(count: int) -> tuple[str, ...]:
    """The names that transformers gives to labels without names."""
    return tuple(f"LABEL_{number}" for number in range(count))


def match(model: Sequence[str], data: Collection[str], *, some: bool = False) -> Matched | None:
    """The labels of a model as the labels of some data; None where they are others.

    They are the same where `label_key` says so; or where they are spelled alike but for the case of letters, as
    CONTRADICTION in published models is contradiction in MNLI's files, and no two of a list differ in that alone.
    LABEL_0, LABEL_1, ... are the numbers 0, 1, ..., since transformers gives these names to labels that were numbers;
    they are no other names.

    Args:
      some: the data may lack labels of the model.
    """
    by_key = {label_key(label): label for label in data}
    readings = [{label: by_key.get(label_key(label), label) for label in model}]
    folded = {label.casefold(): label for label in data}
    if len(folded) == len(set(data)) and len({label.casefold() for label in model}) == len(model):
        readings.append({label: folded.get(label.casefold(), label) for label in model})
    if tuple(model) == default_names(len(model)):
        readings.append({label: by_key.get(str(number), str(number)) for number, label in enumerate(model)})
    for reading in readings:
        labels = tuple(reading.values())
        if set(labels) >= set(data) if some else set(labels) == set(data):
            taken = [f"{there} for {here}" for there, here in reading.items() if there != here and here in data]
            return Matched(labels, listed(taken))
    return None


def rename(labels: Sequence[str], label_map: Sequence[str], *, option: str) -> tuple[str, ...]:
    """The labels, some of them under other names.

    Args:
      label_map: entries OLD=NEW.
      option: what gave the map, for messages.

    Raises:
      InputError: an entry of another form, of a label that is not there, or that changes nothing; two for one label, or
        two labels of one name.
    """
    new_names: dict[str, str] = {}
    for entry in label_map:
        # A label may have "=" in its name.
        fitting = sorted((label for label in labels if entry.startswith(f"{label}=")), key=len)
        if not fitting:
            old = entry.rpartition("=")[0] or entry
            near = did_you_mean(old, labels)
            raise InputError(
                f"{option}: {entry!r} must be OLD=NEW, with a label of the model as OLD: {listed(labels)}.{near}"
            )
        old = fitting[-1]
        new = entry.removeprefix(f"{old}=").strip()
        if not new or new == old:
            raise InputError(f"{option}: {entry!r} does not change the name {old!r}: leave it out")
        if old in new_names:
            raise InputError(f"{option}: {old!r} gets two names, {new_names[old]!r} and {new!r}")
        new_names[old] = new
    renamed = tuple(new_names.get(label, label) for label in labels)
    if doubled := [name for name in new_names.values() if renamed.count(name) > 1]:
        raise InputError(f"{option}: two labels would be called {doubled[0]!r}: {listed(renamed)}")
    return renamed


def listed(names: Sequence[str]) -> str:
    """The first of them, and how many there are where that is not all."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > _SHOWN else shown

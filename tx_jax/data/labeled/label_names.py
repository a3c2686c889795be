"""Label names: whether two lists of names mean the same labels, and which name corresponds to which."""

import dataclasses
from collections.abc import Collection, Sequence

from tx_jax.data.labeled.labels import label_key
from tx_jax.errors import InputError, did_you_mean

_SHOWN = 6


@dataclasses.dataclass(frozen=True)
class Matched:
    """A model's labels, as a dataset spells them.

    Attributes:
      labels: the labels in the order of the model's outputs, as the data spells them.
      taken: which names were matched, such as "POSITIVE for positive"; "" if the spellings are the same.
    """

    labels: tuple[str, ...]
    taken: str = ""


def default_names(count: int) -> tuple[str, ...]:
    """The names that transformers gives to unnamed labels."""
    return tuple(f"LABEL_{number}" for number in range(count))


def match(model: Sequence[str], data: Collection[str], *, some: bool = False) -> Matched | None:
    """Matches a model's labels with a dataset's labels; None if they are different labels.

    Two names match if they have the same `label_key`. They also match if they differ only in case, as CONTRADICTION in
    published models and contradiction in MNLI's files do, provided that no two names in one list differ only in case.
    LABEL_0, LABEL_1, ... match the numbers 0, 1, ..., since transformers gives these names to labels that were numbers;
    they match no other names.

    Args:
      some: whether the data may lack some of the model's labels.
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
    """The labels, with some of them renamed.

    Args:
      label_map: entries OLD=NEW.
      option: the option that gave the map, for messages.

    Raises:
      InputError: an entry has another form, names a label that does not exist, or changes nothing; a label has two
        entries; or two labels get the same name.
    """
    new_names: dict[str, str] = {}
    for entry in label_map:
        # A label's name may contain "=".
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
    """The first few names, followed by the total count if there are more."""
    shown = ", ".join(names[:_SHOWN])
    return f"{shown}, ... ({len(names)} in all)" if len(names) > _SHOWN else shown

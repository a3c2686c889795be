"""Further pretraining: the keys of its configuration besides those of the training itself."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from tx_jax.config.checks import require
from tx_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class FurtherConfig:
    """How a model is adapted to a domain, by `experiments/further_pretrain.py`.

    Attributes:
      source: the text of the domain, as for `experiments.prepare --source`.
      new_tokens: comma-separated words, or a file with one word per line; empty: none.
      similar: "covid=virus,pandemic;variant=strain", or a file with one such entry per line: the words whose mean each
        new word starts as.
      validation_fraction: fraction of the documents to hold out.
      occurrences: how many occurrences of each new word in held-out text the report looks at, at most.
      downstream: a fine-tuning of the model before and after, to compare the results: a configuration, then other flags
        of experiments.train; empty: none.
    """

    source: str
    new_tokens: str = ""
    similar: str = ""
    validation_fraction: float = 0.05
    occurrences: int = 100
    downstream: str = ""

    def __post_init__(self):
        require(bool(self.source), "source is empty: give the text of your domain, --config.source='texts/*.txt'")
        fraction = self.validation_fraction
        require(0 < fraction < 1, f"validation_fraction={fraction} must be between 0 and 1")
        require(self.occurrences >= 1, f"occurrences={self.occurrences} must be at least 1")
        _ = self.fine_tuning

    @property
    def fine_tuning(self) -> tuple[str, ...]:
        """The arguments of experiments.train for `downstream`, with three seeds if it names none."""
        try:
            config, *others = shlex.split(self.downstream) or [""]
        except ValueError as error:
            raise InputError(f"downstream={self.downstream}: {error}") from None
        named = not config.startswith("-") and all(other.startswith("--") for other in others)
        require(
            named,
            f"downstream={self.downstream}: give a configuration, then --config.KEY=VALUE or --seeds, such as "
            "--config.downstream='configs/classification.py --config.data.train=texts.csv'",
        )
        return (f"--config={config}", "--seeds=0,1,2", *others) if config else ()


FURTHER_KEYS = tuple(field.name for field in dataclasses.fields(FurtherConfig))


def experiment_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration without the keys of `FurtherConfig`: the values of an `ExperimentConfig`."""
    return {key: value for key, value in values.items() if key not in FURTHER_KEYS}


def further_config(values: Mapping[str, Any]) -> FurtherConfig:
    """The `FurtherConfig` part of a configuration; the remaining keys are those of an `ExperimentConfig`.

    Raises:
      InputError: the part is missing, or a value is invalid.
    """
    if "source" not in values:
        raise InputError("a configuration of further pretraining needs a source: see configs/further_pretrain.py")
    return FurtherConfig(**{key: values[key] for key in FURTHER_KEYS if key in values})

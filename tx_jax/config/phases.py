"""Training in phases, one after another, each with its own shapes."""

import dataclasses

from tx_jax.config.checks import require
from tx_jax.config.data import DataConfig
from tx_jax.config.labeled import LabeledDataConfig
from tx_jax.config.training import TrainingConfig
from tx_jax.config.translation import TranslationDataConfig
from tx_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class PhasesConfig:
    """Values that replace those of `data` and `training` in each phase: one value per phase, in order.

    BERT trains 90% of its steps at length 128 and the rest at 512 (Devlin et al. 2018, A.2). Phases of one length with
    growing batches are a batch size warmup. Each phase goes through the data anew, in its own order; the schedules of
    learning rate, mask rate and checkpoints span all phases. Held-out data keeps the lengths in `data`, so that metrics
    are comparable over the whole run.

    Attributes:
      steps: optimizer steps, `training.num_steps` in total. Empty: a single phase with the values in `data` and
        `training`; the other keys are ignored.
      sequence_length, max_predictions, batch_size, accumulation_steps: replace the values with the same name; empty:
        keep them. Batches of one shape are split in one way.
    """

    steps: tuple[int, ...] = ()
    sequence_length: tuple[int, ...] = ()
    max_predictions: tuple[int, ...] = ()
    batch_size: tuple[int, ...] = ()
    accumulation_steps: tuple[int, ...] = ()

    def __post_init__(self):
        for name, values in dataclasses.asdict(self).items():
            require(
                not self.steps or not values or len(values) == len(self.steps),
                f"phases.{name}={values} must have {len(self.steps)} values, one for each of "
                f"phases.steps={self.steps}, or none",
            )
            require(all(value >= 1 for value in values), f"phases.{name}={values} must all be at least 1")


ONE_PHASE = PhasesConfig()


@dataclasses.dataclass(frozen=True)
class Phase:
    """A phase of training, with its values from `data` and `training` filled in.

    Attributes:
      number: the phase's index, from 0.
      start, stop: the phase consists of the optimizer steps start + 1 to stop.
      data: the data's configuration with the lengths of the phase.
      batch_size: sequences per optimizer step, over all devices.
      accumulation_steps: the number of parts that a batch is computed in.
    """

    number: int
    start: int
    stop: int
    data: DataConfig | LabeledDataConfig | TranslationDataConfig
    batch_size: int
    accumulation_steps: int

    @property
    def tokens_per_step(self) -> int:
        """Positions of the global batch, padding included; each choice of a multiple choice is a sequence."""
        choices = len(getattr(self.data, "choices", ())) or 1
        return self.batch_size * choices * self.data.sequence_length

    @property
    def shape(self) -> tuple[int, int, int]:
        """What determines a batch's shapes: number of sequences, their length, predictions in each."""
        return self.batch_size, self.data.sequence_length, getattr(self.data, "max_predictions", 0)


def resolve(
    phases: PhasesConfig, data: DataConfig | LabeledDataConfig | TranslationDataConfig, training: TrainingConfig
) -> tuple[Phase, ...]:
    """The phases of a training: at least one. Raises InputError if one of them is not possible."""
    if not phases.steps:
        return (Phase(0, 0, training.num_steps, data, training.batch_size, training.accumulation_steps),)
    require(
        sum(phases.steps) == training.num_steps,
        f"phases.steps={phases.steps} add up to {sum(phases.steps)}, not training.num_steps={training.num_steps}: give "
        'both, or --config.phases.steps="()" for one phase',
    )
    resolved = []
    for number, steps in enumerate(phases.steps):
        start = resolved[-1].stop if resolved else 0
        try:
            part = dataclasses.replace(data, **_values(phases, number, "sequence_length", "max_predictions"))
            now = dataclasses.replace(training, **_values(phases, number, "batch_size", "accumulation_steps"))
        except InputError as error:
            raise InputError(f"in phase {number + 1} of {len(phases.steps)}: {error}") from None
        resolved.append(Phase(number, start, start + steps, part, now.batch_size, now.accumulation_steps))
    splits = {(phase.shape[:2], phase.accumulation_steps) for phase in resolved}
    require(
        len(splits) == len({shape for shape, _ in splits}),
        f"phases.accumulation_steps={phases.accumulation_steps}: phases with batches of one shape need one value",
    )
    return tuple(resolved)


def _values(phases: PhasesConfig, number: int, *names: str) -> dict[str, int]:
    """What a phase replaces of these."""
    return {name: values[number] for name in names if (values := getattr(phases, name))}

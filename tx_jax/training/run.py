"""Everything that the training loop needs, built from a configuration."""

import dataclasses
import functools
import warnings
from collections.abc import Sequence
from typing import Protocol

import jax

from tx_jax import sharding
from tx_jax.config import ExperimentConfig, Phase
from tx_jax.data.loader import BatchAt, PhasedBatches
from tx_jax.errors import InputWarning
from tx_jax.evaluation.evaluate import EvalStep, Progress, evaluate, held_out, jit_eval_step, local_batches
from tx_jax.hosts import distributed
from tx_jax.hosts.stopping import StopRequest
from tx_jax.hosts.watchdog import doing, waited_for
from tx_jax.runs.checkpoint import Checkpoints
from tx_jax.runs.start import Start
from tx_jax.tasks.base import Batches, Task
from tx_jax.training.attention import attention_of
from tx_jax.training.begin import check_best_metric
from tx_jax.training.goodput import TimeSpent
from tx_jax.training.optimizer import Optimizer
from tx_jax.training.state import TrainState, abstract_state, init_state
from tx_jax.training.step import TrainStep, check_batch_sizes, jit_train_step


class Display(Protocol):
    """Shows a run to its user. The loop itself prints nothing."""

    def start(self, run: "Run", start_step: int, changes: list[str]) -> None:
        """Called before the first step; if `run.complete`, there are no steps. May set `run.progress`."""

    def pace(self, start: int, step: int, seconds: float) -> None:
        """Called once, early: the seconds that the steps start + 1 to `step` took, without compilation."""

    def train(self, step: int, values: dict[str, float]) -> None: ...

    def evaluation(self, step: int, values: dict[str, float]) -> None: ...


@dataclasses.dataclass
class Run:
    """Everything that the loop needs, built from a configuration.

    Attributes:
      fresh: for a run that starts from a model, the modules whose parameters do not come from that model.
      attention: the implementation of attention and why, see `attention_of`.
      labels: for a run whose head comes from that model or could have, what happened to its labels; else "".
      complete: whether no steps are left to train.
      progress: receives the progress of an evaluation.
      spent: what the time since this start began went to.
    """

    config: ExperimentConfig
    task: Task
    mesh: jax.sharding.Mesh
    state: TrainState
    train_batches: BatchAt
    validation_batches: Batches
    train_step: TrainStep
    eval_step: EvalStep
    fresh: tuple[str, ...] = ()
    labels: str = ""
    attention: dict[str, str] = dataclasses.field(default_factory=dict)
    complete: bool = False
    progress: Progress = lambda done, total: None
    spent: TimeSpent = dataclasses.field(default_factory=TimeSpent)

    def phase_of(self, step: int) -> Phase:
        """The phase of the optimizer step with this number, counted from 1."""
        return next(phase for phase in self.config.training_phases if step <= phase.stop)

    def tokens(self, start: int, stop: int) -> int:
        """The number of positions, including padding, in the batches of steps start + 1 to stop."""
        return sum(
            phase.tokens_per_step * max(0, min(stop, phase.stop) - max(start, phase.start))
            for phase in self.config.training_phases
        )

    def flops(self, start: int, stop: int) -> float:
        """The FLOPs of steps start + 1 to stop, by the formula, as if all parameters were trained."""
        return sum(
            self.task.objective.flops_per_token(phase)
            * phase.tokens_per_step
            * max(0, min(stop, phase.stop) - max(start, phase.start))
            for phase in self.config.training_phases
        )

    def evaluate(self, stop: StopRequest) -> dict[str, float] | None:
        """Metrics of the state on the first `training.eval_batches` held-out batches; None if a stop was requested."""
        training = self.config.training
        batches = held_out(self.validation_batches, training.eval_batches, self.progress)
        batches = waited_for(batches, training.stall_seconds)
        scores = functools.partial(self.task.scores, split="validation")
        with doing("evaluation"), self.spent.on("evaluating"):
            return evaluate(self.eval_step, self.state.params, batches, self.mesh, scores, stopping=stop.due)


def build(config: ExperimentConfig, task: Task, checkpoints: Checkpoints, start: Start | None = None) -> Run:
    """Creates the state: from the newest checkpoint, or new except for what `start` gives. Compiles nothing yet.

    Raises:
      InputError: the mesh does not fit the devices or the batches, `model.attention` cannot be used here, a split of
        the data has no examples, or `training.best_metric` is not one of the task's metrics.
    """
    mesh = sharding.make_mesh(config.mesh)
    check_batch_sizes(config, mesh)
    with jax.set_mesh(mesh):
        attention = attention_of(config)
    training = config.training
    with doing("finding the examples in the data"):  # minutes if a large store is used for the first time
        train_batches = _train_batches(config, task, mesh)
        validation_batches = local_batches(task, "validation", mesh, batch_size=training.eval_batch_size, repeat=False)
    optimizer = Optimizer(config)
    fresh: tuple[str, ...] = ()
    told = ""
    if steps := distributed.agreed(checkpoints.steps):  # verified when they were opened
        state = checkpoints.restore(steps[-1], abstract_state(task.objective, optimizer, mesh))
    else:
        state = init_state(task.objective, optimizer, config.seed, mesh)
        if start is not None:
            labels = getattr(config.data, "labels", ())
            params, fresh = start.fill(state.params, labels=labels)
            told = start.carry(labels).told
            state = state.replace(params=params)
    evaluation = jit_eval_step(task.objective, mesh)
    check_best_metric(task)
    step = jit_train_step(config, task.objective, optimizer)
    return Run(config, task, mesh, state, train_batches, validation_batches, step, evaluation, fresh, told, attention)


def _train_batches(config: ExperimentConfig, task: Task, mesh: jax.sharding.Mesh) -> BatchAt:
    """The batches of all phases. Raises InputError, before any phase begins, if one does not fit the data."""
    phases = config.training_phases
    parts = [
        local_batches(task, "train", mesh, batch_size=phase.batch_size, repeat=True, phase=phase) for phase in phases
    ]
    if distributed.is_first():
        _warn_of_large_batches(phases, parts)
    return PhasedBatches([phase.start for phase in phases], parts)


def _warn_of_large_batches(phases: Sequence[Phase], parts: Sequence[Batches]) -> None:
    for phase, part in zip(phases, parts, strict=True):
        examples = getattr(part, "num_examples", phase.batch_size)
        if phase.batch_size > examples:
            warnings.warn(
                f"training.batch_size={phase.batch_size} is more than the {examples:,} training examples: every "
                f"step goes through them {phase.batch_size / examples:.1f} times",
                InputWarning,
                stacklevel=4,
            )

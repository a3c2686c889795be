"""The configuration of the optimizer, the training loop and the device mesh."""

import dataclasses
import math
from typing import Literal

from tx_jax.config.checks import require, require_patterns
from tx_jax.errors import did_you_mean

TRACKERS = ("wandb", "trackio")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """AdamW with warmup and decay.

    Attributes:
      learning_rate: the peak, reached after `warmup_steps`.
      schedule: of the learning rate after the warmup. "inverse_sqrt" is that of Vaswani et al. 2017.
      no_decay: regular expressions over parameter paths: parameters without weight decay.
      clip_norm: gradients are clipped to this global norm; 0 = no clipping.
      final_share: the linear and cosine schedules end at this share of the peak.
      warmup_share: if not 0, `warmup_steps` is this share of all steps.
      frozen: regular expressions over parameter paths: parameters that do not train. They have no gradient, no
        optimizer state and no weight decay, and do not count in the gradient norm.
      rate_scale: rows `REGEX=FACTOR`: parameters whose path the regular expression occurs in have the learning rate
        FACTOR * `learning_rate`. The first row that matches counts; without one, `layer_decay` applies.
      layer_decay: `layer_l` of L layers, from 0, has its learning rate multiplied by layer_decay ** (L - l), embeddings
        by one factor more than layer 0, pooler and heads by 1. 1 = none. (ULMFiT, Howard & Ruder 2018, section 3.2,
        "discriminative fine-tuning", with 1 / 2.6; the exponents are those of BEiT, Bao et al. 2022, in
        unilm/beit/optim_factory.py. ELECTRA's source has one more for layers and embeddings.)
    """

    learning_rate: float
    warmup_steps: int
    schedule: Literal["linear", "cosine", "inverse_sqrt", "constant"]
    beta1: float
    beta2: float
    eps: float
    weight_decay: float
    no_decay: tuple[str, ...]
    clip_norm: float
    final_share: float = 0.0
    warmup_share: float = 0.0
    frozen: tuple[str, ...] = ()
    rate_scale: tuple[str, ...] = ()
    layer_decay: float = 1.0

    def __post_init__(self):
        for name in ("learning_rate", "eps"):
            value = getattr(self, name)
            require(0 < value < math.inf, f"optimizer.{name}={value} must be positive")
        for name in ("beta1", "beta2", "final_share", "warmup_share"):
            value = getattr(self, name)
            require(0 <= value < 1, f"optimizer.{name}={value} must be in [0, 1)")
        decay = self.weight_decay
        require(0 <= decay < math.inf, f"optimizer.weight_decay={decay} must not be negative or infinite")
        require_patterns("optimizer.no_decay", self.no_decay)
        require_patterns("optimizer.frozen", self.frozen)
        require_patterns("optimizer.rate_scale", [pattern for pattern, _ in self.rate_rows])
        require(0 < self.layer_decay <= 1, f"optimizer.layer_decay={self.layer_decay} must be in (0, 1]; 1 is none")
        require(self.warmup_steps >= 0, f"optimizer.warmup_steps={self.warmup_steps} must not be negative")
        require(self.clip_norm >= 0, f"optimizer.clip_norm={self.clip_norm} must not be negative; 0 turns clipping off")

    @property
    def rate_rows(self) -> tuple[tuple[str, float], ...]:
        """`rate_scale` as (regular expression, factor)."""
        return tuple(map(_rate_row, self.rate_scale))


def _rate_row(row: str) -> tuple[str, float]:
    pattern, _, factor = row.rpartition("=")
    try:
        value = float(factor)
    except ValueError:
        value = math.nan
    require(
        bool(pattern) and 0 < value < math.inf,
        f"optimizer.rate_scale: {row!r} must be REGEX=FACTOR with a factor above 0, such as '^pooler/=10'; parameters "
        "that are not to train at all belong in optimizer.frozen",
    )
    return pattern, value


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
    """The training loop. `batch_size` is the global batch of an optimizer step, in sequences; intervals are in steps.

    Attributes:
      stall_seconds: how long a process may wait for a batch before the run is ended; 0: forever.
      max_skipped_updates: a step whose loss or gradient is not finite changes nothing; more than this many such steps
        in a row end the run.
      num_epochs: fine-tuning: if not 0, `num_steps` is the number of steps in that many passes over the examples, and
        an `eval_every` or `checkpoint_every` of 0 means at the end of every pass.
      best_metric: a metric of held-out data; for fine-tuning also "auto", the first of `data.metrics`.
      final_eval_batches: fine-tuning only: number of batches of each split in the final evaluation, to which
        `eval_batches` does not apply; 0: all, -1: no final evaluation.
      patience: early stopping: this many evaluations in a row without a better `best_metric` end the run; 0: off.
      trackers: names in `TRACKERS`, besides metrics.jsonl and TensorBoard; see `runs/trackers.py`.
    """

    num_steps: int
    batch_size: int
    accumulation_steps: int
    log_every: int
    eval_every: int
    eval_batch_size: int
    eval_batches: int
    checkpoint_every: int
    keep_last: int
    keep_best: int
    best_metric: str
    max_skipped_updates: int = 10
    num_epochs: float = 0.0
    stall_seconds: int = 40
    patience: int = 0
    final_eval_batches: int = 0
    trackers: tuple[str, ...] = ()

    def __post_init__(self):
        for name in self.trackers:
            near = did_you_mean(name, TRACKERS)
            known = f"There are {' and '.join(TRACKERS)}." if not near else ""
            require(name in TRACKERS, f"training.trackers: no tracker is called {name!r}.{near} {known}".rstrip())
        require(len(set(self.trackers)) == len(self.trackers), f"training.trackers={self.trackers} has one twice")
        for name in ("num_steps", "batch_size", "accumulation_steps", "log_every", "eval_batch_size", "keep_last"):
            value = getattr(self, name)
            require(value >= 1, f"training.{name}={value} must be at least 1")
        for name in (
            "eval_every",
            "eval_batches",
            "checkpoint_every",
            "keep_best",
            "max_skipped_updates",
            "stall_seconds",
            "patience",
        ):
            value = getattr(self, name)
            require(value >= 0, f"training.{name}={value} must not be negative")
        last = self.final_eval_batches
        require(last >= -1, f"training.final_eval_batches={last} must be -1 (none), 0 (all) or a number of batches")
        require(
            0 <= self.num_epochs < math.inf, f"training.num_epochs={self.num_epochs} must not be negative or infinite"
        )
        for name in ("keep_best", "patience"):
            value = getattr(self, name)
            require(
                not value or bool(self.best_metric),
                f"training.{name}={value} needs training.best_metric, such as 'masked_lm_loss'",
            )
        require(
            self.batch_size % self.accumulation_steps == 0,
            f"training.batch_size={self.batch_size} is not divisible by "
            f"training.accumulation_steps={self.accumulation_steps}",
        )


# Values for the fields of TrainingConfig that decide when something runs and for how long, but not what is computed.
SCHEDULING = {
    "log_every": 1,
    "eval_every": 0,
    "eval_batches": 0,
    "checkpoint_every": 0,
    "keep_last": 1,
    "keep_best": 0,
    "best_metric": "",
    "max_skipped_updates": 0,
    "num_epochs": 0.0,
    "stall_seconds": 0,
    "patience": 0,
    "final_eval_batches": 0,
}


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Number of devices along each mesh axis; one of them may be -1: all the devices that are left.

    Attributes:
      data: splits the examples of a batch.
      fsdp: splits them too, and parameters, gradients and optimizer state.
      tensor: splits attention heads, the MLP and the vocabulary (Shoeybi et al. 2019).
      context: splits sequences along their length; keys and values are gathered one layer at a time.
    """

    data: int
    fsdp: int
    tensor: int
    context: int = 1

    def __post_init__(self):
        sizes = dataclasses.asdict(self)
        require(
            all(size == -1 or size >= 1 for size in sizes.values()),
            f"mesh axes must be -1 or at least 1, not {sizes}",
        )
        require(list(sizes.values()).count(-1) <= 1, f"at most one mesh axis may be -1, not {sizes}")

"""Checks of a configuration before a training starts; runs that already exist are not checked.

A value that does nothing is an error, because its author believes that it does something. Old run directories are read,
and runs continued, without these checks.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from tx_jax.config import skipped
from tx_jax.config.effects import Groups, groups_of, idle_keys
from tx_jax.config.experiment import ExperimentConfig
from tx_jax.config.heads import ADDED, HEADS, supervised
from tx_jax.errors import InputError


def check_start(values: Mapping[str, Any], given: Collection[str] = ()) -> None:
    """Raises InputError if something in a configuration that starts a training does nothing.

    Args:
      values: nested plain values; `model` may lack whatever the model in start_from gives.
      given: the keys that are set on the command line, such as data.mask_unit.
    """
    groups = groups_of(values)
    _refuse([*idle_keys(groups, given), *_idle_heads(groups), *_idle_losses(groups)])
    if not groups.training.num_epochs:
        check_steps(groups, given)


def check_steps(config: ExperimentConfig | Groups, given: Collection[str] = ()) -> None:
    """The same for what depends on the number of steps, which is known only from the data if it is given in epochs."""
    checks = (_long_warmup, _nothing_is_best, _too_patient, _late_batches)
    _refuse([message for check in checks for message in check(config, given)])


def _refuse(messages: list[str]) -> None:
    if messages:
        raise InputError("; ".join(messages))


def _idle_heads(groups: Groups) -> Iterator[str]:
    """Heads that no loss trains, next to one that is trained."""
    heads = tuple(groups.model.heads)
    labeled = hasattr(groups.data, "train")
    added = [head for head in ADDED if not HEADS[head].supervised]
    trained = [
        head
        for head in heads
        if head in (supervised() if labeled else ("masked_lm", "next_sentence", "causal_lm", *added))
    ]
    if groups.start_from and not labeled:
        trained += [head for head in heads if head == "pooled"]  # carried along: see `ExperimentConfig.carried`
    if trained and (idle := [head for head in heads if head not in trained]):
        left = ", ".join(map(repr, trained)) + ("," if len(trained) == 1 else "")
        yield f'model.heads={heads}: no loss trains {", ".join(idle)}: give --config.model.heads="({left})"'


def _idle_losses(groups: Groups) -> Iterator[str]:
    distillation = groups.distillation
    if distillation.layers and not (
        distillation.soft_weight or distillation.masked_lm_weight or distillation.cosine_weight
    ):
        yield (
            "distillation.soft_weight, masked_lm_weight and cosine_weight are all 0: there is no loss, and nothing "
            "would be learned"
        )


def _long_warmup(config: Groups, given: Collection[str]) -> Iterator[str]:
    optimizer, steps = config.optimizer, config.training.num_steps
    if optimizer.warmup_share:
        if round(optimizer.warmup_share * steps) >= steps:
            yield (
                f"optimizer.warmup_share={optimizer.warmup_share} of training.num_steps={steps} leaves no step after "
                "the warmup: give a smaller one, such as --config.optimizer.warmup_share=0.1"
            )
    elif optimizer.warmup_steps >= steps:
        lowered = "training.num_steps" in given and "optimizer.warmup_steps" not in given
        why = " (num_steps was given for this run, the warmup was not)" if lowered else ""
        yield (
            f"optimizer.warmup_steps={optimizer.warmup_steps} leaves no step after the warmup, as training.num_steps="
            f"{steps}{why}: give a share of all steps instead, such as --config.optimizer.warmup_share=0.1"
        )


def _nothing_is_best(config: Groups, given: Collection[str]) -> Iterator[str]:
    """The last step is always evaluated and saved, so `keep_best` needs another step that is both."""
    training = config.training
    evaluations, checkpoints, steps = training.eval_every, training.checkpoint_every, training.num_steps
    if not training.keep_best or (evaluations and checkpoints and math.lcm(evaluations, checkpoints) < steps):
        return
    if (0 < evaluations < steps) or "training.keep_best" in given:
        yield (
            f"training.keep_best={training.keep_best} does nothing because before the last of {steps} steps no "
            f"evaluation (training.eval_every={evaluations}) falls on a checkpoint (training.checkpoint_every="
            f"{checkpoints}): give --config.training.checkpoint_every={evaluations or 'N'}, or "
            "--config.training.keep_best=0"
        )


def _too_patient(config: Groups, given: Collection[str]) -> Iterator[str]:
    """The first evaluation is the best so far, so patience runs out after that many more at the earliest."""
    training = config.training
    if not training.patience or 0 < (training.patience + 1) * training.eval_every < training.num_steps:
        return
    before = (training.num_steps - 1) // training.eval_every if training.eval_every else 0
    yield (
        f"training.patience={training.patience} does nothing because training.eval_every={training.eval_every} makes "
        f"{before} evaluations before the last of {training.num_steps} steps: leave it out, or evaluate more often"
    )


def _late_batches(config: Groups, given: Collection[str]) -> Iterator[str]:
    ranges = skipped.parse(getattr(config.data, "skip_batches", ""))
    last = skipped.batch_of(config.training.num_steps, ranges)
    if late := [first for first, _ in ranges if first > last]:
        yield (
            f"data.skip_batches={config.data.skip_batches!r} does nothing from batch {late[0]} on, because training "
            f"ends with batch {last}: leave those out"
        )

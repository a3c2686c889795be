"""AdamW with warmup and decay, from an `OptimizerConfig`."""

import optax

from tx_jax import tree
from tx_jax.config import OptimizerConfig


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 over `warmup_steps`, then as `config.schedule` says, up to `num_steps`.

    Linear and cosine end at `final_share` of the peak; the inverse square root is peak * sqrt(warmup / step). The
    decay begins at the peak, where google-research/bert begins it at step 0, so that its rate after the warmup is the
    peak times (1 - warmup_steps / num_steps).
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.schedule == "constant":
        after = optax.constant_schedule(peak)
    elif config.schedule == "cosine":
        after = optax.cosine_decay_schedule(peak, max(1, num_steps - warmup), alpha=config.final_share)
    elif config.schedule == "inverse_sqrt":
        # Update number `warmup` (counted from 1) has the peak; this counts from the one after it.
        after = lambda count: peak * (max(1, warmup) / (count + max(1, warmup) + 1)) ** 0.5  # noqa: E731
    else:
        after = optax.linear_schedule(peak, peak * config.final_share, max(1, num_steps - warmup))
    # Step 0 of the warmup already moves: the first update has rate peak / warmup, update number `warmup` the peak.
    ramp = optax.linear_schedule(peak / max(1, warmup), peak, max(1, warmup - 1))
    return optax.join_schedules([ramp, after], [warmup])


def make_optimizer(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Clip by the global norm, Adam, decoupled weight decay where no `no_decay` pattern matches, learning rate.

    Adam corrects the bias of its moments, as Kingma & Ba (2015) state it; google-research/bert left that out.
    """
    clip = optax.clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.scale_by_adam(config.beta1, config.beta2, config.eps),
        optax.add_decayed_weights(config.weight_decay, lambda params: decay_mask(params, config.no_decay)),
        optax.scale_by_learning_rate(make_schedule(config, num_steps)),
    )


def decay_mask(params: dict, no_decay: tuple[str, ...]) -> dict:
    """True for the parameters that decay: those whose path no pattern matches."""
    return tree.map_with_path(lambda path, _: not tree.matches(path, no_decay), params)

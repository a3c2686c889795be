"""AdamW with warmup and decay, on the parameters that train, each at its own share of the learning rate.

Tables of (regular expression, value) over parameter paths say which parameters train, and how fast.
"""

import dataclasses
import functools
from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tx_jax import tree
from tx_jax.config import ExperimentConfig, OptimizerConfig
from tx_jax.errors import InputError
from tx_jax.models import lora
from tx_jax.tasks.distillation import TEACHER


def make_schedule(config: OptimizerConfig, num_steps: int) -> optax.Schedule:
    """Learning rate by step: linear from 0 over the warmup, then as `config.schedule` says, up to `num_steps`.

    Linear and cosine end at `final_share` of the peak; the inverse square root is peak * sqrt(warmup / step). The
    decay begins at the peak, where google-research/bert begins it at step 0, so that its rate after the warmup is the
    peak times (1 - warmup_steps / num_steps).
    """
    peak, warmup = config.learning_rate, config.warmup_steps
    if config.warmup_share:
        warmup = round(config.warmup_share * num_steps)
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


def adamw(config: OptimizerConfig, num_steps: int) -> optax.GradientTransformation:
    """Clip by the global norm, Adam, decoupled weight decay where no `no_decay` pattern matches, learning rate.

    Adam corrects the bias of its moments, as Kingma & Ba (2015) state it; google-research/bert left that out.
    """
    clip = clip_by_global_norm(config.clip_norm) if config.clip_norm else optax.identity()
    return optax.chain(
        clip,
        optax.scale_by_adam(config.beta1, config.beta2, config.eps),
        optax.add_decayed_weights(config.weight_decay, lambda params: decay_mask(params, config.no_decay)),
        optax.scale_by_learning_rate(make_schedule(config, num_steps)),
    )


def clip_by_global_norm(limit: float) -> optax.GradientTransformation:
    """Multiplies the gradients by one number, so that their norm is at most `limit` (Pascanu et al. 2013).

    Optax's divides each element and then selects, which XLA for CPUs does in a pass of its own over every array.
    """

    def update(grads: Any, state: optax.OptState, params: Any = None) -> tuple[Any, optax.OptState]:
        scale = jnp.minimum(1, limit / optax.tree.norm(grads))
        return jax.tree.map(lambda gradient: gradient * scale.astype(gradient.dtype), grads), state

    return optax.GradientTransformation(optax.clip_by_global_norm(limit).init, update)


def decay_mask(params: dict, no_decay: tuple[str, ...]) -> dict:
    """True for the parameters that decay: those whose path no pattern matches."""
    return tree.map_with_path(lambda path, _: not tree.matches(path, no_decay), params)


@dataclasses.dataclass(frozen=True)
class Optimizer:
    """The optimizer of an experiment. Frozen parameters have no gradient, optimizer state or weight decay."""

    config: ExperimentConfig

    @functools.cached_property
    def schedule(self) -> optax.Schedule:
        return make_schedule(self.config.optimizer, self.config.training.num_steps)

    @functools.cached_property
    def _adamw(self) -> optax.GradientTransformation:
        return adamw(self.config.optimizer, self.config.training.num_steps)

    def rates(self, params: dict[str, Any]) -> dict[str, float]:
        """Each trained parameter's share of the learning rate, by path; frozen ones are left out."""
        trains, rates = trains_table(self.config), rate_table(self.config)
        return {path: tree.lookup(path, rates) for path in tree.flatten(params) if tree.lookup(path, trains)}

    def split(self, params: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """The parameters that train, and those that are frozen; `tree.join` reverses it."""
        return tree.split(params, self.rates(params))

    def init(self, params: dict[str, Any]) -> optax.OptState:
        """The optimizer state, given all parameters.

        Raises:
          InputError: a pattern of the configuration matches no parameter, or nothing trains.
        """
        _check(self.config, tree.flatten(params).keys(), self.rates(params).keys())
        return self._adamw.init(self.split(params)[0])

    def update(self, grads: Any, state: optax.OptState, params: Any) -> tuple[Any, optax.OptState]:
        """The updates to add to the parameters, and the next state; only for those that train, see `split`."""
        updates, state = self._adamw.update(grads, state, params)
        rates = self.rates(params)

        def scale(path: str, update: jax.Array) -> jax.Array:
            return update if rates[path] == 1 else update * rates[path]

        return tree.map_with_path(scale, updates), state


def trains_table(config: ExperimentConfig) -> list[tuple[str, bool]]:
    """Parameter path -> does it train? The first row that matches counts."""
    frozen = (*config.optimizer.frozen, *config.carried, *([f"^{TEACHER}/"] if config.distillation.layers else []))
    rows = [(pattern, False) for pattern in frozen]
    if config.lora.rank:
        rows += [(pattern, True) for pattern in (f"^{lora.MODULE}/", *config.lora.whole)]
    return [*rows, ("", not config.lora.rank)]


def rate_table(config: ExperimentConfig) -> list[tuple[str, float]]:
    """Parameter path -> share of the learning rate. The first row that matches counts."""
    model, decay = config.model, config.optimizer.layer_decay
    depths = {"encoder": model.num_layers, "decoder": model.num_decoder_layers or model.num_layers}
    rows = list(config.optimizer.rate_rows)
    for stack, depth in depths.items():
        rows += [(f"(^|/){stack}/layer_{layer}/", decay ** (depth - layer)) for layer in range(depth)]
    # DeBERTa's convolution adds to layer 0; its positions are embeddings, wherever they lie.
    rows += [("(^|/)encoder/convolution/", decay**model.num_layers)]
    rows += [("(^|/)(embeddings|mask_decoder_position|encoder/relative)/", decay ** (max(depths.values()) + 1))]
    return [*rows, ("", 1.0)]


def _check(config: ExperimentConfig, paths: Collection[str], trained: Collection[str]) -> None:
    """Raises InputError if a pattern matches nothing, or nothing trains."""
    tree.require_matches("optimizer.frozen", config.optimizer.frozen, paths)
    if not trained:
        raise InputError(f"optimizer.frozen={config.optimizer.frozen} freezes every parameter: nothing would train")
    if config.lora.rank:
        tree.require_matches("lora.also_train", config.lora.also_train, paths)
    rows = [pattern for pattern, _ in config.optimizer.rate_rows]
    tree.require_matches("optimizer.rate_scale", rows, trained, "parameter that trains")

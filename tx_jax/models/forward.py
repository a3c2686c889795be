"""A model with its adapters, if it has any: initial parameters, their shapes, and the forward pass.

All code that trains or runs a model uses these functions; the modules themselves are independent of adapters.
"""

import contextlib
import functools
from typing import Any

import flax.linen as nn
import jax

from tx_jax import tree
from tx_jax.config import LoraConfig, TransformerConfig
from tx_jax.models import lora, registry
from tx_jax.models.output import Output


def init_params(model: TransformerConfig, config: LoraConfig, rng: jax.Array) -> dict[str, Any]:
    """Initial parameters, including adapters if LoRA is on. Initially the adapters do not change the model.

    Raises:
      InputError: a LoRA target matches no kernel, or the LoRA rank exceeds a kernel's.
    """
    params = registry.init_params(model, rng)
    return params | ({lora.MODULE: lora.init_adapters(params, config, rng)} if config.rank else {})


def param_shapes(model: TransformerConfig, config: LoraConfig) -> dict[str, Any]:
    """The shapes and dtypes of the parameters, including adapters, computed without allocating them."""
    shapes = registry.param_shapes(model)
    if config.rank:
        adapters = jax.eval_shape(functools.partial(lora.init_adapters, config=config), shapes, rng=jax.random.key(0))
        shapes[lora.MODULE] = adapters
    return shapes


def merged_params(params: dict[str, Any], config: LoraConfig) -> dict[str, Any]:
    """The parameters of the model itself, with the adapters, if it has any, added to their kernels."""
    return lora.merged(params, config)


def forward(
    model: TransformerConfig,
    config: LoraConfig,
    params: dict[str, Any],
    *args: Any,
    dropout_rng: jax.Array | None,
    **kwargs: Any,
) -> Output:
    """Applies the model to its inputs; without `dropout_rng` there is no dropout.

    Args:
      args, kwargs: the model's arguments.
    """
    beside = contextlib.nullcontext()
    if lora.MODULE in params and config.dropout and dropout_rng is not None:
        beside = nn.intercept_methods(lora.beside(tree.flatten(params[lora.MODULE]), config))
        params = {module: values for module, values in params.items() if module != lora.MODULE}
    with beside:
        return registry.build(model).apply(
            {"params": lora.merged(params, config)},
            *args,
            **kwargs,
            deterministic=dropout_rng is None,
            rngs=None if dropout_rng is None else {"dropout": dropout_rng},
        )

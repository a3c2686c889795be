"""Low-rank adapters (LoRA, Hu et al. 2021) for the parameters of any model.

The kernel W at PATH gets `lora/PATH/a` [inputs, rank] and `lora/PATH/b` [rank, outputs], and the model is applied to
W + (alpha / rank) a b instead of W, so modules are independent of adapters. Our a and b are the paper's A and B,
transposed like our kernels. With dropout on an adapter's input the product cannot be merged: such training runs compute
the adapters in parallel to their kernels.
"""

import zlib
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tx_jax import sharding, tree
from tx_jax.config import LoraConfig
from tx_jax.errors import InputError
from tx_jax.nn.dense import Dense
from tx_jax.nn.dropout import dropout

MODULE = "lora"


def init_adapters(params: dict[str, Any], config: LoraConfig, rng: jax.Array) -> dict[str, Any]:
    """Initial adapters for the kernels among these parameters that `config` names. Initially they add nothing.

    Raises:
      InputError: a target matches no kernel, or the rank exceeds a kernel's.
    """
    adapters = {}
    for path, (inputs, outputs) in target_shapes(params, config).items():
        key = jax.random.fold_in(rng, zlib.crc32(path.encode()))
        # Gaussian, as in the paper (section 4.1), which leaves the deviation open: this one makes x a as large as x.
        adapters[f"{path}/a"] = jax.random.normal(key, (inputs, config.rank)) * inputs**-0.5
        adapters[f"{path}/b"] = jnp.zeros((config.rank, outputs))
    return tree.nest(adapters)


def merged(params: dict[str, Any], config: LoraConfig) -> dict[str, Any]:
    """The model's parameters, with each adapter added to its kernel. Without adapters, the parameters do not change."""
    if MODULE not in params:
        return params
    adapters = tree.flatten(params[MODULE])
    plain = tree.flatten({module: values for module, values in params.items() if module != MODULE})
    for path in plain:
        if f"{path}/a" in adapters:
            # In full precision on any device: cheap compared to the model, and training and export see the same kernel.
            product = jnp.matmul(adapters[f"{path}/a"], adapters[f"{path}/b"], precision="highest")
            plain[path] = plain[path] + config.alpha / config.rank * product
    return tree.nest(plain)


def beside(adapters: dict[str, jax.Array], config: LoraConfig) -> Callable[..., Any]:
    """Adds each adapter's output, computed from the same input after dropout, to its dense layer's output."""

    def add(call: Callable[..., Any], args: tuple[Any, ...], kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        y, layer = call(*args, **kwargs), context.module
        path = (*layer.path, "kernel")
        if not isinstance(layer, Dense) or context.method_name != "__call__" or "/".join((*path, "a")) not in adapters:
            return y
        x = dropout(args[0].astype(y.dtype), config.dropout, layer.make_rng("dropout"))
        rows = sharding.flatten_rows(x)
        for part in "ab":
            factor = adapters["/".join((*path, part))].astype(y.dtype)
            rows = rows @ sharding.gather_param(factor, (MODULE, *path, part))
        return y + config.alpha / config.rank * sharding.unflatten_rows(rows, x.shape[:-1])

    return add


def target_shapes(params: dict[str, Any], config: LoraConfig) -> dict[str, tuple[int, int]]:
    """The shape of each kernel that gets an adapter, by path.

    Raises:
      InputError: as for `init_params`.
    """
    leaves = tree.flatten(params)
    kernels = {
        path: x.shape
        for path, x in leaves.items()
        if path.endswith("/kernel") and x.ndim == 2 and not tree.matches(path, config.whole)
    }
    for pattern in config.targets:
        others = [path for path in leaves if tree.matches(path, [pattern])]
        if others and not any(tree.matches(path, [pattern]) for path in kernels):
            raise InputError(
                f"lora.targets: {pattern!r} matches {', '.join(others[:3])}, but no kernel to adapt: one of a dense "
                "layer that does not train in full"
            )
    tree.require_matches("lora.targets", config.targets, kernels, "kernel")
    found = {path: shape for path, shape in kernels.items() if tree.matches(path, config.targets)}
    for path, shape in found.items():
        if config.rank > min(shape):
            raise InputError(f"lora.rank={config.rank} exceeds the rank of {path}, whose shape is {shape}")
    return found

"""The activations that can be read and written, by names that look like parameter paths.

    encoder/input                               [T, D]     what the first layer reads: the embeddings
    encoder/layer_3/output                      [T, D]     the residual stream after a layer
    encoder/output                              [T, D]     what the heads read: with pre-LN after the closing norm
    encoder/layer_3/attention/query, key        [T, H, K]  as they are multiplied: rotated, where the model rotates them
    encoder/layer_3/attention/value             [T, H, K]
    encoder/layer_3/attention/probabilities     [H, T, S]  float32, before dropout; each row sums to one
    encoder/layer_3/attention/heads             [T, H, K]  what each head has read, before the output projection
    encoder/layer_3/attention/output            [T, D]     what attention adds to the residual stream
    encoder/layer_3/mlp/activations             [T, F]     the MLP's neurons, after activation and gate
    encoder/layer_3/mlp/output                  [T, D]     what the MLP adds
    embeddings/token                            [T, E]     rows of the token table

A decoder has the same names below `decoder/`; that of an encoder-decoder has `cross_attention` besides, whose keys,
values and probabilities are of the source.

Shapes: T tokens (queries), S keys, D model, H heads, K head dim, F MLP, E width of the token table.
"""

import dataclasses
import re
from collections.abc import Sequence

from tx_jax import tree
from tx_jax.config import TransformerConfig
from tx_jax.errors import InputError

# Axes of what is inside a layer. Of cross-attention, keys and values are as long as the source.
_ATTENTION = {"query": "THK", "key": "SHK", "value": "SHK", "probabilities": "HTS", "heads": "THK", "output": "TD"}
_MLP = {"activations": "TF", "output": "TD"}
# Nothing downstream can be computed from these alone: patch `heads` instead.
READ_ONLY = ("query", "key", "probabilities")


@dataclasses.dataclass(frozen=True)
class Site:
    """
    Attributes:
      name: as in the table above.
      axes: one letter each, without that of the batch.
      lengths: the key of the batch whose length each of the axes T and S has: "tokens" or "target_tokens".
    """

    name: str
    axes: str
    lengths: tuple[tuple[str, str], ...]

    @property
    def writable(self) -> bool:
        return self.name.rpartition("/")[2] not in READ_ONLY


def stacks(config: TransformerConfig) -> dict[str, int]:
    """The number of layers of each stack, by its name."""
    if config.architecture == "encoder_decoder":
        return {"encoder": config.num_layers, "decoder": config.num_decoder_layers}
    return {config.architecture: config.num_layers}


def only_stack(config: TransformerConfig) -> str:
    """The stack of a model that has one. Raises InputError for an encoder-decoder."""
    if config.architecture == "encoder_decoder":
        raise InputError("an encoder-decoder has two stacks of layers, and this works on models with one")
    return config.architecture


def of(config: TransformerConfig) -> dict[str, Site]:
    """All sites of a model, by name, in the order in which they are computed."""
    found = []
    if config.architecture != "encoder_decoder":  # whose two sides read the same table
        found.append(_site("embeddings/token", "TE", "tokens", "tokens"))
    for stack, layers in stacks(config).items():
        own = "target_tokens" if len(stacks(config)) == 2 and stack == "decoder" else "tokens"
        found.append(_site(f"{stack}/input", "TD", own, own))
        for i in range(layers):
            layer = f"{stack}/layer_{i}"
            found += [_site(f"{layer}/attention/{part}", axes, own, own) for part, axes in _ATTENTION.items()]
            if own == "target_tokens":
                cross = f"{layer}/cross_attention"
                found += [_site(f"{cross}/{part}", axes, own, "tokens") for part, axes in _ATTENTION.items()]
            found += [_site(f"{layer}/mlp/{part}", axes, own, own) for part, axes in _MLP.items()]
            found.append(_site(f"{layer}/output", "TD", own, own))
        found.append(_site(f"{stack}/output", "TD", own, own))
    return {site.name: site for site in found}


def _site(name: str, axes: str, queries: str, keys: str) -> Site:
    return Site(name, axes, (("T", queries), ("S", keys)))


def matching(config: TransformerConfig, patterns: Sequence[str]) -> tuple[str, ...]:
    """The names in which one of the regular expressions occurs, in their order.

    Raises:
      InputError: an expression occurs in no name; the message names the layers that there are.
    """
    names = of(config)
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            raise InputError(f"{pattern!r} is no regular expression: {error}") from None
        if not any(tree.matches(name, [pattern]) for name in names):
            layers = ", ".join(f"{stack}/layer_0 to layer_{count - 1}" for stack, count in stacks(config).items())
            raise InputError(f"{pattern!r} matches no activation: the model has {layers}, each with {_parts(config)}")
    return tuple(name for name in names if tree.matches(name, patterns))


def _parts(config: TransformerConfig) -> str:
    names = (re.search(r"/layer_\d+/(.+)", name) for name in of(config))
    return ", ".join(dict.fromkeys(name[1] for name in names if name))


def hidden(config: TransformerConfig, stack: str) -> tuple[str, ...]:
    """The sites of the hidden states as `transformers` counts them: the embeddings, then each layer's output, the last
    with the closing norm if the model has one."""
    layers = stacks(config)[stack]
    return (f"{stack}/input", *(f"{stack}/layer_{i}/output" for i in range(layers - 1)), f"{stack}/output")


def require_layers(config: TransformerConfig, stack: str, layers: Sequence[int]) -> None:
    """Raises InputError for a layer that does not exist."""
    count = stacks(config)[stack]
    if wrong := [layer for layer in layers if not 0 <= layer < count]:
        raise InputError(f"there is no layer {wrong[0]}: the {stack} has layers 0 to {count - 1}")


def require_heads(config: TransformerConfig, heads: Sequence[int]) -> None:
    """Raises InputError for a head of attention that does not exist."""
    if wrong := [head for head in heads if not 0 <= head < config.num_heads]:
        raise InputError(f"there is no head {wrong[0]}: each layer has heads 0 to {config.num_heads - 1}")
